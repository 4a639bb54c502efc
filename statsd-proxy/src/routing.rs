//! Which nodes a line goes to: an immutable snapshot that the data path reads and [`crate::membership`] replaces. Pure.

use std::{net::SocketAddr, sync::Arc};

use shared::hashing::{
    Ring,
    go_statsd::GoStatsdRing,
    ketama::{KetamaRing, PointsPerDigest},
};

use crate::{
    config::{Packing, RingKind, Spread},
    line::Grammar,
    node::Node,
};

/// A node and where it is reached.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The node.
    pub node: Arc<Node>,
    /// Its address; `None` while its name is unresolved, and for TCP, whose writer resolves by itself.
    pub address: Option<SocketAddr>,
    /// Whether it takes its share of a ring.
    pub live: bool,
}

/// Everything the data path needs to know.
#[derive(Debug)]
pub struct Routing {
    /// Which lines are taken.
    pub grammar: Grammar,
    /// How lines are put into packets.
    pub packing: Packing,
    /// All nodes of all groups, each once.
    pub destinations: Vec<Destination>,
    /// Every line goes to each of them.
    pub groups: Vec<Route>,
}

/// How one group spreads lines. Numbers are places in [`Routing::destinations`].
#[derive(Debug)]
pub struct Route {
    /// The group's name.
    pub name: String,
    /// How it spreads lines.
    pub spread: Spread,
    /// The destinations among which lines are spread: for a ring the live ones, or all if none lives.
    pub members: Vec<usize>,
    /// The ring over `members`; `None` when every member gets every line.
    ring: Option<Box<dyn Ring>>,
}

impl Route {
    /// Builds the route of a group over `nodes`, its destinations in ring order.
    pub fn new(
        name: String,
        spread: Spread,
        nodes: &[usize],
        destinations: &[Destination],
    ) -> Self {
        let Spread::Hash(kind) = spread else {
            return Self {
                name,
                spread,
                members: nodes.to_vec(),
                ring: None,
            };
        };
        let live: Vec<usize> = nodes
            .iter()
            .copied()
            .filter(|node| destinations[*node].live)
            .collect();
        let members = if live.is_empty() {
            nodes.to_vec()
        } else {
            live
        };
        let labels: Vec<&str> = members
            .iter()
            .map(|member| destinations[*member].node.label())
            .collect();
        let ring: Box<dyn Ring> = match kind {
            RingKind::Statsd => Box::new(KetamaRing::new(&labels, PointsPerDigest::One)),
            RingKind::Statsd07 => Box::new(KetamaRing::new(&labels, PointsPerDigest::Four)),
            RingKind::GoStatsdProxy => Box::new(GoStatsdRing::new(&labels)),
        };
        Self {
            name,
            spread,
            members,
            ring: Some(ring),
        }
    }

    /// Calls `deliver` with each destination of the line that `key` was read from, and returns how many there were.
    #[inline]
    pub fn each_destination(&self, key: &[u8], mut deliver: impl FnMut(usize)) -> usize {
        match &self.ring {
            Some(ring) => ring.pick(key).map_or(0, |member| {
                deliver(self.members[member]);
                1
            }),
            None => self.members.iter().map(|member| deliver(*member)).count(),
        }
    }

    /// Returns each member with its share of the names, 0 to 1.
    pub fn shares(&self) -> Vec<(usize, f64)> {
        let shares = self
            .ring
            .as_ref()
            .map_or_else(|| vec![1.0; self.members.len()], |ring| ring.shares());
        self.members.iter().copied().zip(shares).collect()
    }
}

impl Routing {
    /// A routing without nodes.
    pub fn empty(grammar: Grammar, packing: Packing) -> Self {
        Self {
            grammar,
            packing,
            destinations: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// Returns one line of text per group: its ring and each node's share.
    pub fn describe(&self) -> Vec<String> {
        let describe = |route: &Route| {
            let share = |(member, share): (usize, f64)| {
                format!(
                    "{} {:.1} %",
                    self.destinations[member].node.label(),
                    share * 100.0
                )
            };
            let shares: Vec<String> = route.shares().into_iter().map(share).collect();
            let how = match route.spread {
                Spread::Hash(kind) => format!("ring {}", kind.name()),
                Spread::Mirror => "mirror".to_owned(),
            };
            format!(
                "group {}: {how}: {}",
                route.name,
                if shares.is_empty() {
                    "no nodes".to_owned()
                } else {
                    shares.join(", ")
                }
            )
        };
        self.groups.iter().map(describe).collect()
    }
}
