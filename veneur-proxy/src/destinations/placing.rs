//! From a batch to the queues of a set, and what happens when one of them is full or closed.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use parking_lot::Mutex;

use arc_swap::ArcSwap;
use tokio::time::sleep_until;

use super::{
    all,
    members::{Member, Members},
    owner::LOOK,
    set::Context,
};
use crate::{
    config::outbound::OnFull,
    forward::{Batch, parcel::Parcel, queue::Rejected},
    observe::{Event, Loss},
};

/// How often metrics are placed anew that found their destination gone.
const PLACINGS: usize = 4;

/// What the handles on a set, its owner and its senders share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) context: Context,
    /// What is in the ring.
    pub(super) current: ArcSwap<Members>,
    /// Everyone who is known or still being emptied.
    everyone: Mutex<Vec<Weak<Member>>>,
}

impl Shared {
    pub(super) fn new(context: &Context) -> Arc<Self> {
        Arc::new(Self {
            context: context.clone(),
            current: ArcSwap::default(),
            everyone: Mutex::default(),
        })
    }

    /// Keeps sight of a member for as long as anybody holds it.
    pub(super) fn meet(&self, member: &Arc<Member>) {
        let mut everyone = self.everyone.lock();
        everyone.retain(|member| member.strong_count() > 0);
        everyone.push(Arc::downgrade(member));
    }

    /// Returns everyone who is known or still being emptied.
    pub(super) fn everyone(&self) -> Vec<Arc<Member>> {
        let everyone = self.everyone.lock();
        everyone.iter().filter_map(Weak::upgrade).collect()
    }

    /// Queues parcels; returns those whose queue is closed.
    pub(super) async fn enqueue(
        &self,
        parcels: impl Iterator<Item = (Arc<Member>, Parcel)>,
    ) -> Vec<Parcel> {
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
                    late.lock().push(parcel);
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

    /// Places metrics again, by the ring as it is now.
    pub(super) async fn place_anew(&self, parcels: Vec<Parcel>) {
        let mut homeless = parcels;
        for _ in 0..PLACINGS {
            if homeless.is_empty() {
                return;
            }
            let members = self.current.load_full();
            let mut closed = Vec::new();
            for parcel in homeless {
                let deadline = parcel.deadline;
                let Context {
                    ignored, settings, ..
                } = &self.context;
                let (members, ignored) = (Arc::clone(&members), Arc::clone(ignored));
                let packer = Arc::clone(&settings.packer);
                // A body may be ten times as large when it is unpacked.
                let text = parcel.data.len() * 10;
                let place = move || {
                    let mut batch = Batch::of(parcel, members, ignored, packer);
                    batch.pack();
                    batch
                };
                // The process ends if there is none, and what was to be placed counts as lost.
                let Some(batch) = settings.packer.work(text, place).await else {
                    continue;
                };
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
