//! The machine that pickles are programs for.

use std::{collections::HashMap, rc::Rc};

use memchr::memchr;

use super::{
    PickleError,
    value::{Sequence, Text, Value},
};

/// Values that one frame may make. A frame of carbon's own relays makes some thousands.
const MAX_VALUES: usize = 400_000;

/// Runs the program that a frame is.
pub(super) struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    values: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn new(frame: &'a [u8]) -> Self {
        Self {
            rest: frame,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            values: 0,
        }
    }

    pub(super) fn run(mut self) -> Result<Value<'a>, PickleError> {
        loop {
            let opcode = self.take(1)?[0];
            match opcode {
                b'.' => return self.pop(),
                // PROTO, FRAME: nothing to learn from them.
                0x80 => self.skip(1)?,
                0x95 => self.skip(8)?,
                b'(' => self.mark()?,
                b']' => self.push(Value::List(Sequence::default()))?,
                b')' => self.tuple(Vec::new())?,
                b'l' => {
                    let list = Sequence::new(self.pop_to_mark()?)?;
                    self.push(Value::List(list))?;
                }
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.tuple(items)?;
                }
                0x85..=0x87 => {
                    let count = usize::from(opcode - 0x84);
                    let from = self.floor_for(count)?;
                    let items = self.stack.split_off(from);
                    self.tuple(items)?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.list()?.push(item)?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.list()?.extend(items)?;
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

    fn tuple(&mut self, items: Vec<Value<'a>>) -> Result<(), PickleError> {
        let tuple = Sequence::new(items)?;
        self.push(Value::Tuple(Rc::new(tuple)))
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
    fn list(&mut self) -> Result<&mut Sequence<'a>, PickleError> {
        self.floor_for(1)?;
        match self.stack.last_mut() {
            Some(Value::List(list)) => Ok(list),
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
