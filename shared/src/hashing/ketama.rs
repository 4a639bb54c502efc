//! The ring of statsd's `proxy.js`: npm `hashring` with MD5, as that proxy calls it.
//!
//! Every member has the same weight and about 40 digests of `MEMBER-i`; a digest gives one point (hashring 3.2.0, statsd
//! 0.8.0 and later) or four (hashring 1.0.1, statsd 0.7.0 to 0.7.2). A key belongs to the owner of the first point at or
//! after its position, and past the last point to the owner of the first.

use std::borrow::Cow;

use md5::{Digest, Md5};

use super::{Ring, arc_shares, little_endian_word, md5_position};

/// How many points one digest gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointsPerDigest {
    /// hashring 3.2.0.
    One = 1,
    /// hashring 1.0.1.
    Four = 4,
}

/// A ketama-like ring over MD5; see the module.
#[derive(Debug)]
pub struct KetamaRing {
    /// Point positions in ascending order, apart from their owners so that a search touches few cache lines.
    positions: Vec<u32>,
    /// The owner of each position.
    owners: Vec<u32>,
    members: usize,
}

impl KetamaRing {
    /// Builds the ring of `members` (each `host:port`, no text twice).
    pub fn new<S: AsRef<str>>(members: &[S], per_digest: PointsPerDigest) -> Self {
        let mut points = Vec::with_capacity(members.len() * 40 * per_digest as usize);
        for (owner, member) in members.iter().enumerate() {
            for i in 0..digests_per_member(members.len()) {
                let digest = Md5::digest(format!("{}-{i}", member.as_ref()));
                points.extend(
                    (0..per_digest as usize)
                        .map(|word| (little_endian_word(&digest, word), owner as u32)),
                );
            }
        }
        // Equal points stay in order of insertion, as JavaScript's sort leaves them.
        points.sort_by_key(|(position, _)| *position);
        let (positions, owners) = points.into_iter().unzip();
        Self {
            positions,
            owners,
            members: members.len(),
        }
    }

    /// Returns the points in ascending order, each with the place of its owner.
    pub fn points(&self) -> impl Iterator<Item = (u32, usize)> {
        self.positions
            .iter()
            .zip(&self.owners)
            .map(|(position, owner)| (*position, *owner as usize))
    }
}

impl Ring for KetamaRing {
    /// JavaScript hashes text, so bytes that are not UTF-8 count as U+FFFD.
    fn pick(&self, key: &[u8]) -> Option<usize> {
        let position = match String::from_utf8_lossy(key) {
            Cow::Borrowed(_) => md5_position(key),
            Cow::Owned(text) => md5_position(text.as_bytes()),
        };
        let after = self.positions.partition_point(|point| *point < position);
        let owner = self.owners.get(after).or_else(|| self.owners.first())?;
        Some(*owner as usize)
    }

    fn shares(&self) -> Vec<f64> {
        arc_shares(self.members, self.points())
    }
}

/// How many digests each of `members` members gets: 40, but 39 when the division below rounds down.
///
/// hashring computes `floor(weight / totalWeight * 40 * members)` in floating point, which is 39.99... for 7, 14, 28, 49
/// and some more members. The order of the operations matters.
fn digests_per_member(members: usize) -> usize {
    const WEIGHT: f64 = 100.0;
    let members = members as f64;
    ((WEIGHT / (WEIGHT * members)) * 40.0 * members).floor() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_takes_a_digest_from_some_sizes() {
        let short: Vec<usize> = (1..=300)
            .filter(|members| digests_per_member(*members) == 39)
            .collect();
        let recorded = [
            7, 14, 28, 49, 56, 98, 103, 112, 141, 147, 161, 196, 206, 224, 253, 269, 281, 282, 294,
        ];
        assert_eq!(short, recorded);
        assert!((1..=300).all(|members| matches!(digests_per_member(members), 39 | 40)));
    }

    #[test]
    fn an_empty_ring_owns_nothing() {
        let ring = KetamaRing::new::<&str>(&[], PointsPerDigest::One);
        assert_eq!(ring.pick(b"foo"), None);
        assert!(ring.shares().is_empty());
    }

    #[test]
    fn shares_are_the_arcs_before_the_points() {
        let ring = KetamaRing::new(&["a:1", "b:1", "c:1"], PointsPerDigest::Four);
        let shares = ring.shares();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let counted = (0..20_000)
            .filter(|i| ring.pick(format!("name.{i}").as_bytes()) == Some(0))
            .count();
        assert!(
            (counted as f64 / 20_000.0 - shares[0]).abs() < 0.02,
            "{counted} {shares:?}"
        );
    }
}
