//! The Graphite pickle protocol, pure: frames of 4 bytes of length (big-endian) and a pickled list of `(path, (time, value))`.
//!
//! A pickle is a program for a small machine. This one knows the opcodes that lists, tuples, numbers and strings are made
//! of, in protocols 0 to 5, and nothing that imports, calls or builds objects: any other opcode ends the frame. Every value
//! is made by one opcode and shared, never copied, so memory is bounded by the length of the frame.

use std::{collections::HashMap, rc::Rc};

use memchr::memchr;
use thiserror::Error;

/// The longest frame, as in carbon.
pub const MAX_FRAME: usize = 1 << 20;
/// Values that one frame may make. A frame of carbon's own relays makes some thousands.
const MAX_VALUES: usize = 400_000;

/// Why a frame is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PickleError {
    /// An opcode that a list of datapoints does not need.
    #[error("opcode 0x{0:02x} is not allowed")]
    Opcode(u8),
    /// The frame ends too early.
    #[error("the pickle is cut short")]
    Short,
    /// An opcode finds on the stack what it cannot use.
    #[error("the pickle is malformed")]
    Malformed,
    /// More values than a frame may make.
    #[error("the pickle makes too many values")]
    TooLarge,
    /// The result is not a list.
    #[error("the pickle is not a list")]
    NotAList,
}

/// What became of the datapoints of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Datapoints {
    /// Written as lines.
    pub taken: u64,
    /// Not of the form `(path, (time, value))`, or with a path or a number that no line can carry.
    pub invalid: u64,
}

/// Reads the pickle of a frame and hands each datapoint on as a line without its line feed: `path value time`.
pub fn read(frame: &[u8], mut line: impl FnMut(&[u8])) -> Result<Datapoints, PickleError> {
    let result = Machine::new(frame).run()?;
    let Value::List(items) = result else {
        return Err(PickleError::NotAList);
    };
    let mut datapoints = Datapoints::default();
    let mut text = Vec::new();
    for item in &items {
        text.clear();
        if write_line(item, &mut text).is_some() {
            line(&text);
            datapoints.taken += 1;
        } else {
            datapoints.invalid += 1;
        }
    }
    Ok(datapoints)
}

fn write_line(item: &Value<'_>, text: &mut Vec<u8>) -> Option<()> {
    let [path, point] = item.sequence()? else {
        return None;
    };
    let [time, value] = point.sequence()? else {
        return None;
    };
    let Value::Text(path) = path else {
        return None;
    };
    let path = path.as_ref();
    let sendable = |byte: &u8| !byte.is_ascii_whitespace() && !byte.is_ascii_control();
    if path.is_empty() || !path.iter().all(sendable) {
        return None;
    }
    text.extend_from_slice(path);
    for number in [value, time] {
        text.push(b' ');
        text.extend_from_slice(number.number()?.as_bytes());
    }
    (text.len() < crate::lines::MAX_LINE).then_some(())
}

/// What the machine makes.
#[derive(Debug, Clone)]
enum Value<'a> {
    Nothing,
    Int(i64),
    Float(f64),
    Text(Text<'a>),
    Tuple(Rc<[Value<'a>]>),
    List(Vec<Value<'a>>),
}

/// Text in the frame, or text that had to be unescaped.
#[derive(Debug, Clone)]
enum Text<'a> {
    Here(&'a [u8]),
    Unescaped(Rc<[u8]>),
}

impl AsRef<[u8]> for Text<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Here(text) => text,
            Self::Unescaped(text) => text,
        }
    }
}

