//! Label sets, their hash and order, and conditions on labels.
//!
//! * [`Labels`]: an immutable, sorted set of labels in one block of memory, with its hash
//! * [`LabelsBuilder`]: a set with some labels replaced
//! * [`LabelMatcher`]: a compiled condition on a label
//! * [`natural_less`]: the order of `sort_by_label`

mod builder;
mod hash;
mod matcher;
mod natsort;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::iter;
use std::sync::Arc;

use crate::format;
use crate::parser::Grouping;

pub use builder::LabelsBuilder;
pub use matcher::{LabelMatcher, MatcherError};
pub use natsort::natural_less;

pub(crate) use natsort::natural_cmp;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// The label that holds the upper bound of a classic histogram's bucket.
pub const BUCKET_BOUND: &str = "le";

/// The labels that describe a metric, not a series; arithmetic removes them.
const METADATA: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// The longest name or value whose length is written as one byte.
const LONGEST_SHORT: usize = 254;

/// Label sets up to so many bytes are free; of longer ones so many bytes count as a sample.
const USUAL_SIZE: usize = 1024;
const BYTES_PER_SAMPLE: usize = 16;

/// Beyond so many listed names, they are searched and not gone over.
const FEW_NAMES: usize = 8;

/// A set of labels, sorted by name, without empty values. Clones share memory.
///
/// The labels stand behind one another as length-prefixed names and values; the hash is the xxHash64 of those bytes, which is
/// what `limit_ratio` samples by.
///
/// ```
/// use promql::labels::Labels;
///
/// let labels: Labels = [("job", "api"), ("__name__", "up")].into_iter().collect();
/// assert_eq!(labels.to_string(), r#"{__name__="up", job="api"}"#);
/// assert_eq!(labels.get("job"), Some("api"));
/// ```
#[derive(Clone)]
pub struct Labels {
    encoded: Arc<[u8]>,
    hash: u64,
}

impl Labels {
    /// Returns the set without labels.
    pub fn empty() -> Self {
        Self::from_encoded(Vec::new())
    }

    fn from_encoded(encoded: Vec<u8>) -> Self {
        let hash = hash::xxh64(&encoded);
        let encoded = encoded.into();
        Self { encoded, hash }
    }

    /// Returns names and values in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries()
            .map(|entry| (text(entry.name), text(entry.value)))
    }

    /// Returns the value of a label, if it is in the set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries()
            .find(|entry| entry.name == name.as_bytes())
            .map(|entry| text(entry.value))
    }

    /// Returns the metric name, empty if there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or_default()
    }

    /// Returns how many labels there are.
    pub fn len(&self) -> usize {
        self.entries().count()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Returns how many samples the set counts as against the limit: what is longer than usual counts by its size, since a
    /// query can make labels of any length.
    pub(crate) fn held(&self) -> usize {
        self.encoded.len().saturating_sub(USUAL_SIZE) / BYTES_PER_SAMPLE
    }

    /// Returns the xxHash64 (seed 0) of the length-prefixed names and values.
    pub fn hash64(&self) -> u64 {
        self.hash
    }

    /// Returns the set without `__name__`, `__type__` and `__unit__`.
    #[must_use]
    pub fn without_metadata(&self) -> Self {
        self.without_names(&METADATA)
    }

    /// Returns the set without some labels.
    #[must_use]
    pub fn without_names(&self, names: &[&str]) -> Self {
        let dropped = |entry: &Entry<'_>| names.iter().any(|name| name.as_bytes() == entry.name);
        if self.entries().any(|entry| dropped(&entry)) {
            self.filtered(|entry| !dropped(entry))
        } else {
            self.clone()
        }
    }

    /// Returns the labels that a grouping leaves: those listed, or all others but the metric name.
    #[must_use]
    pub(crate) fn grouped(&self, key: &GroupingKey) -> Self {
        self.filtered(|entry| key.keeps(entry.name))
    }

    /// Returns the labels that elements of two vectors have to share: those of `on`, or all that are not ignored.
    ///
    /// Unlike [`Labels::grouped`], this keeps the metric name unless it is ignored, which is what results of one-to-one
    /// operators are made of.
    #[must_use]
    pub(crate) fn matched(&self, key: &GroupingKey) -> Self {
        self.filtered(|entry| key.lists(entry.name) == key.only)
    }

    /// Returns [`Labels::matched`] without `__name__`, `__type__` and `__unit__`.
    #[must_use]
    pub(crate) fn matched_without_metadata(&self, key: &GroupingKey) -> Self {
        self.filtered(|entry| {
            key.lists(entry.name) == key.only
                && !METADATA.iter().any(|name| name.as_bytes() == entry.name)
        })
    }

    fn filtered(&self, keep: impl Fn(&Entry<'_>) -> bool) -> Self {
        let mut encoded = Vec::with_capacity(self.encoded.len());
        for entry in self.entries().filter(keep) {
            encoded.extend_from_slice(entry.encoded);
        }
        Self::from_encoded(encoded)
    }

    /// Writes the bytes that two sets have in common exactly if a grouping puts them together.
    pub(crate) fn write_key(&self, key: &GroupingKey, out: &mut Vec<u8>) {
        out.clear();
        for entry in self.entries().filter(|entry| key.keeps(entry.name)) {
            out.extend_from_slice(entry.encoded);
        }
    }

    fn entries(&self) -> Entries<'_> {
        Entries(&self.encoded)
    }
}

/// A sorted list of labels that groups or matches series.
#[derive(Clone, Debug)]
pub(crate) struct GroupingKey {
    names: Vec<Box<[u8]>>,
    /// Whether the listed labels are those that count; else all others do, but the metric name.
    only: bool,
}

