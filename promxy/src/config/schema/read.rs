//! Reading a section by its table.

use promql::SignedDuration;
use shared::config::duration::parse_nanos;

use super::{Item, Kind, Notes, Schema, Section, zero};
use crate::config::{
    discovery::is_missing_kind,
    go_url,
    time::{rfc3339, yaml_timestamp},
    yaml::{Meaning, Node, Scalar, Value},
};

/// Reads a node as a section; `path` names it in remarks.
pub(crate) fn read_section(
    node: &Node,
    schema: &'static Schema,
    path: &str,
    notes: &mut Notes,
) -> Result<Section, String> {
    let entries: &[(String, Node)] = match &node.value {
        Value::Map(entries) => entries,
        _ if node.is_null() => &[],
        _ => {
            notes.wrong_type(node, schema.go_type);
            return Ok(Section::of_defaults(schema));
        }
    };
    let wrong_before = notes.wrong_types.len();
    let mut section = Section::of_defaults(schema);
    for (position, (key, node)) in entries.iter().enumerate() {
        let path = &join(path, key);
        if entries
            .iter()
            .skip(position + 1)
            .any(|(later, _)| later == key)
        {
            let line = node.line;
            notes.warn(format!(
                "{path}: given more than once; line {line} does not count"
            ));
            continue;
        }
        match schema.fields().position(|field| field.key == key) {
            Some(place) => {
                let field = schema.fields().nth(place).expect("it was found there");
                section.items[place] = read_item(node, field.kind, path, notes)?;
            }
            None if schema.is_open => {
                let item = read_item(node, Kind::Any, path, notes)?;
                section.others.push((key.clone(), item));
            }
            None if is_missing_kind(key) => {
                return Err(format!(
                    "{path}: this kind of discovery is not supported here"
                ));
            }
            None => notes.warn(format!("{path}: unknown key, ignored")),
        }
    }
    if notes.wrong_types.len() == wrong_before {
        (schema.check)(&section)?;
    }
    Ok(section)
}

/// Reads a node as a value of a kind. Null is the kind's zero, as in the original, whatever the default.
fn read_item(node: &Node, kind: Kind, path: &str, notes: &mut Notes) -> Result<Item, String> {
    match kind {
        Kind::Section(schema) => match schema.null.filter(|_| node.is_null()) {
            Some(reason) => return Err(reason.to_owned()),
            None => return read_section(node, schema, path, notes).map(Item::Section),
        },
        Kind::Any => return Ok(any(node)),
        _ if node.is_null() => return Ok(zero(kind)),
        Kind::Optional(schema) => {
            return read_section(node, schema, path, notes).map(Item::Section);
        }
        _ => {}
    }
    match (&node.value, kind) {
        (Value::List(nodes), Kind::List(kind) | Kind::FlowList(kind)) => {
            let read = |(number, node)| read_item(node, *kind, &format!("{path}[{number}]"), notes);
            let items: Result<Vec<Item>, String> = nodes.iter().enumerate().map(read).collect();
            items.map(Item::List)
        }
        (Value::List(nodes), Kind::Sections(schema)) => {
            let read = |(number, node)| {
                read_item(
                    node,
                    Kind::Section(schema),
                    &format!("{path}[{number}]"),
                    notes,
                )
            };
            let items: Result<Vec<Item>, String> = nodes.iter().enumerate().map(read).collect();
            items.map(Item::List)
        }
        (Value::Map(entries), Kind::Map | Kind::SecretMap | Kind::Labels | Kind::Lists) => {
            let kind = match kind {
                Kind::SecretMap => Kind::Secret,
                Kind::Lists => Kind::List(&Kind::Text),
                _ => Kind::Text,
            };
            read_map(entries, kind, path, notes)
        }
        (Value::Map(entries), Kind::SectionMap(schema)) => {
            read_map(entries, Kind::Section(schema), path, notes)
        }
        (Value::Scalar(scalar), _) => match read_scalar(scalar, kind)? {
            Some(item @ Item::GoDuration(nanos @ 1..)) if scalar.meaning() != Meaning::Text => {
                notes.warn(format!("{path}: {nanos} without a unit means nanoseconds"));
                Ok(item)
            }
            Some(item) => Ok(item),
            None => {
                notes.wrong_type(node, go_type(kind));
                Ok(zero(kind))
            }
        },
        _ => {
            notes.wrong_type(node, go_type(kind));
            Ok(zero(kind))
        }
    }
    .and_then(|item| match (&item, kind) {
        (Item::Map(entries), Kind::Labels) if entries.iter().any(|(name, _)| name.is_empty()) => {
            Err("\"\" is not a valid label name".to_owned())
        }
        _ => Ok(item),
    })
}

