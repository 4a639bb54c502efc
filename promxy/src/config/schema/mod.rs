//! What a section of the file may hold, as tables, and the one function that reads by them.
//!
//! The tables ([`Schema`]) know for each key its type, its default and when the configuration page shows it, in the page's
//! order. Reading by a table finds wrong types, fills defaults, runs the section's own check and takes note of unknown keys;
//! writing by the same table ([`super::page`]) gives the page. So a key is described once.
//!
//! Errors come as in the original: wrong types are gathered and reported together, with their lines; a check that fails ends
//! reading at once.

mod read;

use promql::SignedDuration;

use super::yaml::Node;
pub(crate) use read::read_section;

/// A kind of section.
#[derive(Debug)]
pub(crate) struct Schema {
    /// The type's name in the original's errors.
    pub(crate) go_type: &'static str,
    /// The keys, in the order of the configuration page.
    pub(crate) fields: &'static [&'static [Field]],
    /// What must hold between the keys.
    pub(crate) check: fn(&Section) -> Result<(), String>,
    /// Why an item of a list of such sections must not be null, where the original says so or fails.
    pub(crate) null: Option<&'static str>,
    /// Whether other keys are kept as they are, without a remark: sections that have no effect here.
    pub(crate) is_open: bool,
}

/// A key.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Default,
    pub(crate) shown: Shown,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    /// A string that must not be seen.
    Secret,
    /// A URL, whose password must not be seen.
    Url,
    Bool,
    /// As `Bool`, where nothing is not the same as false.
    MaybeBool,
    Int,
    /// `1m30s`, or a number of nanoseconds: `time.Duration`.
    GoDuration,
    /// As `GoDuration`, where nothing is not the same as zero.
    MaybeGoDuration,
    /// `1d12h`: Prometheus' durations.
    Duration,
    Time,
    /// Words to words, sorted by key.
    Map,
    /// As `Map`, with values that must not be seen.
    SecretMap,
    /// As `Map`, with keys that must be label names.
    Labels,
    /// Words to lists of words.
    Lists,
    List(&'static Kind),
    /// A list that the page writes on one line.
    FlowList(&'static Kind),
    Section(&'static Schema),
    /// A section that may be absent.
    Optional(&'static Schema),
    Sections(&'static Schema),
    /// Words to sections.
    SectionMap(&'static Schema),
    /// Anything, kept as it is.
    Any,
}

/// What a key is if it is not in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    /// Nothing, zero, empty; of a section, that section's defaults.
    Zero,
    Text(&'static str),
    Bool(bool),
    Int(i64),
    /// Nanoseconds, for either kind of duration.
    Nanos(i64),
    Words(&'static [&'static str]),
}

/// When the configuration page shows a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shown {
    Always,
    /// Unless it is nothing, zero or empty.
    Filled,
    /// Unless it is the default.
    Changed,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Null,
    Text(String),
    Secret(String),
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    GoDuration(i64),
    Duration(SignedDuration),
    /// Milliseconds since 1970.
    Time(i64),
    List(Vec<Item>),
    /// Sorted by key, each once.
    Map(Vec<(String, Item)>),
    Section(Section),
}

/// A section that was read.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) schema: &'static Schema,
    /// One item for each field of the schema.
    items: Vec<Item>,
    /// Keys of an open section that the schema does not name.
    pub(crate) others: Vec<(String, Item)>,
}

impl PartialEq for Section {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.schema, other.schema)
            && (&self.items, &self.others) == (&other.items, &other.others)
    }
}

/// What deserves a look while reading goes on.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Values of wrong types, as the original reports them.
    pub(crate) wrong_types: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

fn zero(kind: Kind) -> Item {
    match kind {
        Kind::Text | Kind::Url => Item::Text(String::new()),
        Kind::Secret => Item::Secret(String::new()),
        Kind::Bool => Item::Bool(false),
        Kind::Int => Item::Int(0),
        Kind::GoDuration => Item::GoDuration(0),
        Kind::Duration => Item::Duration(SignedDuration::ZERO),
        Kind::Map | Kind::SecretMap | Kind::Labels | Kind::Lists | Kind::SectionMap(_) => {
            Item::Map(Vec::new())
        }
        Kind::List(_) | Kind::FlowList(_) | Kind::Sections(_) => Item::List(Vec::new()),
        Kind::Section(schema) => Item::Section(Section::of_defaults(schema)),
        Kind::Optional(_) | Kind::MaybeBool | Kind::MaybeGoDuration | Kind::Time | Kind::Any => {
            Item::Null
        }
    }
}

// === impl Schema, Field, Notes ===

impl Schema {
    pub(crate) fn fields(&self) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().flat_map(|part| part.iter())
    }
}

impl Field {
    /// A key that is nothing, zero or empty by default, and is shown if it is not.
    pub(crate) const fn new(key: &'static str, kind: Kind) -> Self {
        let (default, shown) = (Default::Zero, Shown::Filled);
        Self {
            key,
            kind,
            default,
            shown,
        }
    }

