//! The texts of labels and annotations: whether they are templates in Go's language, with the functions that Prometheus adds.
//!
//! [`check`] reads a template and says what is wrong in the words of Go's `text/template`; nothing is made of it. `token` cuts
//! actions into words.

mod token;

use self::token::{Token, Words, tokens};

/// The functions of Go's templates.
const BUILT_IN: [&str; 19] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
    "print", "printf", "println", "slice", "urlquery",
];

/// Those that Prometheus adds.
const ADDED: [&str; 31] = [
    "args",
    "externalURL",
    "first",
    "graphLink",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "label",
    "match",
    "now",
    "parseDuration",
    "pathPrefix",
    "query",
    "reReplaceAll",
    "safeHtml",
    "sortByLabel",
    "stripDomain",
    "stripPort",
    "strvalue",
    "tableLink",
    "title",
    "tmpl",
    "toDuration",
    "toLower",
    "toTime",
    "toUpper",
    "urlQueryEscape",
    "value",
    "externalLabels",
];

/// The variables that every template has.
const VARIABLES: [&str; 5] = ["$", "$labels", "$externalLabels", "$externalURL", "$value"];

/// How deep blocks and parentheses may nest.
const DEEPEST: usize = 200;

/// Says what is wrong with a template: the line and the reason.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut checker = Checker {
        variables: VARIABLES.map(str::to_owned).to_vec(),
        blocks: Vec::new(),
        line: 1,
    };
    let checked = checker.template(text);
    checked.map_err(|reason| format!("{}: {reason}", checker.line))
}

/// What `end` ends.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    If,
    With,
    Range,
    /// `define` and `block`.
    Definition,
}

struct Block {
    kind: Kind,
    /// How many variables there were.
    variables: usize,
    has_else: bool,
}

struct Checker {
    variables: Vec<String>,
    blocks: Vec<Block>,
    line: usize,
}

