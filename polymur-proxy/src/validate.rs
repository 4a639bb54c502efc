//! Which lines carbon takes: for `-validate`.
//!
//! Carbon's line receiver wants UTF-8 text of exactly three words, the second and third of which Python's `float` takes,
//! and throws away values that are not a number.

/// Returns whether a carbon would store `line`, given without its terminator.
pub fn carbon_takes(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else {
        return false;
    };
    let mut words = text.split_whitespace();
    let (Some(_path), Some(value), Some(time), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    python_float(value).is_some_and(|value| !value.is_nan())
        && python_float(time).is_some_and(f64::is_finite)
}

/// Python's `float`: as Rust's, and `_` may stand between digits.
fn python_float(text: &str) -> Option<f64> {
    if !text.contains('_') {
        return text.parse().ok();
    }
    let bytes = text.as_bytes();
    let between_digits = |at: usize| {
        let digit = |place: Option<&u8>| place.is_some_and(u8::is_ascii_digit);
        digit(at.checked_sub(1).and_then(|before| bytes.get(before))) && digit(bytes.get(at + 1))
    };
    let well_placed = bytes
        .iter()
        .enumerate()
        .all(|(at, byte)| *byte != b'_' || between_digits(at));
    well_placed
        .then(|| text.replace('_', "").parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_words_with_two_numbers_are_taken() {
        let f = |line: &[u8], taken: bool| assert_eq!(carbon_takes(line), taken, "{line:?}");
        f(b"a.b 1 1500000000", true);
        f(b"  a.b\t1e3   1500000000.5 ", true);
        f(b"a.b;tag=x -1_000 -1", true);
        f(b"a.b inf 1", true);
        f(b"a.b nan 1", false);
        f(b"a.b 1 nan", false);
        f(b"a.b 1 inf", false);
        f(b"", false);
        f(b"a.b 1", false);
        f(b"a.b 1 2 3", false);
        f(b"a.b one 2", false);
        f(b"a.b 1_ 2", false);
        f(b"a\xff.b 1 2", false);
        f(b"GET / HTTP/1.1", false);
    }
}