    pub(crate) const fn default(self, default: Default) -> Self {
        Self { default, ..self }
    }

    pub(crate) const fn shown(self, shown: Shown) -> Self {
        Self { shown, ..self }
    }

    /// Returns what the key is if it is not in the file.
    pub(crate) fn default_item(&self) -> Item {
        match (self.default, self.kind) {
            (Default::Zero, kind) => zero(kind),
            (Default::Text(text), _) => Item::Text(text.to_owned()),
            (Default::Bool(flag), _) => Item::Bool(flag),
            (Default::Int(number), _) => Item::Int(number),
            (Default::Nanos(nanos), Kind::Duration) => {
                Item::Duration(SignedDuration::from_nanos(nanos))
            }
            (Default::Nanos(nanos), _) => Item::GoDuration(nanos),
            (Default::Words(words), _) => {
                let words = words.iter();
                Item::List(words.map(|word| Item::Text((*word).to_owned())).collect())
            }
        }
    }
}

impl Notes {
    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    fn wrong_type(&mut self, node: &Node, go_type: &str) {
        let (line, found) = (node.line, node.found());
        self.wrong_types.push(format!(
            "line {line}: cannot unmarshal {found} into {go_type}"
        ));
    }
}

// === impl Item, Section ===

impl Item {
    /// Whether it is nothing, zero or empty.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) | Self::Secret(text) => text.is_empty(),
            Self::Bool(flag) => !flag,
            Self::Int(number) | Self::GoDuration(number) => *number == 0,
            Self::Float(number) => *number == 0.0,
            Self::Duration(duration) => *duration == SignedDuration::ZERO,
            Self::Time(_) => false,
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
            Self::Section(section) => {
                section.items.iter().all(Self::is_zero) && section.others.is_empty()
            }
        }
    }

    /// Returns a string, or nothing of anything else.
    pub(crate) fn as_text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Secret(text) => text,
            _ => "",
        }
    }
}

impl Section {
    /// Returns a section of which nothing is in the file.
    pub(crate) fn of_defaults(schema: &'static Schema) -> Self {
        Self {
            schema,
            items: schema.fields().map(Field::default_item).collect(),
            others: Vec::new(),
        }
    }

    /// Returns the fields with what was read.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'static Field, &Item)> {
        self.schema.fields().zip(&self.items)
    }

    /// Returns what was read of a key, which the schema must have.
    pub(crate) fn item(&self, key: &str) -> &Item {
        let place = self.schema.fields().position(|field| field.key == key);
        debug_assert!(place.is_some(), "{} has no {key}", self.schema.go_type);
        place.map_or(&Item::Null, |place| &self.items[place])
    }

    /// Replaces what was read of a key, which the schema must have.
    pub(crate) fn set(&mut self, key: &str, item: Item) {
        if let Some(place) = self.schema.fields().position(|field| field.key == key) {
            self.items[place] = item;
        }
    }

    pub(crate) fn section_mut(&mut self, key: &str) -> Option<&mut Section> {
        let place = self.schema.fields().position(|field| field.key == key)?;
        match &mut self.items[place] {
            Item::Section(section) => Some(section),
            _ => None,
        }
    }

    /// Whether there is more than nothing, zero or emptiness.
    pub(crate) fn has(&self, key: &str) -> bool {
        !self.item(key).is_zero()
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.item(key).as_text()
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.item(key), Item::Bool(true))
    }

    pub(crate) fn int(&self, key: &str) -> i64 {
        match self.item(key) {
            Item::Int(number) => *number,
            _ => 0,
        }
    }

    /// Returns a duration of either kind in nanoseconds.
    pub(crate) fn nanos(&self, key: &str) -> i64 {
        match self.item(key) {
            Item::GoDuration(nanos) => *nanos,
            Item::Duration(duration) => duration.as_nanos(),
            _ => 0,
        }
    }

    pub(crate) fn section(&self, key: &str) -> Option<&Section> {
        match self.item(key) {
            Item::Section(section) => Some(section),
            _ => None,
        }
    }

    pub(crate) fn list(&self, key: &str) -> &[Item] {
        match self.item(key) {
            Item::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn words(&self, key: &str) -> impl Iterator<Item = &str> {
        self.list(key).iter().map(Item::as_text)
    }

    pub(crate) fn sections(&self, key: &str) -> impl Iterator<Item = &Section> {
        self.list(key).iter().filter_map(|item| match item {
            Item::Section(section) => Some(section),
            _ => None,
        })
    }

    pub(crate) fn map(&self, key: &str) -> &[(String, Item)] {
        match self.item(key) {
            Item::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Returns a map of words to words.
    pub(crate) fn pairs(&self, key: &str) -> Vec<(String, String)> {
        let entries = self.map(key).iter();
        entries
            .map(|(key, item)| (key.clone(), item.as_text().to_owned()))
            .collect()
    }
}
