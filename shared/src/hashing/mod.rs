//! The hash rings of the originals: which member of a set owns a key.
//!
//! A ring is built from its members and then, with one exception, only read. It knows members by their place in the list it was built
//! from, so that callers can keep whatever they like beside it. Placement is part of a tool's contract with its
//! neighbours (two proxies before the same backends must agree), so every ring is pinned by placements recorded from the
//! original: `tests/golden_rings.rs`, `tests/golden_veneur_ring.rs`.
//!
//! * [`ketama::KetamaRing`]: statsd's `proxy.js`, 40 (or 160) points a member
//! * [`go_statsd::GoStatsdRing`]: go-statsd-proxy, one point a member, two owners at most
//! * [`consistent::ConsistentRing`]: veneur's proxies, 20 points a member; it changes in place, because its history matters

pub mod consistent;
pub mod go_statsd;
pub mod ketama;

use std::fmt;

use md5::{Digest, Md5};

/// Decides which member owns a key.
pub trait Ring: fmt::Debug + Send + Sync {
    /// Returns the place of the owner of `key` in the list the ring was built from; `None` for a ring without members.
    fn pick(&self, key: &[u8]) -> Option<usize>;

    /// Returns the share of the key space that each member owns: one number per member, 1 in all (0 in all without any).
    fn shares(&self) -> Vec<f64>;
}

/// The size of the key space: positions are 32 bits wide.
const KEY_SPACE: f64 = 4_294_967_296.0;

/// The share of each of `members` members: the arcs that end at its points. `points` ascend, each with its owner's place.
fn arc_shares(members: usize, points: impl Iterator<Item = (u32, usize)>) -> Vec<f64> {
    let mut owned = vec![0u64; members];
    let mut points = points.peekable();
    let Some((first, first_owner)) = points.peek().copied() else {
        return vec![0.0; members];
    };
    let mut previous = first;
    for (position, owner) in points {
        owned[owner] += u64::from(position - previous);
        previous = position;
    }
    // The arc over the ends of the key space belongs to the first point.
    owned[first_owner] += (1 << 32) - u64::from(previous - first);
    owned
        .into_iter()
        .map(|positions| positions as f64 / KEY_SPACE)
        .collect()
}

/// The position of a key: the first four bytes of its MD5 digest, least significant first.
///
/// Both StatsD originals use it (hashring's `hashValue`, go-statsd-proxy's `GetHashRingPosition`).
fn md5_position(key: &[u8]) -> u32 {
    little_endian_word(&Md5::digest(key), 0)
}

/// The `index`th four bytes of an MD5 digest as an unsigned number, least significant first.
fn little_endian_word(digest: &[u8], index: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&digest[index * 4..][..4]);
    u32::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_the_first_digest_bytes_least_significant_first() {
        assert_eq!(md5_position(b"foo"), 3_675_831_724);
        assert_eq!(md5_position(b""), 3_649_838_548);
        assert_eq!(md5_position(b"127.0.0.1:21031"), 2_015_551_852);
    }
}
