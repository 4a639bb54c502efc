//! The data path: from packet to node, in one thread, without locks and without allocating per line.
//!
//! Each input thread owns a relay. It reads packets in bursts: [`Relay::begin`] picks up a new routing snapshot if there
//! is one, [`Relay::datagram`] or [`Relay::lines`] takes packets, [`Relay::flush`] lets everything leave and publishes the
//! counts. Lines of one name from one sender stay in order, because one sender is read by one thread and one name has one
//! lane.

use std::{mem, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Cache};
use memchr::memchr_iter;
use shared::logging::Throttle;
use tracing::warn;

use crate::{
    counters::{DropReason, Tally, Totals},
    line::Piece,
    output::{Lane, Pushed},
    routing::Routing,
};

/// The routing snapshot that all relays follow.
pub type SharedRouting = Arc<ArcSwap<Routing>>;

static MALFORMED: Throttle = Throttle::new(Duration::from_secs(1));
static UNKNOWN_TYPE: Throttle = Throttle::new(Duration::from_secs(1));
static NO_BACKEND: Throttle = Throttle::new(Duration::from_secs(1));

/// One thread's data path.
#[derive(Debug)]
pub struct Relay {
    shared: Cache<SharedRouting, Arc<Routing>>,
    /// The snapshot that `lanes` were opened for.
    routing: Arc<Routing>,
    /// One lane per destination, in the same order.
    lanes: Vec<Lane>,
    /// Lanes that have taken lines since the last flush.
    used: Vec<usize>,
    tally: Tally,
    totals: Arc<Totals>,
}

impl Relay {
    /// Makes a relay that follows `shared` and counts into `totals`.
    pub fn new(shared: SharedRouting, totals: Arc<Totals>) -> Self {
        let routing = shared.load_full();
        let lanes = open_lanes(&routing, Vec::new());
        Self {
            shared: Cache::new(shared),
            routing,
            lanes,
            used: Vec::new(),
            tally: Tally::default(),
            totals,
        }
    }

    /// Starts a burst with the newest routing.
    pub fn begin(&mut self) {
        let newest = self.shared.load();
        if !Arc::ptr_eq(newest, &self.routing) {
            self.routing = Arc::clone(newest);
            self.lanes = open_lanes(&self.routing, mem::take(&mut self.lanes));
            self.used.clear();
        }
    }

    /// Takes a datagram: lines with line feeds between them, and perhaps one at the end.
    pub fn datagram(&mut self, datagram: &[u8]) {
        self.tally.packets += 1;
        self.tally.bytes += datagram.len() as u64;
        let mut start = 0;
        for end in memchr_iter(b'\n', datagram) {
            self.piece(&datagram[start..end]);
            start = end + 1;
        }
        self.piece(&datagram[start..]);
    }

    /// Takes a block of a stream: lines that each end with a line feed.
    pub fn lines(&mut self, block: &[u8]) {
        self.tally.packets += 1;
        self.tally.bytes += block.len() as u64;
        let mut start = 0;
        for end in memchr_iter(b'\n', block) {
            self.piece(&block[start..end]);
            start = end + 1;
        }
    }

    /// Counts a line that came in but cannot be forwarded.
    pub fn drop_line(&mut self, reason: DropReason) {
        self.tally.pieces += 1;
        self.tally.lines += 1;
        self.tally.drop_line(reason);
    }

    /// Ends a burst: everything leaves, and the counts become visible.
    pub fn flush(&mut self) {
        for lane in self.used.drain(..) {
            self.lanes[lane].flush();
        }
        self.tally.settle(&self.totals);
    }

    /// To be called now and then while nothing comes in: follows the routing and settles the counts of what was sent.
    pub fn idle(&mut self) {
        self.begin();
        self.flush();
        self.lanes.iter_mut().for_each(Lane::settle);
    }

    fn piece(&mut self, piece: &[u8]) {
        self.tally.pieces += 1;
        match self.routing.grammar.read(piece) {
            Piece::Line { key, line } => self.forward(key, line),
            Piece::Blank => {}
            Piece::Malformed => {
                self.tally.lines += 1;
                self.tally.drop_line(DropReason::Malformed);
                log_bad_line(&MALFORMED, "Malformatted metric", piece);
            }
            Piece::UnknownType(kind) => {
                self.tally.lines += 1;
                self.tally.drop_line(DropReason::UnknownType);
                log_bad_line(&UNKNOWN_TYPE, "Unknown metrics type", kind);
            }
        }
    }

    #[inline]
    fn forward(&mut self, key: &[u8], line: &[u8]) {
        self.tally.lines += 1;
        let packing = self.routing.packing;
        let (lanes, used) = (&mut self.lanes, &mut self.used);
        let mut delivered = 0;
        for route in &self.routing.groups {
            delivered += route.each_destination(key, |destination| {
                if lanes[destination].push(line, packing) == Pushed::First {
                    used.push(destination);
                }
            });
        }
        if delivered == 0 {
            self.tally.drop_line(DropReason::NoNode);
            log_bad_line(&NO_BACKEND, "Unable to get backend for metric", key);
        }
    }
}

/// Opens a lane to each destination; lanes that already lead there are kept, with what waits in them, and the others are
/// flushed as they go.
fn open_lanes(routing: &Routing, mut old: Vec<Lane>) -> Vec<Lane> {
    old.iter_mut().for_each(Lane::flush);
    let lanes = routing.destinations.iter().map(|destination| {
        match old
            .iter()
            .position(|lane| lane.leads_to(&destination.node, destination.address))
        {
            Some(place) => old.swap_remove(place),
            None => Lane::open(Arc::clone(&destination.node), destination.address),
        }
    });
    lanes.collect()
}

fn log_bad_line(throttle: &Throttle, what: &str, text: &[u8]) {
    /// What of a line is shown; a log line is no place for 64 KiB.
    const SHOWN: usize = 200;
    if let Some(suppressed) = throttle.admit() {
        let text = text[..text.len().min(SHOWN)].escape_ascii();
        if suppressed == 0 {
            warn!("{what}: {text}");
        } else {
            warn!(suppressed, "{what}: {text}");
        }
    }
}
