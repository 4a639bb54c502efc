//! Templates such as `$1-${name}`, read as Go's `Regexp.Expand` does.

use std::sync::LazyLock;

/// The longest name at the beginning of a text.
static NAME: LazyLock<regex::Regex> = LazyLock::new(|| {
    regex::Regex::new(r"\A[_\p{gc=L}\p{gc=Nd}]+").expect("the pattern is constant and valid")
});

/// A text with references to the groups of a match.
///
/// A reference is `$name` or `${name}`, where the name is as long as possible: letters, digits and underscores, so `$1x` is the
/// group named `1x`. What no group is called stands for nothing. `$$` is a dollar sign; any other dollar sign stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Number(usize),
    Name(String),
}

impl Template {
    /// Reads a template; every text is one.
    pub fn new(template: &str) -> Self {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            rest = if let Some((reference, behind)) = reference(after) {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(reference);
                behind
            } else {
                text.push('$');
                after.strip_prefix('$').unwrap_or(after)
            };
        }
        text.push_str(rest);
        pieces.push(Piece::Text(text));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Self(pieces)
    }

    /// Fills in the groups; `names` tells the numbers of those with names.
    pub(super) fn expand<'t>(
        &self,
        names: &[(String, usize)],
        group: impl Fn(usize) -> Option<&'t str>,
    ) -> String {
        let mut expanded = String::new();
        for piece in &self.0 {
            expanded.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Number(number) => group(*number).unwrap_or_default(),
                // Of several groups with the name, the first that took part counts.
                Piece::Name(name) => names
                    .iter()
                    .filter(|named| named.0 == *name)
                    .find_map(|named| group(named.1))
                    .unwrap_or_default(),
            });
        }
        expanded
    }
}

/// Reads what follows a dollar sign, if it is a reference, and returns it with what is behind it.
fn reference(text: &str) -> Option<(Piece, &str)> {
    let inside = text.strip_prefix('{');
    let (name, rest) = {
        let text = inside.unwrap_or(text);
        text.split_at(NAME.find(text)?.end())
    };
    let rest = match inside {
        Some(_) => rest.strip_prefix('}')?,
        None => rest,
    };
    let is_number = name.bytes().all(|b| b.is_ascii_digit());
    let has_leading_zero = name.len() > 1 && name.starts_with('0');
    let number = name.parse().ok().filter(|_| is_number && !has_leading_zero);
    let piece = number.map_or_else(|| Piece::Name(name.to_owned()), Piece::Number);
    Some((piece, rest))
}
