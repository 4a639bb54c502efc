//! The ring of go-statsd-proxy: one point a member, and a search that keeps the last match.
//!
//! `hashring.go` walks the members in ascending order and lets every member whose point lies above the key replace the
//! answer, so a key goes to the member with the highest point, or, if it lies at or above that, to the one with the
//! lowest. All others get nothing. It is here for the days in which a fleet is replaced one proxy at a time.

use super::{KEY_SPACE, Ring, md5_position};

/// go-statsd-proxy's ring; see the module.
#[derive(Debug)]
pub struct GoStatsdRing {
    /// Owner of keys below the highest point, with that point, and owner of all others; `None` without members.
    owners: Option<Owners>,
    members: usize,
}

#[derive(Debug)]
struct Owners {
    highest: usize,
    highest_point: u32,
    lowest: usize,
}

impl GoStatsdRing {
    /// Builds the ring of `members` (each `host:port`).
    pub fn new<S: AsRef<str>>(members: &[S]) -> Self {
        let points = || {
            members
                .iter()
                .enumerate()
                .map(|(place, member)| (md5_position(member.as_ref().as_bytes()), place))
        };
        let owners = points()
            .max_by_key(|(point, _)| *point)
            .zip(points().min_by_key(|(point, _)| *point))
            .map(|((highest_point, highest), (_, lowest))| Owners {
                highest,
                highest_point,
                lowest,
            });
        Self {
            owners,
            members: members.len(),
        }
    }
}

impl Ring for GoStatsdRing {
    fn pick(&self, key: &[u8]) -> Option<usize> {
        let owners = self.owners.as_ref()?;
        Some(if md5_position(key) < owners.highest_point {
            owners.highest
        } else {
            owners.lowest
        })
    }

    fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.members];
        if let Some(owners) = &self.owners {
            let below = f64::from(owners.highest_point) / KEY_SPACE;
            shares[owners.highest] += below;
            shares[owners.lowest] += 1.0 - below;
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_many_members_own_everything() {
        let members: Vec<String> = (0..20).map(|i| format!("10.0.0.{i}:8125")).collect();
        let ring = GoStatsdRing::new(&members);
        let shares = ring.shares();
        assert_eq!(shares.iter().filter(|share| **share > 0.0).count(), 2);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_empty_ring_owns_nothing() {
        assert_eq!(GoStatsdRing::new::<&str>(&[]).pick(b"foo"), None);
    }
}
