//! A YAML document as a tree that remembers lines, and what its plain words mean.
//!
//! The original reads with a YAML 1.1 library: `yes` is true, `010` is eight, the last of two equal keys wins, and an error
//! names the line and what was found there ("cannot unmarshal !!str `x` into bool"). The tree keeps what that takes.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle};

/// Aliases may repeat parts of a document; this is how many nodes it may have in all.
const MOST_NODES: usize = 1_000_000;

/// How deep nodes may nest, counted through aliases.
const DEEPEST: usize = 256;

/// A part of the document.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The line on which it starts, from one.
    pub(crate) line: usize,
    /// The column in which it starts, from one.
    pub(crate) column: usize,
    pub(crate) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    /// Keys and values in order, merged (`<<`) ones first. Of equal keys the last counts.
    Map(Vec<(String, Node)>),
}

/// A word, with what quoting says about it.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Whether it is a string whatever it looks like.
    pub(crate) is_quoted: bool,
}

/// What a plain word means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Timestamp,
    Text,
}

/// Reads the first document of a text; an empty one is null.
///
/// The error is in the form of the original's library: `yaml: line 3: ...`.
pub(crate) fn read(text: &str) -> Result<Node, String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|e| format!("yaml: line {}: {}", e.marker().line(), e.info()))?;
        let (line, column) = (span.start.line(), span.start.col() + 1);
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        builder
            .event(event, (line, column))
            .map_err(|reason| format!("yaml: line {line}: {reason}"))?;
    }
    Ok(builder.root.unwrap_or(Node::null(1)))
}

impl Node {
    fn null(line: usize) -> Self {
        let (text, is_quoted) = (String::new(), false);
        let value = Value::Scalar(Scalar { text, is_quoted });
        Self {
            line,
            column: 0,
            value,
        }
    }

    /// Whether the node stands for nothing.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.meaning() == Meaning::Null)
    }

    /// Returns what the original's library says was found: ``!!str `x` ``, `!!seq`.
    pub(crate) fn found(&self) -> String {
        let Value::Scalar(scalar) = &self.value else {
            let is_list = matches!(self.value, Value::List(_));
            return if is_list { "!!seq" } else { "!!map" }.to_owned();
        };
        let tag = match scalar.meaning() {
            Meaning::Null => "!!null",
            Meaning::Bool(_) => "!!bool",
            Meaning::Int(_) => "!!int",
            Meaning::Float(_) => "!!float",
            Meaning::Timestamp => "!!timestamp",
            Meaning::Text => "!!str",
        };
        let text = &scalar.text;
        if text.len() > 10 {
            let cut = (0..=7).rev().find_map(|cut| text.get(..cut));
            let start = cut.unwrap_or_default();
            return format!("{tag} `{start}...`");
        }
        format!("{tag} `{text}`")
    }

    fn nodes(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::nodes).sum(),
            Value::Map(entries) => entries.iter().map(|(_, value)| value.nodes()).sum(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(entries) => entries.iter().map(|(_, v)| v.depth()).max().unwrap_or(0),
        }
    }
}

impl Scalar {
    /// Returns what the word means in YAML 1.1.
    pub(crate) fn meaning(&self) -> Meaning {
        if self.is_quoted {
            Meaning::Text
        } else {
            meaning(&self.text)
        }
    }
}

/// Returns what a plain word means in YAML 1.1.
pub(crate) fn meaning(word: &str) -> Meaning {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Meaning::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Meaning::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Meaning::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Meaning::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Meaning::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let looks_like_number = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    if !looks_like_number {
        return Meaning::Text;
    }
    let digits = word.replace('_', "");
    if let Some(number) = integer(&digits) {
        return Meaning::Int(number);
    }
    let is_float = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if let (true, Ok(number)) = (is_float, digits.parse()) {
        return Meaning::Float(number);
    }
    if crate::config::time::is_yaml_timestamp(word) {
        return Meaning::Timestamp;
    }
    Meaning::Text
}

/// Reads an integer as Go's `ParseInt` does with base 0: `0x1f`, `0b11`, `0o17` and `017` have their own bases.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

/// A list or map whose end has not come.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<String>,
    /// What `<<` brought in.
    merged: Vec<(String, Node)>,
}

