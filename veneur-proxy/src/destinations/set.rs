//! A set of destinations: one task owns the ring and its members, everybody else reads snapshots.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use shared::{discovery::Snapshot, hashing::consistent::ConsistentRing, lifecycle::Tasks};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    StartError, Status, all,
    members::{Member, Members},
    sources::Found,
};
use crate::{
    config::{Config, RingNames, outbound::OnFull},
    forward::{
        Batch, Protocol,
        parcel::{Account, Parcel},
        queue::{Limits, Overflow, Rejected},
        sender::{self, Settings},
    },
    observe::{Change, Event, Loss, Observer},
    route::IgnoreTags,
};

/// Reports of senders that may wait; senders wait when it is full.
const WAITING_REPORTS: usize = 64;
/// How often somebody who waits for room looks whether that still makes sense.
const LOOK: Duration = Duration::from_millis(100);
/// How often metrics are placed anew that found their destination gone.
const PLACINGS: usize = 4;

/// When a member joins the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joining {
    /// As soon as it is known: legacy and dual.
    AtOnce,
    /// While it is connected: stream.
    WhenConnected,
}

/// What all sets of a process share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) observer: Arc<dyn Observer>,
    overflow: Arc<Overflow>,
    limits: Limits,
    on_full: OnFull,
    ring_names: RingNames,
    ignored: Arc<IgnoreTags>,
    pub(super) settings: Arc<Settings>,
    senders: Tasks,
    abort: CancellationToken,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(super) fn new(
        config: &Config,
        observer: Arc<dyn Observer>,
        senders: Tasks,
        abort: CancellationToken,
    ) -> Result<Self, StartError> {
        Ok(Self {
            observer,
            overflow: Arc::new(Overflow::new(config.outbound.overflow_bytes)),
            limits: Limits {
                metrics: config.send_buffer,
                bytes: config.outbound.send_buffer_bytes,
            },
            on_full: config.outbound.on_full,
            ring_names: config.ring_names,
            ignored: Arc::new(config.ignore_tags.clone()),
            settings: Arc::new(Settings::new(config)?),
            senders,
            abort,
        })
    }
}

/// A set of destinations.
#[derive(Debug)]
pub(super) struct Set {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    context: Context,
    /// What is in the ring.
    current: ArcSwap<Members>,
    /// Everyone who is known or still being emptied.
    everyone: Mutex<Vec<Weak<Member>>>,
}

/// What a sender tells the owner of the ring.
struct Report {
    member: Arc<Member>,
    connected: bool,
    /// Told when the ring has followed.
    done: oneshot::Sender<Placement>,
}

/// Where the metrics of a member are placed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Here: it is in the ring, or nobody is.
    Here,
    /// With others.
    Elsewhere,
}

/// A sender's way to its set.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    shared: Arc<Shared>,
    reports: mpsc::Sender<Report>,
}

impl Home {
    pub(crate) fn observer(&self) -> &dyn Observer {
        &*self.shared.context.observer
    }

    /// Says that a member is connected or not; returns, once the ring has followed, where its metrics go.
    pub(crate) async fn report(&self, member: &Arc<Member>, connected: bool) -> Placement {
        member.set_connected(connected);
        let (done, told) = oneshot::channel();
        let report = Report {
            member: Arc::clone(member),
            connected,
            done,
        };
        // Without an owner, at the end of the process, the ring stays as it is.
        if self.reports.send(report).await.is_err() {
            return Placement::Here;
        }
        told.await.unwrap_or(Placement::Here)
    }

    /// Places metrics anew that their destination will not get.
    pub(crate) async fn place_anew(&self, parcels: Vec<Parcel>) {
        self.shared.place_anew(parcels).await;
    }

    /// Cancelled when what is under way is to be given up.
    pub(crate) fn abort(&self) -> &CancellationToken {
        &self.shared.context.abort
    }
}

impl Set {
    /// A set without anybody, for a configuration without destinations.
    pub(super) fn nowhere(context: &Context) -> Self {
        Self {
            shared: Shared::new(context),
        }
    }

