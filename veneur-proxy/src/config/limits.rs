//! What senders may cost. The originals have no limits but that of gRPC's messages; these are ours, in either dialect.

use std::time::Duration;

/// Limits of what is received by HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many bytes the body of a request may have (`max_request_bytes`).
    pub request_bytes: usize,
    /// How many bytes it may inflate to (`max_inflated_bytes`).
    pub inflated_bytes: usize,
    /// How long receiving it may take.
    pub request_timeout: Duration,
}

impl Limits {
    /// What counts if nothing is set.
    pub const DEFAULT: Self = Self {
        request_bytes: 64 << 20,
        inflated_bytes: 256 << 20,
        request_timeout: Duration::from_secs(60),
    };

    /// Returns how many bodies may be received at a time, so that they have room in a gigabyte; 16 at least.
    pub(crate) fn bodies_at_a_time(&self) -> usize {
        ((1 << 30) / self.request_bytes.max(1)).clamp(16, 1024)
    }
}
