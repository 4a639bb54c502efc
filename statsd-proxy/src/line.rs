//! What a StatsD line is, and which part of it is hashed. Pure.
//!
//! Both originals hash the text before the first `:` and look at little else (spec sections 4.1 and 4.2). DogStatsD events
//! (`_e{5,4}:title|text`) and service checks (`_sc|name|0`) would then all share a few nodes by accident, so they are
//! hashed by their title and name.

use memchr::{memchr, memchr2};

/// Which lines are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// go-statsd-proxy: a line needs a `:` and, after it, a `|`. One trailing carriage return is cut.
    GoStatsdProxy(Types),
    /// statsd's `proxy.js`: everything but an empty line.
    Statsd,
}

/// Which metric types pass in go-statsd-proxy's grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Types {
    /// All: DogStatsD's `d`, sets, events, service checks and whatever comes next.
    Any,
    /// The original's five: `c`, `ms`, `g`, `h`, `s` (`strictTypes`).
    Known,
}

/// What is to be done with one piece between line feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Forward `line` to the owner of `key`.
    Line {
        /// The text that is hashed.
        key: &'a [u8],
        /// The bytes to forward.
        line: &'a [u8],
    },
    /// Nothing stands there.
    Blank,
    /// Not a metric.
    Malformed,
    /// A metric of a type that [`Types::Known`] does not let pass.
    UnknownType(&'a [u8]),
}

impl Grammar {
    /// Reads one piece, which has no line feed in it.
    pub fn read(self, piece: &[u8]) -> Piece<'_> {
        match self {
            Self::Statsd if piece.is_empty() => Piece::Blank,
            Self::Statsd => Piece::Line {
                key: key(piece),
                line: piece,
            },
            Self::GoStatsdProxy(types) => read_go(piece, types),
        }
    }
}

fn read_go(piece: &[u8], types: Types) -> Piece<'_> {
    let line = piece.strip_suffix(b"\r").unwrap_or(piece);
    if line.is_empty() {
        return Piece::Blank;
    }
    if line[0] == b'_'
        && types == Types::Any
        && (line.starts_with(b"_sc|") || line.starts_with(b"_e{"))
    {
        return Piece::Line {
            key: key(line),
            line,
        };
    }
    let Some(colon) = memchr(b':', line) else {
        return Piece::Malformed;
    };
    let (key, value) = (&line[..colon], &line[colon + 1..]);
    let Some(pipe) = memchr(b'|', value) else {
        return Piece::Malformed;
    };
    if types == Types::Known {
        let kind = metric_type(&value[pipe + 1..]);
        if !matches!(kind, b"c" | b"ms" | b"g" | b"h" | b"s") {
            return Piece::UnknownType(kind);
        }
    }
    Piece::Line { key, line }
}

/// The type field: up to the next field, or to the `@` that some clients put right behind the type.
fn metric_type(fields: &[u8]) -> &[u8] {
    &fields[..memchr2(b'|', b'@', fields).unwrap_or(fields.len())]
}

/// The text that is hashed: an event's title, a service check's name, a metric's name, else the whole line.
fn key(line: &[u8]) -> &[u8] {
    let special = match line {
        [b'_', b's', b'c', b'|', check @ ..] => Some(until(b'|', check)),
        [b'_', b'e', b'{', event @ ..] => event_title(event),
        _ => None,
    };
    special.unwrap_or_else(|| until(b':', line))
}

/// The title in `5,4}:title|text`, by its stated length; `None` if the line is not of that form.
fn event_title(event: &[u8]) -> Option<&[u8]> {
    let body = memchr(b':', event)?;
    let length = std::str::from_utf8(until(b',', event)).ok()?.parse().ok()?;
    event[body + 1..].get(..length)
}

fn until(end: u8, text: &[u8]) -> &[u8] {
    &text[..memchr(end, text).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Grammar = Grammar::GoStatsdProxy(Types::Any);
    const KNOWN: Grammar = Grammar::GoStatsdProxy(Types::Known);

    fn forwarded<'a>(key: &'a str, line: &'a str) -> Piece<'a> {
        Piece::Line {
            key: key.as_bytes(),
            line: line.as_bytes(),
        }
    }

    #[test]
    fn go_grammar_needs_a_colon_and_a_pipe_after_it() {
        let f = |input: &str, expected: Piece<'_>| {
            assert_eq!(ANY.read(input.as_bytes()), expected, "{input:?}")
        };
        f("gorets:1|c", forwarded("gorets", "gorets:1|c"));
        // Neither name nor value is checked.
        f(":|c", forwarded("", ":|c"));
        f("gorets:abc|c", forwarded("gorets", "gorets:abc|c"));
        // Packed values and two colons crash the original.
        f(
            "page.views:1:2:32|d",
            forwarded("page.views", "page.views:1:2:32|d"),
        );
        f("a:b:1|c", forwarded("a", "a:b:1|c"));
        f("gorets:1", Piece::Malformed);
        f("garbage", Piece::Malformed);
        // The pipe must follow the colon.
        f("a|b:c", Piece::Malformed);
        f("Host: x", Piece::Malformed);
    }

    #[test]
    fn go_grammar_cuts_one_carriage_return() {
        assert_eq!(ANY.read(b"a:1|c\r"), forwarded("a", "a:1|c"));
        assert_eq!(ANY.read(b"a:1|c\r\r"), forwarded("a", "a:1|c\r"));
        assert_eq!(ANY.read(b"\r"), Piece::Blank);
        assert_eq!(ANY.read(b""), Piece::Blank);
    }

    #[test]
    fn strict_types_lets_the_five_original_types_pass() {
        for kind in ["c", "ms", "g", "h", "s"] {
            let line = format!("a:1|{kind}|@0.1|#t:x");
            assert_eq!(KNOWN.read(line.as_bytes()), forwarded("a", &line));
        }
        let f = |input: &str, kind: &str| {
            assert_eq!(
                KNOWN.read(input.as_bytes()),
                Piece::UnknownType(kind.as_bytes()),
                "{input:?}"
            );
        };
        f("a:1|d", "d");
        f("a:1|C", "C");
        f("a:1|", "");
        f("a:1|kv|@1", "kv");
        assert_eq!(KNOWN.read(b"a:1|c@0.1"), forwarded("a", "a:1|c@0.1"));
        assert_eq!(KNOWN.read(b"_sc|db|0"), Piece::Malformed);
    }

    #[test]
    fn statsd_grammar_takes_everything_but_empty_lines() {
        let f = |input: &str, expected: Piece<'_>| {
            assert_eq!(Grammar::Statsd.read(input.as_bytes()), expected)
        };
        f("gorets:1|c\r", forwarded("gorets", "gorets:1|c\r"));
        f("garbage", forwarded("garbage", "garbage"));
        f("\r", forwarded("\r", "\r"));
        f("", Piece::Blank);
    }

    #[test]
    fn events_and_service_checks_are_hashed_by_their_title_and_name() {
        for grammar in [ANY, Grammar::Statsd] {
            let f = |input: &str, key: &str| {
                assert_eq!(grammar.read(input.as_bytes()), forwarded(key, input))
            };
            f("_e{5,4}:title|text", "title");
            // The title may hold what separates fields elsewhere.
            f("_e{7,4}:a|b: c!|text|#x:y", "a|b: c!");
            f("_sc|Redis connection|2|#env:dev", "Redis connection");
            // Not of the form: hashed as any other line.
            f("_e{x}:title|text", "_e{x}");
            f("_e{99,4}:title|text", "_e{99,4}");
        }
    }
}