fn read_map(
    entries: &[(String, Node)],
    kind: Kind,
    path: &str,
    notes: &mut Notes,
) -> Result<Item, String> {
    let mut map: Vec<(String, Item)> = Vec::with_capacity(entries.len());
    for (key, node) in entries {
        let item = read_item(node, kind, &join(path, key), notes)?;
        match map.binary_search_by(|(known, _)| known.cmp(key)) {
            Ok(place) => map[place].1 = item,
            Err(place) => map.insert(place, (key.clone(), item)),
        }
    }
    Ok(Item::Map(map))
}

/// Reads a word; `None` if it is of another type.
fn read_scalar(scalar: &Scalar, kind: Kind) -> Result<Option<Item>, String> {
    let text = &scalar.text;
    let meaning = scalar.meaning();
    let number = match meaning {
        Meaning::Int(number) => Some(number),
        Meaning::Float(number) if number.abs() < 9.2e18 => Some(number as i64),
        _ => None,
    };
    Ok(match kind {
        Kind::Text => Some(Item::Text(text.clone())),
        Kind::Secret => Some(Item::Secret(text.clone())),
        Kind::Url => {
            go_url::check(text)?;
            Some(Item::Text(text.clone()))
        }
        Kind::Bool | Kind::MaybeBool => match meaning {
            Meaning::Bool(flag) => Some(Item::Bool(flag)),
            _ => None,
        },
        Kind::Int => number.map(Item::Int),
        Kind::GoDuration | Kind::MaybeGoDuration => match meaning {
            Meaning::Text => parse_nanos(text).ok().map(Item::GoDuration),
            _ => number.map(Item::GoDuration),
        },
        Kind::Duration => Some(Item::Duration(
            text.parse::<SignedDuration>().map_err(|e| e.to_string())?,
        )),
        Kind::Time => match meaning {
            Meaning::Timestamp => yaml_timestamp(text).map(Item::Time),
            _ => Some(Item::Time(rfc3339(text)?)),
        },
        _ => None,
    })
}

/// Keeps a value of a section that has no effect.
fn any(node: &Node) -> Item {
    match &node.value {
        Value::Scalar(scalar) => match scalar.meaning() {
            Meaning::Null => Item::Null,
            Meaning::Bool(flag) => Item::Bool(flag),
            Meaning::Int(number) => Item::Int(number),
            Meaning::Float(number) => Item::Float(number),
            Meaning::Timestamp | Meaning::Text => Item::Text(scalar.text.clone()),
        },
        Value::List(nodes) => Item::List(nodes.iter().map(any).collect()),
        Value::Map(entries) => {
            let entries = entries.iter();
            Item::Map(
                entries
                    .map(|(key, node)| (key.clone(), any(node)))
                    .collect(),
            )
        }
    }
}

/// The name of a kind's type in the original's errors.
fn go_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Secret | Kind::Url | Kind::Duration => "string",
        Kind::Bool | Kind::MaybeBool => "bool",
        Kind::Int => "int",
        Kind::GoDuration | Kind::MaybeGoDuration => "time.Duration",
        Kind::Time => "time.Time",
        Kind::Map | Kind::SecretMap => "map[string]string",
        Kind::Labels => "model.LabelSet",
        Kind::Lists => "map[string][]string",
        Kind::List(Kind::Text) | Kind::FlowList(Kind::Text) => "[]string",
        Kind::List(_) | Kind::FlowList(_) | Kind::Sections(_) => "a list",
        Kind::Section(schema) | Kind::Optional(schema) => schema.go_type,
        Kind::SectionMap(_) => "a map",
        Kind::Any => "anything",
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