    /// Starts the task that owns the ring; waits for the first answer of every static member where that matters.
    pub(super) async fn start(
        tasks: &Tasks,
        context: &Context,
        addresses: Vec<String>,
        found: Option<Found>,
        protocol: Protocol,
        joining: Joining,
    ) -> Result<Self, StartError> {
        let shared = Shared::new(context);
        let (reports, reported) = mpsc::channel(WAITING_REPORTS);
        let mut owner = Owner {
            home: Home {
                shared: Arc::clone(&shared),
                reports,
            },
            ring: ConsistentRing::default(),
            known: BTreeMap::new(),
            addresses,
            protocol,
            joining,
            first: Vec::new(),
        };
        let snapshots = found.map(|found| found.watch());
        owner.meet(snapshots.as_ref());
        let first = std::mem::take(&mut owner.first);
        let stop = tasks.stop_token();
        tasks.spawn("ring", async move {
            let _stopped = stop
                .run_until_cancelled(owner.run(reported, snapshots))
                .await;
        });
        if joining == Joining::WhenConnected {
            let limit = context.settings.dial_timeout + LOOK;
            all(first.into_iter().map(|attempt| async move {
                // Whether it went well shows in the ring.
                let _tried = timeout(limit, attempt).await;
            }))
            .await;
        }
        Ok(Self { shared })
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        &*self.shared.context.observer
    }

    pub(super) fn members(&self) -> Arc<Members> {
        self.shared.current.load_full()
    }

    pub(super) async fn accept(&self, batch: Batch) {
        let Context {
            observer, settings, ..
        } = &self.shared.context;
        let parcels = batch.into_parcels(&**observer, settings.forward_timeout);
        let closed = self.shared.enqueue(parcels).await;
        self.shared.place_anew(closed).await;
    }

    pub(super) fn connected(&self) -> usize {
        let members = self.shared.current.load();
        let connected = members
            .members
            .iter()
            .filter(|member| member.is_connected() || member.framing() == Protocol::Http);
        connected.count()
    }

    pub(super) fn status(&self) -> Vec<Status> {
        let current = self.members();
        let shares = current.shares();
        let everyone = self.shared.everyone();
        let status = everyone.iter().map(|member| {
            let place = current
                .members
                .iter()
                .position(|other| Arc::ptr_eq(other, member));
            let (queued_metrics, queued_bytes) = member.queue.level();
            let (buffer_latency, send_latency) = member.latencies();
            Status {
                name: member.name().to_owned(),
                protocol: member.framing(),
                connected: member.is_connected(),
                share: place.map_or(0.0, |place| shares[place]),
                queued_metrics,
                queued_bytes,
                buffer_latency,
                send_latency,
            }
        });
        status.collect()
    }

    /// Takes nothing any more; senders end when their queues are empty.
    pub(super) fn close(&self) {
        for member in self.shared.everyone() {
            member.queue.close();
        }
    }

    /// Gives up what is queued.
    pub(super) fn lose_rest(&self, reason: Loss) {
        for member in self.shared.everyone() {
            for parcel in member.queue.take_all() {
                parcel.lost(reason, None);
            }
        }
    }
}

impl Shared {
    fn new(context: &Context) -> Arc<Self> {
        Arc::new(Self {
            context: context.clone(),
            current: ArcSwap::default(),
            everyone: Mutex::default(),
        })
    }