impl Checker {
    fn template(&mut self, text: &str) -> Result<(), String> {
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            self.line += lines(before);
            let trimming = behind.strip_prefix('-');
            let behind = trimming
                .filter(|behind| behind.starts_with([' ', '\t', '\r', '\n']))
                .map_or(behind, str::trim_start);
            rest = if let Some(comment) = behind.strip_prefix("/*") {
                let (comment, behind) = comment.split_once("*/").ok_or("unclosed comment")?;
                self.line += lines(comment);
                let end = behind.strip_prefix(" -").unwrap_or(behind);
                end.strip_prefix("}}")
                    .ok_or("comment ends before closing delimiter")?
            } else {
                let (tokens, behind) = tokens(behind)?;
                self.action(&tokens)?;
                let action = rest.get(before.len()..rest.len() - behind.len());
                self.line += lines(action.unwrap_or_default());
                behind
            };
        }
        self.line += lines(rest);
        if self.blocks.is_empty() {
            Ok(())
        } else {
            Err("unexpected EOF".to_owned())
        }
    }

    fn action(&mut self, tokens: &[Token]) -> Result<(), String> {
        let mut words = Words::new(tokens);
        words.skip_space();
        let keyword = match words.peek() {
            Some(Token::Name(name)) => name.as_str(),
            _ => "",
        };
        match keyword {
            "if" => self.begin(Kind::If, "if", words.behind()),
            "with" => self.begin(Kind::With, "with", words.behind()),
            "range" => self.begin(Kind::Range, "range", words.behind()),
            "else" => self.otherwise(words.behind()),
            "end" => {
                words.behind().end("end")?;
                let block = self.blocks.pop().ok_or("unexpected {{end}}")?;
                self.variables.truncate(block.variables);
                Ok(())
            }
            "break" | "continue" => {
                words.behind().end(keyword)?;
                let mut blocks = self.blocks.iter();
                if blocks.any(|block| block.kind == Kind::Range) {
                    Ok(())
                } else {
                    Err(format!("{{{{{keyword}}}}} outside {{{{range}}}}"))
                }
            }
            "define" | "block" | "template" => {
                let mut words = words.behind();
                words.skip_space();
                let Some(Token::Literal(_)) = words.next() else {
                    return Err(format!("unexpected token in {keyword} clause"));
                };
                if keyword == "define" {
                    words.end("define clause")?;
                } else if keyword == "block" || !words.is_at_end() {
                    self.pipeline(&mut words, "template clause", 0)?;
                    words.end("template clause")?;
                }
                if keyword != "template" {
                    self.push(Kind::Definition)?;
                }
                Ok(())
            }
            _ => {
                self.pipeline(&mut words, "command", 0)?;
                words.end("command")
            }
        }
    }

    fn begin(&mut self, kind: Kind, context: &str, mut words: Words<'_>) -> Result<(), String> {
        self.push(kind)?;
        self.pipeline(&mut words, context, 0)?;
        words.end(context)
    }

    fn push(&mut self, kind: Kind) -> Result<(), String> {
        if self.blocks.len() >= DEEPEST {
            return Err("exceeded maximum depth of blocks".to_owned());
        }
        let variables = self.variables.len();
        self.blocks.push(Block {
            kind,
            variables,
            has_else: false,
        });
        Ok(())
    }

    fn otherwise(&mut self, mut words: Words<'_>) -> Result<(), String> {
        const UNEXPECTED: &str = "unexpected {{else}}";
        let block = self.blocks.last_mut().ok_or(UNEXPECTED)?;
        if block.has_else || block.kind == Kind::Definition {
            return Err(UNEXPECTED.to_owned());
        }
        let (kind, variables) = (block.kind, block.variables);
        words.skip_space();
        let again = match (kind, words.peek()) {
            (Kind::If, Some(Token::Name(name))) if name == "if" => Some("if"),
            (Kind::With, Some(Token::Name(name))) if name == "with" => Some("with"),
            _ => None,
        };
        let Some(context) = again else {
            block.has_else = true;
            self.variables.truncate(variables);
            return words.end("else");
        };
        let mut words = words.behind();
        self.pipeline(&mut words, context, 0)?;
        words.end(context)
    }

    /// Reads commands between `|`, up to a closing parenthesis or the end.
    fn pipeline(
        &mut self,
        words: &mut Words<'_>,
        context: &str,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEEPEST {
            return Err("max expression depth exceeded".to_owned());
        }
        let declared = words.declarations();
        for (name, is_new) in &declared {
            if !is_new && !self.variables.contains(name) {
                return Err(format!("undefined variable \"{name}\""));
            }
        }
        let mut stages = 0;
        loop {
            let is_executable = self.command(words, depth)?;
            let Some(is_executable) = is_executable else {
                let what = if stages == 0 { context } else { "command" };
                return Err(format!("missing value for {what}"));
            };
            stages += 1;
            if stages > 1 && !is_executable {
                return Err(format!("non executable command in pipeline stage {stages}"));
            }
            if words.peek() != Some(&Token::Pipe) {
                break;
            }
            words.next();
        }
        let new = declared.into_iter().filter(|(_, is_new)| *is_new);
        self.variables.extend(new.map(|(name, _)| name));
        Ok(())
    }

    /// Reads operands. Returns whether the first can be called, or nothing if there is none.
    fn command(&mut self, words: &mut Words<'_>, depth: usize) -> Result<Option<bool>, String> {
        let mut first = None;
        loop {
            words.skip_space();
            let Some(token) = words.peek().cloned() else {
                return Ok(first);
            };
            if matches!(token, Token::Pipe | Token::Close) {
                return Ok(first);
            }
            words.next();
            let is_executable = match &token {
                Token::Name(name) => {
                    let is_literal = matches!(name.as_str(), "true" | "false" | "nil");
                    if !is_literal
                        && !BUILT_IN.contains(&name.as_str())
                        && !ADDED.contains(&name.as_str())
                    {
                        return Err(format!("function \"{name}\" not defined"));
                    }
                    !is_literal
                }
                Token::Variable(name) => {
                    if !self.variables.contains(name) {
                        return Err(format!("undefined variable \"{name}\""));
                    }
                    true
                }
                Token::Field(field) => field != ".",
                Token::Literal(_) => false,
                Token::Open => {
                    self.pipeline(words, "parenthesized pipeline", depth + 1)?;
                    if words.next() != Some(&Token::Close) {
                        return Err("unclosed left paren".to_owned());
                    }
                    true
                }
                other => return Err(format!("unexpected {} in operand", other.shown())),
            };
            while matches!(words.peek(), Some(Token::Field(field)) if field != ".") {
                words.next();
            }
            first.get_or_insert(is_executable);
            match words.peek() {
                None | Some(Token::Space | Token::Pipe | Token::Close) => {}
                Some(other) => return Err(format!("unexpected {} in operand", other.shown())),
            }
        }
    }
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_common_rules_are_right() {
        for text in [
            "",
            "plain }} text",
            "{{ $labels.instance }} of job {{ $labels.job }} has been down for {{ $value | humanizeDuration }}",
            "{{ printf \"%.2f\" $value }}%",
            "{{- if gt $value 1.0 -}} many {{- else if eq $value 1.0 }} one {{ else }} none {{ end }}",
            "{{ range $i, $s := query \"up\" }}{{ $i }} {{ .Labels.job }} {{ $s.Value }}{{ else }}none{{ end }}",
            "{{ with query \"up\" }}{{ . | first | value | humanize }}{{ end }}",
            "{{ $x := 1 }}{{ $x = 2 }}{{ $x }}",
            "{{/* said\nnothing */}}{{ (query \"a\" | first).Labels.b }}",
            "{{ $externalLabels.cluster }} {{ $externalURL }} {{ .ExternalURL }} {{ `raw` }} {{ 'c' }} {{ -1.5e3 }}",
            "{{ define \"t\" }}{{ .arg0 }}{{ end }}{{ template \"t\" (args 1 2) }}",
            "{{ range query \"up\" }}{{ if true }}{{ break }}{{ end }}{{ end }}",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_go_says_it() {
        let f = |text: &str, expected: &str| {
            assert_eq!(check(text).unwrap_err(), expected, "{text}");
        };
        f("{{ $x }}", "1: undefined variable \"$x\"");
        f(
            "a\nb {{ $value }}\n{{ $x }}",
            "3: undefined variable \"$x\"",
        );
        f("{{ nope $value }}", "1: function \"nope\" not defined");
        f("{{ if $value }}", "1: unexpected EOF");
        f("{{ end }}", "1: unexpected {{end}}");
        f("{{ else }}", "1: unexpected {{else}}");
        f("{{ if }}{{ end }}", "1: missing value for if");
        f("{{ }}", "1: missing value for command");
        f("{{ $value | }}", "1: missing value for command");
        f(
            "{{ $value | 1 }}",
            "1: non executable command in pipeline stage 2",
        );
        f("{{ $value", "1: unclosed action");
        f("{{ \"a }}", "1: unterminated quoted string");
        f("{{ (1 }}", "1: unclosed left paren");
        f("{{ 1) }}", "1: unexpected right paren");
        f("{{ @ }}", "1: unrecognized character in action: U+0040 '@'");
        f(
            "{{ if true }}{{ $y := 1 }}{{ end }}{{ $y }}",
            "1: undefined variable \"$y\"",
        );
        f("{{ break }}", "1: {{break}} outside {{range}}");
        f("{{ 1x }}", "1: bad number syntax: \"1x\"");
    }
}
