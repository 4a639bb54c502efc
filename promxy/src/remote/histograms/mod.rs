//! Chunks of native histograms, as Prometheus packs them (`tsdb/chunkenc/{histogram,float_histogram,histogram_meta}.go`).
//!
//! A chunk begins with the number of its samples in two bytes and what is known of counter resets before it in a third. Then comes
//! the layout, which all its samples have in common: the width of the zero bucket, the schema, where buckets lie, custom bounds.
//! Of each sample there is the time, count, zero bucket, sum, and one number for each bucket: of integer histograms the
//! change of the change, of float histograms which bits differ. A stale marker has no buckets.

mod layout;
mod read;
mod write;

pub use read::Histograms;
pub use write::Growing;

/// Whether counts are integers or floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Integers.
    Integers,
    /// Floats.
    Floats,
}

/// What the header says of the time before a chunk, in its highest two bits.
const UNKNOWN: u8 = 0;
const NOT_RESET: u8 = 0x40;
const RESET: u8 = 0x80;
const GAUGE: u8 = 0xc0;