/// Puts events together. Not recursive: the depth of a document is bounded by [`DEEPEST`].
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, place: (usize, usize)) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text_tag = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                let scalar = Scalar {
                    text: text.into_owned(),
                    is_quoted: style != ScalarStyle::Plain || is_text_tag,
                };
                let value = Value::Scalar(scalar);
                let (line, column) = place;
                let node = Node {
                    line,
                    column,
                    value,
                };
                self.finished(node, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.start(Value::List(Vec::new()), place, anchor)
            }
            Event::MappingStart(_, anchor, _) => self.start(Value::Map(Vec::new()), place, anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut open) = self.open.pop() else {
                    return Ok(());
                };
                if let Value::Map(entries) = &mut open.node.value {
                    entries.splice(0..0, open.merged);
                }
                self.finished(open.node, open.anchor)
            }
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let node = node.ok_or("an alias inside of what it stands for")?;
                self.finished(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn start(
        &mut self,
        value: Value,
        (line, column): (usize, usize),
        anchor: usize,
    ) -> Result<(), String> {
        if self.open.len() >= DEEPEST {
            return Err("nested too deeply".to_owned());
        }
        self.open.push(Open {
            node: Node {
                line,
                column,
                value,
            },
            anchor,
            key: None,
            merged: Vec::new(),
        });
        Ok(())
    }

    /// Puts a whole node where it belongs.
    fn finished(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        self.nodes += node.nodes();
        if self.nodes > MOST_NODES {
            return Err("document contains excessive aliasing".to_owned());
        }
        if anchor != 0 {
            if self.open.len() + node.depth() > DEEPEST {
                return Err("nested too deeply".to_owned());
            }
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::Scalar(_) => {}
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                None => {
                    let Value::Scalar(key) = node.value else {
                        return Err("a key must be a word".to_owned());
                    };
                    open.key = Some(key.text);
                }
                Some(key) if key == "<<" => merge(node, &mut open.merged)?,
                Some(key) => entries.push((key, node)),
            },
        }
        Ok(())
    }
}

/// Takes the entries of a map, or of a list of maps of which the first counts most.
fn merge(node: Node, merged: &mut Vec<(String, Node)>) -> Result<(), String> {
    const WRONG: &str = "map merge requires map or sequence of maps as the value";
    match node.value {
        Value::Map(entries) => merged.extend(entries),
        Value::List(items) => {
            for item in items.into_iter().rev() {
                let Value::Map(entries) = item.value else {
                    return Err(WRONG.to_owned());
                };
                merged.extend(entries);
            }
        }
        Value::Scalar(_) => return Err(WRONG.to_owned()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_mean_what_yaml_1_1_says() {
        let f = |word: &str, expected: Meaning| assert_eq!(meaning(word), expected, "{word}");
        f("~", Meaning::Null);
        f("on", Meaning::Bool(true));
        f("NO", Meaning::Bool(false));
        f("010", Meaning::Int(8));
        f("0x_1F", Meaning::Int(31));
        f("-1_000", Meaning::Int(-1000));
        f("1e3", Meaning::Float(1000.0));
        f("2020-01-01", Meaning::Timestamp);
        f("2020-01-01T00:00:00Z", Meaning::Timestamp);
        f("1.2.3.4", Meaning::Text);
        f("5x", Meaning::Text);
        f("-", Meaning::Text);
        f("x:1", Meaning::Text);
    }

    #[test]
    fn merged_keys_yield_to_own_ones() {
        let node = read("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n").unwrap();
        let Value::Map(top) = node.value else {
            panic!("a map")
        };
        let Value::Map(b) = &top[1].1.value else {
            panic!("a map")
        };
        let keys: Vec<_> = b
            .iter()
            .map(|(key, node)| (key.as_str(), node.found()))
            .collect();
        let expected = [("x", "!!int `1`"), ("y", "!!int `2`"), ("y", "!!int `3`")];
        assert_eq!(keys, expected.map(|(key, found)| (key, found.to_owned())));
    }

    #[test]
    fn hostile_documents_are_refused() {
        assert!(read(&"[".repeat(100_000)).is_err());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let alias = format!("*a{},", level - 1).repeat(10);
            bomb.extend([format!("a{level}: &a{level} ["), alias, "]\n".to_owned()]);
        }
        assert_eq!(
            read(&bomb).unwrap_err(),
            "yaml: line 6: document contains excessive aliasing"
        );
    }
}
