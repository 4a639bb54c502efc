//! Natural order of texts, in which runs of digits compare as numbers; the order of `sort_by_label`.
//!
//! Pinned by the `natsort_less` rows of the golden data (`tests/misc_golden.rs`).

use std::cmp::Ordering;

/// Whether the reference puts `a` before `b`. Of numbers that differ in leading zeros only, either is before the other.
///
/// ```
/// assert!(promql::labels::natural_less("node-9", "node-10"));
/// ```
pub fn natural_less(a: &str, b: &str) -> bool {
    let (mut left, mut right) = (pieces(a).peekable(), pieces(b).peekable());
    while let Some(x) = left.next() {
        let Some(y) = right.next() else { return false };
        match compare_pieces(x, y) {
            Ordering::Less => return true,
            Ordering::Greater => return false,
            Ordering::Equal if left.peek().is_none() => return true,
            Ordering::Equal => {}
        }
    }
    false
}

/// The same as an order that sorting can rely on.
pub(crate) fn natural_cmp(a: &str, b: &str) -> Ordering {
    match (natural_less(a, b), natural_less(b, a)) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        _ => a.cmp(b),
    }
}

fn compare_pieces(x: &str, y: &str) -> Ordering {
    let is_number = |piece: &str| piece.starts_with(|c: char| c.is_ascii_digit());
    if is_number(x) && is_number(y) {
        let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
        x.len().cmp(&y.len()).then_with(|| x.cmp(y))
    } else {
        x.cmp(y)
    }
}

/// Splits a text into runs of digits and runs of anything else.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?.is_ascii_digit();
        let end = rest
            .find(|c: char| c.is_ascii_digit() != first)
            .unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}