    fn everyone(&self) -> Vec<Arc<Member>> {
        let everyone = self.lock();
        everyone.iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Member>>> {
        // A list is whole between any two changes.
        self.everyone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues parcels; returns those whose queue is closed.
    async fn enqueue(&self, parcels: impl Iterator<Item = (Arc<Member>, Parcel)>) -> Vec<Parcel> {
        let (mut waiting, mut closed) = (Vec::new(), Vec::new());
        for (member, parcel) in parcels {
            match member.queue.push(parcel) {
                Ok(queued) => member.saw(queued),
                Err(Rejected::Closed(parcel)) => closed.push(parcel),
                Err(Rejected::Full(parcel)) => {
                    self.context.observer.event(&Event::Full {
                        destination: member.name(),
                        metrics: parcel.metrics,
                    });
                    if self.context.on_full == OnFull::Drop || self.in_trouble(&member) {
                        parcel.lost(Loss::Full, None);
                    } else {
                        waiting.push((member, parcel));
                    }
                }
            }
        }
        if !waiting.is_empty() {
            let late = Mutex::new(&mut closed);
            all(waiting.into_iter().map(|(member, parcel)| async {
                if let Some(parcel) = self.wait_for_room(member, parcel).await {
                    late.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(parcel);
                }
            }))
            .await;
        }
        closed
    }

    /// Queues a parcel as soon as there is room; returns it if the queue was closed.
    async fn wait_for_room(&self, member: Arc<Member>, mut parcel: Parcel) -> Option<Parcel> {
        loop {
            // Asked for before looking, so that no room that comes about in between is missed.
            let emptied = member.queue.emptied();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            match member.queue.push(parcel) {
                Ok(queued) => {
                    member.saw(queued);
                    return None;
                }
                Err(Rejected::Closed(parcel)) => return Some(parcel),
                Err(Rejected::Full(back)) => parcel = back,
            }
            let now = Instant::now();
            if parcel.is_late(now) {
                parcel.lost(Loss::Timeout, None);
                return None;
            }
            if self.in_trouble(&member) {
                parcel.lost(Loss::Full, None);
                return None;
            }
            let look = now + LOOK;
            let look = parcel.deadline.map_or(look, |deadline| deadline.min(look));
            // Either way it is looked again.
            let _elapsed = timeout_until(look, emptied).await;
        }
    }

    fn in_trouble(&self, member: &Member) -> bool {
        member.in_trouble(self.context.settings.stall_timeout)
    }

    async fn place_anew(&self, parcels: Vec<Parcel>) {
        let mut homeless = parcels;
        for _ in 0..PLACINGS {
            if homeless.is_empty() {
                return;
            }
            let members = self.current.load_full();
            let mut closed = Vec::new();
            for parcel in homeless {
                let deadline = parcel.deadline;
                let batch = Batch::of(
                    parcel,
                    Arc::clone(&members),
                    Arc::clone(&self.context.ignored),
                );
                let parcels = batch.into_parcels_until(&*self.context.observer, deadline);
                closed.extend(self.enqueue(parcels).await);
            }
            homeless = closed;
        }
        for parcel in homeless {
            parcel.lost(Loss::NoDestination, None);
        }
    }
}

/// Waits until `moment` at most; returns whether it came about.
async fn timeout_until(moment: Instant, wait: impl Future<Output = ()>) -> bool {
    tokio::select! {
        () = wait => true,
        () = sleep_until(moment.into()) => false,
    }
}

/// The one owner of a ring.
struct Owner {
    home: Home,
    ring: ConsistentRing,
    known: BTreeMap<String, Arc<Member>>,
    addresses: Vec<String>,
    protocol: Protocol,
    joining: Joining,
    /// The first attempts of members that were met last.
    first: Vec<oneshot::Receiver<()>>,
}

impl Owner {
    async fn run(
        mut self,
        mut reports: mpsc::Receiver<Report>,
        mut snapshots: Option<watch::Receiver<Snapshot>>,
    ) {
        loop {
            tokio::select! {
                report = reports.recv() => match report {
                    Some(report) => self.follow(report),
                    None => return,
                },
                changed = changed(&mut snapshots) => {
                    if !changed {
                        // Discovery has ended, and the process will.
                        snapshots = None;
                    }
                    self.meet(snapshots.as_ref());
                    self.first.clear();
                }
            }
        }
    }

    /// Takes up who is there now, and lets go of who is not.
    fn meet(&mut self, snapshots: Option<&watch::Receiver<Snapshot>>) {
        let mut wanted = self.addresses.clone();
        if let Some(snapshots) = snapshots {
            let snapshot = snapshots.borrow();
            wanted.extend(snapshot.addresses().map(|address| self.ring_name(address)));
        } else if wanted.is_empty() {
            return;
        }
        let gone: Vec<String> = self
            .known
            .keys()
            .filter(|name| !wanted.contains(name))
            .cloned()
            .collect();
        for name in &gone {
            if self.ring.members().contains(name) {
                self.ring.remove(name);
            }
        }
        for name in &wanted {
            if !self.known.contains_key(name) {
                let member = self.admit(name);
                self.known.insert(name.clone(), member);
                if self.joining == Joining::AtOnce {
                    self.ring.add(name);
                }
            }
        }
        let leaving: Vec<Arc<Member>> = gone
            .iter()
            .filter_map(|name| self.known.remove(name))
            .collect();
        self.publish();
        // Only now: what is placed from here on goes elsewhere.
        for member in leaving {
            self.tell(member.name(), Change::Left);
            self.see_off(member);
        }
    }

    fn admit(&mut self, name: &str) -> Arc<Member> {
        let context = &self.home.shared.context;
        let account = Account {
            destination: name.into(),
            observer: Arc::clone(&context.observer),
        };
        let member = Arc::new(Member::new(
            account,
            self.protocol,
            context.limits,
            Arc::clone(&context.overflow),
        ));
        let mut everyone = self.home.shared.lock();
        everyone.retain(|member| member.strong_count() > 0);
        everyone.push(Arc::downgrade(&member));
        drop(everyone);
        self.tell(name, Change::Joined);
        let (tried, first) = oneshot::channel();
        self.first.push(first);
        sender::start(
            &context.senders,
            Arc::clone(&member),
            self.home.clone(),
            Arc::clone(&context.settings),
            tried,
        );
        member
    }

    /// Gives a member that has left the time to take what is queued for it; the rest is placed anew.
    fn see_off(&self, member: Arc<Member>) {
        let home = self.home.clone();
        let context = &home.shared.context;
        let limit = context.settings.leave_timeout;
        context
            .senders
            .clone()
            .spawn("leaving destination", async move {
                let emptied = async {
                    while !member.queue.is_empty() && !member.is_failing() {
                        sleep(LOOK).await;
                    }
                };
                let aborted = home
                    .abort()
                    .run_until_cancelled(timeout(limit, emptied))
                    .await;
                member.queue.close();
                if aborted.is_some() {
                    home.place_anew(member.queue.take_all()).await;
                }
            });
    }

    fn follow(&mut self, report: Report) {
        let Report {
            member,
            connected,
            done,
        } = report;
        let current = self
            .known
            .get(member.name())
            .is_some_and(|known| Arc::ptr_eq(known, &member));
        if current && self.joining == Joining::WhenConnected {
            let name = member.name();
            match (
                connected,
                self.ring.members().iter().any(|known| known == name),
            ) {
                (true, false) => self.ring.add(name),
                (false, true) => self.ring.remove(name),
                _ => {}
            }
            self.publish();
        }
        // The sender may have been stopped meanwhile.
        let members = self.ring.members();
        let placement = if members.is_empty() || members.iter().any(|name| name == member.name()) {
            Placement::Here
        } else {
            Placement::Elsewhere
        };
        let _told = done.send(placement).is_ok();
    }

    fn publish(&self) {
        let members = self.ring.members().iter();
        let members = members.map(|name| Arc::clone(&self.known[name])).collect();
        let members = Members::new(self.ring.clone(), members);
        self.home.shared.current.store(Arc::new(members));
    }

    fn tell(&self, destination: &str, change: Change) {
        let event = Event::Membership {
            destination,
            change,
        };
        self.home.observer().event(&event);
    }

    fn ring_name(&self, address: &str) -> String {
        match self.home.shared.context.ring_names {
            RingNames::Url if !address.contains("://") => format!("http://{address}"),
            RingNames::Url | RingNames::HostPort => address.to_owned(),
        }
    }
}

/// Waits for the next change; false when there will be none.
async fn changed(snapshots: &mut Option<watch::Receiver<Snapshot>>) -> bool {
    match snapshots {
        Some(snapshots) => snapshots.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}