impl GroupingKey {
    pub(crate) fn new(grouping: Option<&Grouping>, default_only: bool) -> Self {
        let names = grouping.map(Grouping::labels).unwrap_or_default();
        let only = grouping.map_or(default_only, Grouping::is_only);
        let mut names: Vec<Box<[u8]>> = names.iter().map(|name| name.as_bytes().into()).collect();
        names.sort_unstable();
        Self { names, only }
    }

    pub(crate) fn push(&mut self, name: &str) {
        let at = self
            .names
            .partition_point(|listed| **listed < *name.as_bytes());
        self.names.insert(at, name.as_bytes().into());
    }

    pub(crate) fn is_only(&self) -> bool {
        self.only
    }

    fn lists(&self, name: &[u8]) -> bool {
        if self.names.len() > FEW_NAMES {
            return self
                .names
                .binary_search_by(|listed| (**listed).cmp(name))
                .is_ok();
        }
        self.names.iter().any(|listed| **listed == *name)
    }

    fn keeps(&self, name: &[u8]) -> bool {
        if self.only {
            self.lists(name)
        } else {
            name != METRIC_NAME.as_bytes() && !self.lists(name)
        }
    }
}

/// A label in its encoded form.
struct Entry<'a> {
    encoded: &'a [u8],
    name: &'a [u8],
    value: &'a [u8],
}

/// Walks over encoded labels.
struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let whole = self.0;
        let (name, rest) = split_prefixed(whole);
        let (value, rest) = split_prefixed(rest);
        self.0 = rest;
        let encoded = &whole[..whole.len() - rest.len()];
        Some(Entry {
            encoded,
            name,
            value,
        })
    }
}

fn split_prefixed(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes {
        [0xff, low, middle, high, rest @ ..] => {
            rest.split_at(u32::from_le_bytes([*low, *middle, *high, 0]) as usize)
        }
        [length, rest @ ..] => rest.split_at(usize::from(*length)),
        [] => (&[], &[]),
    }
}

/// A name or a value as it is encoded: behind its length.
///
/// The reference's lengths have three bytes, so it can hold 16 MiB; what is longer is cut.
#[derive(Clone, Copy)]
struct Prefixed<'a>(&'a [u8]);

impl<'a> Prefixed<'a> {
    fn new(text: &'a str) -> Self {
        let mut end = text.len().min(0x00ff_ffff);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(&text.as_bytes()[..end])
    }

    /// Returns how many bytes it takes.
    fn size(self) -> usize {
        let prefix = if self.0.len() <= LONGEST_SHORT { 1 } else { 4 };
        prefix + self.0.len()
    }

    /// Writes it to the beginning of `out`, which has room for it, and returns the rest.
    fn write(self, out: &mut [u8]) -> &mut [u8] {
        let Self(text) = self;
        let (own, rest) = out.split_at_mut(self.size());
        let (prefix, behind) = own.split_at_mut(own.len() - text.len());
        if let [length] = prefix {
            *length = text.len() as u8;
        } else {
            prefix[0] = 0xff;
            prefix[1..].copy_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
        }
        behind.copy_from_slice(text);
        rest
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("labels are made of texts")
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    /// Sorts the labels and leaves out empty values; of equal names the last counts.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let kept = || {
            let next = pairs.iter().skip(1).map(Some).chain([None]);
            let kept = pairs.iter().zip(next).filter(|((name, value), next)| {
                let is_last = next.is_none_or(|(next, _)| next.as_ref() != name.as_ref());
                is_last && !value.as_ref().is_empty()
            });
            kept.flat_map(|((name, value), _)| [name.as_ref(), value.as_ref()].map(Prefixed::new))
        };
        let size = kept().map(Prefixed::size).sum();
        // In its place at once: a list that grows would have to be copied there.
        let mut encoded: Arc<[u8]> = iter::repeat_n(0, size).collect();
        let mut rest = Arc::get_mut(&mut encoded).unwrap_or_default();
        for text in kept() {
            rest = text.write(rest);
        }
        let hash = hash::xxh64(&encoded);
        Self { encoded, hash }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.encoded == other.encoded
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Ord for Labels {
    /// Compares label by label, name before value; of two sets of which one continues the other, the shorter is first.
    fn cmp(&self, other: &Self) -> Ordering {
        let left = self.entries().map(|entry| (entry.name, entry.value));
        left.cmp(other.entries().map(|entry| (entry.name, entry.value)))
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_classic_name(name) {
                f.write_str(name)?;
            } else {
                f.write_str(&format::quote(name.as_bytes()))?;
            }
            f.write_str("=")?;
            f.write_str(&format::quote(value.as_bytes()))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Whether a label name can stand without quotes.
fn is_classic_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_keep_their_length() {
        let long = "é".repeat(300);
        let labels: Labels = [("a", long.as_str()), ("b", "x")].into_iter().collect();
        assert_eq!(labels.get("a"), Some(long.as_str()));
        assert_eq!(labels.get("b"), Some("x"));
        assert_eq!(labels.len(), 2);
    }

    #[test]
    fn sets_compare_label_by_label() {
        let set = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Labels>();
        assert!(set(&[("a", "1")]) < set(&[("a", "1"), ("b", "0")]));
        assert!(set(&[("a", "2")]) > set(&[("a", "10")]));
        assert!(set(&[("a", "1"), ("c", "0")]) > set(&[("a", "1"), ("b", "9")]));
        assert_eq!(
            set(&[("a", ""), ("b", "1"), ("b", "2")]).to_string(),
            r#"{b="2"}"#
        );
    }
}
