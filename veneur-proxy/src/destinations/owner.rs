//! The task that owns a ring: it follows discovery and the senders; everybody else reads snapshots.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use shared::{discovery::Snapshot, hashing::consistent::ConsistentRing, lifecycle::Tasks};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    members::{Member, Members},
    placing::Shared,
};
use crate::{
    config::RingNames,
    forward::{
        Protocol,
        parcel::{Account, Parcel},
        sender,
    },
    observe::{Change, Event, Observer},
};

/// Reports of senders that may wait; senders wait when it is full.
const WAITING_REPORTS: usize = 64;
/// How often somebody who waits looks whether that still makes sense.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// When a member joins the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joining {
    /// As soon as it is known: legacy and dual.
    AtOnce,
    /// While it is connected: stream.
    WhenConnected,
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

/// Starts the task; returns what is told when the first attempts to reach static members are over.
pub(super) fn start(
    tasks: &Tasks,
    shared: &Arc<Shared>,
    addresses: Vec<String>,
    snapshots: Option<watch::Receiver<Snapshot>>,
    protocol: Protocol,
    joining: Joining,
) -> Vec<oneshot::Receiver<()>> {
    let (reports, reported) = mpsc::channel(WAITING_REPORTS);
    let mut owner = Owner {
        home: Home {
            shared: Arc::clone(shared),
            reports,
        },
        ring: ConsistentRing::default(),
        known: BTreeMap::new(),
        addresses,
        protocol,
        joining,
        first: Vec::new(),
    };
    owner.meet(snapshots.as_ref());
    let first = std::mem::take(&mut owner.first);
    let stop = tasks.stop_token();
    tasks.spawn("ring", async move {
        let _stopped = stop
            .run_until_cancelled(owner.run(reported, snapshots))
            .await;
    });
    first
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
        self.home.shared.meet(&member);
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