impl Value<'_> {
    fn sequence(&self) -> Option<&[Self]> {
        match self {
            Self::Tuple(items) => Some(items),
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The number as a line carries it; text that is a number counts too, as Python's `float` takes it.
    fn number(&self) -> Option<String> {
        match self {
            Self::Int(number) => Some(number.to_string()),
            Self::Float(number) if number.is_finite() => Some(format!("{number:?}")),
            Self::Text(text) => {
                let text = std::str::from_utf8(text.as_ref()).ok()?.trim();
                let number: f64 = text.parse().ok()?;
                number.is_finite().then(|| text.to_owned())
            }
            _ => None,
        }
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    values: usize,
}

impl<'a> Machine<'a> {
    fn new(frame: &'a [u8]) -> Self {
        Self {
            rest: frame,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            values: 0,
        }
    }

    fn run(mut self) -> Result<Value<'a>, PickleError> {
        loop {
            let opcode = self.take(1)?[0];
            match opcode {
                b'.' => return self.pop(),
                // PROTO, FRAME: nothing to learn from them.
                0x80 => self.skip(1)?,
                0x95 => self.skip(8)?,
                b'(' => self.mark()?,
                b']' => self.push(Value::List(Vec::new()))?,
                b')' => self.push(Value::Tuple(Rc::from([])))?,
                b'l' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::List(items))?;
                }
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::Tuple(items.into()))?;
                }
                0x85..=0x87 => {
                    let count = usize::from(opcode - 0x84);
                    let from = self.floor_for(count)?;
                    let items = self.stack.split_off(from);
                    self.push(Value::Tuple(items.into()))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.list()?.push(item);
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.list()?.extend(items);
                }
                b'N' => self.push(Value::Nothing)?,
                0x88 => self.push(Value::Int(1))?,
                0x89 => self.push(Value::Int(0))?,
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()))?;
                }
                b'K' => {
                    let [number] = self.array()?;
                    self.push(Value::Int(number.into()))?;
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()))?;
                }
                0x8a => {
                    let length = usize::from(self.take(1)?[0]);
                    let number = little_endian(self.take(length)?)?;
                    self.push(Value::Int(number))?;
                }
                b'I' | b'L' => {
                    let text = self.line_text()?;
                    let text = text.strip_suffix('L').unwrap_or(text);
                    let number = text.parse().map_err(|_| PickleError::Malformed)?;
                    self.push(Value::Int(number))?;
                }
                b'F' => {
                    let number = self
                        .line_text()?
                        .parse()
                        .map_err(|_| PickleError::Malformed)?;
                    self.push(Value::Float(number))?;
                }
                b'G' => {
                    let number = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(number))?;
                }
                b'U' | 0x8c | b'C' => {
                    let length = usize::from(self.take(1)?[0]);
                    self.text(length)?;
                }
                b'T' | b'X' | b'B' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.text(length as usize)?;
                }
                0x8d | 0x8e => {
                    let length = u64::from_le_bytes(self.array()?);
                    self.text(usize::try_from(length).map_err(|_| PickleError::Short)?)?;
                }
                b'S' => {
                    let quoted = self.line_text()?;
                    let text = unquote(quoted).ok_or(PickleError::Malformed)?;
                    self.push(Value::Text(Text::Unescaped(text.into())))?;
                }
                b'V' => {
                    let text = self.line_text()?.as_bytes();
                    self.push(Value::Text(Text::Here(text)))?;
                }
                b'p' => {
                    let place = self.place_text()?;
                    self.memoize(place)?;
                }
                b'q' => {
                    let [place] = self.array()?;
                    self.memoize(place.into())?;
                }
                b'r' => {
                    let place = u32::from_le_bytes(self.array()?);
                    self.memoize(place)?;
                }
                0x94 => self.memoize(self.memo.len() as u32)?,
                b'g' => {
                    let place = self.place_text()?;
                    self.recall(place)?;
                }
                b'h' => {
                    let [place] = self.array()?;
                    self.recall(place.into())?;
                }
                b'j' => {
                    let place = u32::from_le_bytes(self.array()?);
                    self.recall(place)?;
                }
                other => return Err(PickleError::Opcode(other)),
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(PickleError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), PickleError> {
        self.take(count).map(|_skipped| ())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| PickleError::Short)
    }

    /// The rest of the line, as text opcodes of protocol 0 take it.
    fn line_text(&mut self) -> Result<&'a str, PickleError> {
        let end = memchr(b'\n', self.rest).ok_or(PickleError::Short)?;
        let line = self.take(end + 1)?;
        let line = std::str::from_utf8(&line[..end]).map_err(|_| PickleError::Malformed)?;
        Ok(line.strip_suffix('\r').unwrap_or(line))
    }

    fn place_text(&mut self) -> Result<u32, PickleError> {
        self.line_text()?
            .parse()
            .map_err(|_| PickleError::Malformed)
    }

    fn count_value(&mut self) -> Result<(), PickleError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(PickleError::TooLarge);
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        self.count_value()?;
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<(), PickleError> {
        let text = self.take(length)?;
        self.push(Value::Text(Text::Here(text)))
    }

    fn mark(&mut self) -> Result<(), PickleError> {
        self.count_value()?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Where the last `count` values begin; they must lie above the last mark.
    fn floor_for(&self, count: usize) -> Result<usize, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count);
        from.filter(|from| *from >= floor)
            .ok_or(PickleError::Malformed)
    }

    fn pop(&mut self) -> Result<Value<'a>, PickleError> {
        self.floor_for(1)?;
        self.stack.pop().ok_or(PickleError::Malformed)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, PickleError> {
        let mark = self.marks.pop().ok_or(PickleError::Malformed)?;
        Ok(self.stack.split_off(mark))
    }

    /// The list on top of the stack.
    fn list(&mut self) -> Result<&mut Vec<Value<'a>>, PickleError> {
        self.floor_for(1)?;
        match self.stack.last_mut() {
            Some(Value::List(items)) => Ok(items),
            _ => Err(PickleError::Malformed),
        }
    }

    /// Remembers the top of the stack. A list is not remembered: it would have to be copied, and no datapoint needs it.
    fn memoize(&mut self, place: u32) -> Result<(), PickleError> {
        self.count_value()?;
        let value = match self.stack.last().ok_or(PickleError::Malformed)? {
            Value::List(_) => Value::Nothing,
            other => other.clone(),
        };
        self.memo.insert(place, value);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), PickleError> {
        let value = self.memo.get(&place).cloned();
        self.push(value.ok_or(PickleError::Malformed)?)
    }
}

