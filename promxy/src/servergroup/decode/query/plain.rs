//! Series of numbers in the very form that Prometheus writes: no spaces, no escapes, the labels first.
//!
//! Nearly all series have it, and read this way they cost a fraction of what reading any JSON does. Whatever looks otherwise is
//! left to the visitor, which also finds the words for what is wrong with it; so nothing here is an error.

use std::{borrow::Cow, str};

/// The largest integer up to which every one is a float.
const LARGEST_EXACT: u64 = 1 << 53;

/// Powers of ten that are floats, so that dividing by them rounds once, as reading the number does.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The most digits of whole seconds; with three more for milliseconds they are exact as floats, too.
const MOST_SECONDS: usize = 12;

/// The most digits that fit into a `u64`, whatever they are.
const MOST_DIGITS: usize = 19;

/// Why a series was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It goes on behind the end of the text.
    Unfinished,
    /// It has another form.
    Other,
}

/// Labels as they are written.
pub(super) type Pairs<'t> = Vec<(Cow<'t, str>, Cow<'t, str>)>;

/// Reads the series at the beginning of `text` and hands on its samples: time in milliseconds, number. Returns its labels and how
/// long it is. If it was not read, samples may have been handed on all the same.
pub(super) fn series<E>(
    text: &[u8],
    mut take: impl FnMut(i64, f64) -> Result<(), E>,
) -> Result<Result<(Pairs<'_>, usize), E>, Unread> {
    let mut cursor = Cursor { text, at: 0 };
    let labels = cursor.labels()?;
    // A `v`, for one value or many.
    cursor.expect(b",\"value")?;
    let is_list = cursor.peek()? == b's';
    cursor.expect(if is_list { b"s\":[" } else { b"\":" })?;
    loop {
        let (time, value) = cursor.sample()?;
        if let Err(error) = take(time, value) {
            return Ok(Err(error));
        }
        if is_list && cursor.next()? == b',' {
            continue;
        }
        break;
    }
    if is_list && cursor.before() != b']' {
        return Err(Unread::Other);
    }
    cursor.expect(b"}")?;
    Ok(Ok((labels, cursor.at)))
}

/// A place in a text.
struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Cursor<'t> {
    fn peek(&self) -> Result<u8, Unread> {
        self.text.get(self.at).copied().ok_or(Unread::Unfinished)
    }

    fn next(&mut self) -> Result<u8, Unread> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn before(&self) -> u8 {
        self.text[self.at - 1]
    }

    fn expect(&mut self, expected: &[u8]) -> Result<(), Unread> {
        let rest = &self.text[self.at..];
        if rest.starts_with(expected) {
            self.at += expected.len();
            return Ok(());
        }
        Err(if expected.starts_with(rest) {
            Unread::Unfinished
        } else {
            Unread::Other
        })
    }

    fn labels(&mut self) -> Result<Pairs<'t>, Unread> {
        let mut labels = Vec::with_capacity(8);
        self.expect(b"{\"metric\":{")?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(labels);
        }
        loop {
            let name = self.word()?;
            self.expect(b":")?;
            labels.push((name, self.word()?));
            match self.next()? {
                b',' => {}
                b'}' => return Ok(labels),
                _ => return Err(Unread::Other),
            }
        }
    }

    fn word(&mut self) -> Result<Cow<'t, str>, Unread> {
        self.expect(b"\"")?;
        let rest = &self.text[self.at..];
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
        let end = end.ok_or(Unread::Unfinished)?;
        if rest[end] != b'"' {
            return Err(Unread::Other);
        }
        self.at += end + 1;
        let word = str::from_utf8(&rest[..end]).map_err(|_| Unread::Other)?;
        Ok(Cow::Borrowed(word))
    }

    /// Reads `[1700000000.5,"1.25"]`.
    fn sample(&mut self) -> Result<(i64, f64), Unread> {
        self.expect(b"[")?;
        let time = self.time()?;
        self.expect(b"\"")?;
        let value = self.number()?;
        self.expect(b"]")?;
        Ok((time, value))
    }

    /// Reads seconds with up to three decimals, and the comma behind them.
    fn time(&mut self) -> Result<i64, Unread> {
        let is_zero = self.peek()? == b'0';
        let (seconds, digits) = self.digits(0);
        let is_plain = (1..=MOST_SECONDS).contains(&digits) && !(is_zero && digits > 1);
        let (mut millis, mut decimals) = (seconds, 0);
        let mut end = self.next()?;
        if is_plain && end == b'.' {
            (millis, decimals) = self.digits(seconds);
            end = self.next()?;
            if decimals == 0 {
                return Err(Unread::Other);
            }
        }
        if !is_plain || decimals > 3 || end != b',' {
            return Err(Unread::Other);
        }
        for _ in decimals..3 {
            millis *= 10;
        }
        Ok(millis as i64)
    }

    /// Reads a number and the quote behind it.
    fn number(&mut self) -> Result<f64, Unread> {
        let begin = self.at;
        let is_negative = self.peek()? == b'-';
        self.at += usize::from(is_negative);
        let (whole, digits) = self.digits(0);
        let (mut all, mut decimals) = (whole, 0);
        let mut end = self.next()?;
        if end == b'.' && digits <= MOST_DIGITS {
            (all, decimals) = self.digits(whole);
            end = self.next()?;
            if decimals == 0 {
                return self.any_number(begin);
            }
        }
        let is_exact = digits > 0 && digits + decimals <= MOST_DIGITS && all <= LARGEST_EXACT;
        if end != b'"' || !is_exact {
            return self.any_number(begin);
        }
        let value = all as f64 / POWERS[decimals];
        Ok(if is_negative { -value } else { value })
    }

    /// Reads a number of any form.
    #[cold]
    fn any_number(&mut self, begin: usize) -> Result<f64, Unread> {
        let rest = &self.text[begin..];
        let end = rest
            .iter()
            .position(|byte| *byte == b'"')
            .ok_or(Unread::Unfinished)?;
        self.at = begin + end + 1;
        let text = str::from_utf8(&rest[..end]).map_err(|_| Unread::Other)?;
        text.parse().map_err(|_| Unread::Other)
    }

    /// Appends digits to a number, and returns how many there are. From the twentieth on the number means nothing.
    fn digits(&mut self, before: u64) -> (u64, usize) {
        let begin = self.at;
        let mut number = before;
        while let Some(digit) = self
            .text
            .get(self.at)
            .map(|byte| byte.wrapping_sub(b'0'))
            .filter(|digit| *digit < 10)
        {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        (number, self.at - begin)
    }
}
