//! What pickles are made of.

use std::rc::Rc;

use super::PickleError;

/// How far sequences may stand within sequences; a list of datapoints needs three levels. Values are dropped level by level, so
/// that without a limit a frame could exhaust the stack.
const MAX_DEPTH: u8 = 16;

/// What the machine makes.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Nothing,
    Int(i64),
    Float(f64),
    Text(Text<'a>),
    Tuple(Rc<Sequence<'a>>),
    List(Sequence<'a>),
}

/// The items of a list or tuple.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequence<'a> {
    pub(super) items: Vec<Value<'a>>,
    /// How many sequences stand within one another below this one.
    depth: u8,
}

impl<'a> Sequence<'a> {
    pub(super) fn new(items: Vec<Value<'a>>) -> Result<Self, PickleError> {
        let mut sequence = Self::default();
        sequence.extend(items)?;
        Ok(sequence)
    }

    pub(super) fn extend(&mut self, items: Vec<Value<'a>>) -> Result<(), PickleError> {
        for item in &items {
            self.make_room(item)?;
        }
        self.items.extend(items);
        Ok(())
    }

    pub(super) fn push(&mut self, item: Value<'a>) -> Result<(), PickleError> {
        self.make_room(&item)?;
        self.items.push(item);
        Ok(())
    }

    fn make_room(&mut self, item: &Value<'_>) -> Result<(), PickleError> {
        if let Some(inner) = item.sequence() {
            self.depth = self.depth.max(inner.depth + 1);
        }
        if self.depth > MAX_DEPTH {
            return Err(PickleError::TooDeep);
        }
        Ok(())
    }
}

/// Text in the frame, or text that had to be unescaped.
#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
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

impl<'a> Value<'a> {
    fn sequence(&self) -> Option<&Sequence<'a>> {
        match self {
            Self::Tuple(sequence) => Some(sequence),
            Self::List(sequence) => Some(sequence),
            _ => None,
        }
    }

    /// The items of a list or tuple.
    pub(super) fn items(&self) -> Option<&[Self]> {
        self.sequence().map(|sequence| sequence.items.as_slice())
    }

    /// The number as a line carries it; text that is a number counts too, as Python's `float` takes it.
    pub(super) fn number(&self) -> Option<String> {
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