/// A signed number of up to 8 bytes.
fn little_endian(bytes: &[u8]) -> Result<i64, PickleError> {
    if bytes.len() > 8 {
        return Err(PickleError::Malformed);
    }
    let sign = match bytes.last() {
        Some(last) if *last >= 0x80 => 0xff,
        _ => 0,
    };
    let mut full = [sign; 8];
    full[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(full))
}

/// Python's `'text'` or `"text"` of protocol 0. Escapes other than of quotes and backslashes do not occur in metric names.
fn unquote(quoted: &str) -> Option<Vec<u8>> {
    let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => text.push(
                bytes
                    .next()
                    .filter(|next| matches!(next, b'\\' | b'\'' | b'"'))?,
            ),
            _ => text.push(byte),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(frame: &[u8]) -> (Result<Datapoints, PickleError>, Vec<String>) {
        let mut lines = Vec::new();
        let result = read(frame, |line| {
            lines.push(String::from_utf8_lossy(line).into_owned());
        });
        (result, lines)
    }

    #[test]
    fn what_python_pickles_in_every_protocol_is_read() {
        // pickle.dumps([("a.b", (1500000000, 1.5)), ("c", (1500000001, 7))], protocol)
        let frames: [&[u8]; 4] = [
            b"(lp0\n(Va.b\np1\n(I1500000000\nF1.5\ntp2\ntp3\na(Vc\np4\n(I1500000001\nI7\ntp5\ntp6\na.",
            b"]q\x00((X\x03\x00\x00\x00a.bq\x01(J\x00/hYG?\xf8\x00\x00\x00\x00\x00\x00tq\x02tq\x03(X\x01\x00\x00\x00cq\x04(J\x01/hYK\x07tq\x05tq\x06e.",
            b"\x80\x02]q\x00(X\x03\x00\x00\x00a.bq\x01J\x00/hYG?\xf8\x00\x00\x00\x00\x00\x00\x86q\x02\x86q\x03X\x01\x00\x00\x00cq\x04J\x01/hYK\x07\x86q\x05\x86q\x06e.",
            b"\x80\x04\x95,\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\x03a.b\x94J\x00/hYG?\xf8\x00\x00\x00\x00\x00\x00\x86\x94\x86\x94\x8c\x01c\x94J\x01/hYK\x07\x86\x94\x86\x94e.",
        ];
        for frame in frames {
            let (result, lines) = lines(frame);
            assert_eq!(
                result,
                Ok(Datapoints {
                    taken: 2,
                    invalid: 0
                }),
                "{frame:?}"
            );
            assert_eq!(lines, ["a.b 1.5 1500000000", "c 7 1500000001"]);
        }
    }

    #[test]
    fn opcodes_that_import_or_call_end_the_frame() {
        for frame in [
            b"cos\nsystem\n(S'id'\ntR.".as_slice(),
            b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
            b"(i__main__\nX\n.",
            b"}.",
        ] {
            assert!(
                matches!(lines(frame).0, Err(PickleError::Opcode(_))),
                "{frame:?}"
            );
        }
    }

    #[test]
    fn datapoints_that_no_line_can_carry_are_counted() {
        let f = |frame: &[u8]| {
            assert_eq!(
                lines(frame).0,
                Ok(Datapoints {
                    taken: 0,
                    invalid: 1
                }),
                "{frame:?}"
            );
        };
        f(b"]((U\x03a b(K\x01K\x02tte.");
        f(b"]((U\x03a\nb(K\x01K\x02tte.");
        f(b"]((U\x00(K\x01K\x02tte.");
        f(b"]((U\x01a(K\x01G\x7f\xf8\x00\x00\x00\x00\x00\x00tte.");
        f(b"](K\x01e.");
        f(b"]((U\x01aK\x01te.");
    }

    #[test]
    fn what_is_remembered_many_times_takes_no_more_memory() {
        let mut frame = b"](".to_vec();
        frame.extend(b"K\x01".repeat(100_000));
        frame.push(b'e');
        frame.extend(b"q\x00h\x00".repeat(100_000));
        frame.extend(b"\x94".repeat(200_000));
        assert_eq!(lines(&frame).0, Err(PickleError::TooLarge));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(frame in prop::collection::vec(any::<u8>(), 0..300)) {
            let _outcome = lines(&frame);
        }

        #[test]
        fn any_program_of_allowed_opcodes_is_read_or_refused(
            opcodes in prop::collection::vec(
                prop::sample::select(&b"(])ltae\x85\x86\x87NJKMGU\x8cTXqhr\x94jIFSVpg.\x00\x01\x02\n1'"[..]),
                0..300,
            ),
        ) {
            let _outcome = lines(&opcodes);
        }
    }
}
