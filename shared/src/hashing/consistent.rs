//! The ring of veneur's proxies: CRC-32, 20 points a member, and a memory of how it came to be.
//!
//! All versions use the library `stathat.com/c/consistent`. Point `i` of a member is the CRC-32 of `i` in decimal directly
//! followed by the member's name, so point 1 of `12.0.0.1:80` and point 11 of `2.0.0.1:80` are the same. The last one to be
//! added owns such a point, and removing either of them removes it. A ring therefore depends on the order of additions and
//! removals, not only on its members; `tests/golden_veneur_ring.rs` replays recorded histories.

use super::{Ring, arc_shares};

/// How many points a member has.
const POINTS_PER_MEMBER: usize = 20;

/// veneur's ring; see the module.
///
/// [`Ring::pick`] answers with a place in [`members`](Self::members).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsistentRing {
    members: Vec<String>,
    /// Ascending and distinct; apart from the owners so that a search touches little memory.
    positions: Vec<u32>,
    /// The place of the owner of each point, in the order of `positions`.
    owners: Vec<u32>,
}

impl ConsistentRing {
    /// Builds the ring to which `members` were added in this order; a member listed twice counts once.
    pub fn new<S: AsRef<str>>(members: &[S]) -> Self {
        let mut ring = Self::default();
        ring.set(members);
        ring
    }

    /// Adds a member, which takes over the points that it shares with others.
    ///
    /// Adding a member again takes over such points again.
    pub fn add(&mut self, member: &str) {
        let place = self.place_of(member).unwrap_or_else(|| {
            self.members.push(member.to_owned());
            self.members.len() - 1
        });
        let owner = u32::try_from(place).expect("no fleet has four billion members");
        for position in points_of(member) {
            match self.positions.binary_search(&position) {
                Ok(taken) => self.owners[taken] = owner,
                Err(gap) => {
                    self.positions.insert(gap, position);
                    self.owners.insert(gap, owner);
                }
            }
        }
    }

    /// Removes a member and the points at its 20 positions, whoever owns them.
    ///
    /// As in the library, that also happens for a name that is not a member.
    pub fn remove(&mut self, member: &str) {
        for position in points_of(member) {
            if let Ok(found) = self.positions.binary_search(&position) {
                self.positions.remove(found);
                self.owners.remove(found);
            }
        }
        // None of its points is left, so nobody refers to its place any more.
        if let Some(place) = self.place_of(member) {
            self.members.remove(place);
            for owner in &mut self.owners {
                if *owner as usize > place {
                    *owner -= 1;
                }
            }
        }
    }

    /// Makes `members` the members: removes those that are not listed, then adds the new ones in the order of the list.
    ///
    /// Members that stay are not touched. This is what a proxy does with each answer of its discovery.
    pub fn set<S: AsRef<str>>(&mut self, members: &[S]) {
        let listed = |member: &str| members.iter().any(|listed| listed.as_ref() == member);
        let gone: Vec<String> = self
            .members
            .iter()
            .filter(|member| !listed(member))
            .cloned()
            .collect();
        for member in &gone {
            self.remove(member);
        }
        for member in members {
            if self.place_of(member.as_ref()).is_none() {
                self.add(member.as_ref());
            }
        }
    }

    /// Returns the members: those that were there longest come first.
    pub fn members(&self) -> &[String] {
        &self.members
    }

    /// Returns the member that owns `key`; `None` for a ring without members (the library says `empty circle`).
    pub fn owner(&self, key: &[u8]) -> Option<&str> {
        Some(&self.members[self.pick(key)?])
    }

    /// Returns every point with the place of its owner, in ascending order.
    pub fn points(&self) -> impl Iterator<Item = (u32, usize)> {
        self.positions
            .iter()
            .zip(&self.owners)
            .map(|(position, owner)| (*position, *owner as usize))
    }

    fn place_of(&self, member: &str) -> Option<usize> {
        self.members.iter().position(|known| known == member)
    }
}

impl Ring for ConsistentRing {
    /// The first point strictly above the key owns it; above the last point, the first one does.
    fn pick(&self, key: &[u8]) -> Option<usize> {
        let position = crc32fast::hash(key);
        let above = self.positions.partition_point(|point| *point <= position);
        let owner = self.owners.get(above).or_else(|| self.owners.first())?;
        Some(*owner as usize)
    }

    fn shares(&self) -> Vec<f64> {
        arc_shares(self.members.len(), self.points())
    }
}

/// The positions of a member's points.
fn points_of(member: &str) -> impl Iterator<Item = u32> {
    (0..POINTS_PER_MEMBER).map(move |i| crc32fast::hash(format!("{i}{member}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_ring_owns_nothing() {
        let ring = ConsistentRing::new::<&str>(&[]);
        assert_eq!(ring.pick(b"foo"), None);
        assert_eq!(ring.owner(b"foo"), None);
        assert!(ring.shares().is_empty());
    }

    #[test]
    fn a_key_on_a_point_belongs_to_the_next_point() {
        let ring = ConsistentRing::new(&["a:1", "b:1", "c:1"]);
        // The text of a point is also a key: its position is the point itself.
        let position = crc32fast::hash(b"0a:1");
        let points: Vec<_> = ring.points().collect();
        let next = points
            .iter()
            .find(|(point, _)| *point > position)
            .unwrap_or(&points[0]);
        assert_eq!(ring.pick(b"0a:1"), Some(next.1));
    }

    #[test]
    fn the_last_one_added_owns_a_shared_point_and_removal_takes_it_from_both() {
        let shared = crc32fast::hash(b"112.0.0.1:80");
        let owner_of_shared = |ring: &ConsistentRing| {
            ring.points()
                .find(|(position, _)| *position == shared)
                .map(|(_, owner)| ring.members()[owner].clone())
        };
        // Point 1 of the one is point 11 of the other.
        let mut ring = ConsistentRing::new(&["12.0.0.1:80", "2.0.0.1:80"]);
        assert_eq!(owner_of_shared(&ring).as_deref(), Some("2.0.0.1:80"));
        ring.add("12.0.0.1:80");
        assert_eq!(owner_of_shared(&ring).as_deref(), Some("12.0.0.1:80"));
        ring.remove("2.0.0.1:80");
        assert_eq!(owner_of_shared(&ring), None);
        assert_eq!(ring.points().count(), POINTS_PER_MEMBER - 1);
    }

    #[test]
    fn members_that_stay_keep_their_keys_when_another_leaves() {
        let mut ring = ConsistentRing::new(&["a:1", "b:1", "c:1", "d:1"]);
        let keys: Vec<String> = (0..5_000).map(|i| format!("name.{i}counter")).collect();
        let owners = |ring: &ConsistentRing| -> Vec<String> {
            keys.iter()
                .map(|key| ring.owner(key.as_bytes()).unwrap().to_owned())
                .collect()
        };
        let before = owners(&ring);
        ring.set(&["d:1", "c:1", "a:1"]);
        assert_eq!(ring.members(), ["a:1", "c:1", "d:1"]);
        for (old, new) in before.iter().zip(owners(&ring)) {
            assert!(*old == new || old == "b:1", "{old} {new}");
        }
    }

    #[test]
    fn shares_are_the_arcs_before_the_points() {
        let ring = ConsistentRing::new(&["a:1", "b:1", "c:1"]);
        let shares = ring.shares();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let counted = (0..20_000)
            .filter(|i| ring.pick(format!("name.{i}").as_bytes()) == Some(0))
            .count();
        assert!(
            (counted as f64 / 20_000.0 - shares[0]).abs() < 0.03,
            "{counted} {shares:?}"
        );
    }
}
