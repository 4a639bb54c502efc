//! What a query cost.

/// Counts of samples. A histogram counts as many as would take its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleStats {
    /// How many samples were looked at, those of overlapping windows again and again.
    pub total: u64,
    /// How many were held at once, at most.
    pub peak: u64,
}
