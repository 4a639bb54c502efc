//! The words of an action, as Go's lexer cuts them.

use std::str::Chars;

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A function, a keyword, or one of `true`, `false` and `nil`.
    Name(String),
    Variable(String),
    /// `.`, or a field with its point.
    Field(String),
    /// Text or a number.
    Literal(String),
    Open,
    Close,
    Pipe,
    Comma,
    Declare,
    Assign,
    Space,
}

impl Token {
    pub(super) fn shown(&self) -> String {
        let text = match self {
            Self::Name(text) | Self::Variable(text) | Self::Field(text) => text,
            Self::Literal(text) => return text.clone(),
            Self::Open => "(",
            Self::Close => ")",
            Self::Pipe => "|",
            Self::Comma => ",",
            Self::Declare => ":=",
            Self::Assign => "=",
            Self::Space => " ",
        };
        format!("\"{text}\"")
    }
}

/// The words of an action from some place on.
pub(super) struct Words<'t> {
    tokens: &'t [Token],
    at: usize,
}

impl<'t> Words<'t> {
    pub(super) fn new(tokens: &'t [Token]) -> Self {
        Self { tokens, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn next(&mut self) -> Option<&'t Token> {
        let token = self.peek();
        self.at += 1;
        token
    }

    pub(super) fn skip_space(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.at += 1;
        }
    }

    /// Returns what follows the next word.
    pub(super) fn behind(mut self) -> Self {
        self.at += 1;
        self
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.peek().is_none()
    }

    pub(super) fn end(mut self, context: &str) -> Result<(), String> {
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(Token::Close) => Err("unexpected right paren".to_owned()),
            Some(other) => Err(format!("unexpected {} in {context}", other.shown())),
        }
    }

    /// Takes `$a, $b :=` and the like: names, and whether they are new.
    pub(super) fn declarations(&mut self) -> Vec<(String, bool)> {
        let start = self.at;
        let mut names = Vec::new();
        loop {
            self.skip_space();
            let Some(Token::Variable(name)) = self.next() else {
                break;
            };
            names.push(name.clone());
            self.skip_space();
            match self.next() {
                Some(Token::Comma) => {}
                Some(token @ (Token::Declare | Token::Assign)) => {
                    let is_new = *token == Token::Declare;
                    return names.into_iter().map(|name| (name, is_new)).collect();
                }
                _ => break,
            }
        }
        self.at = start;
        Vec::new()
    }
}

/// Reads an action up to its end. Returns its words and what follows it.
pub(super) fn tokens(text: &str) -> Result<(Vec<Token>, &str), String> {
    let mut chars = text.chars();
    let mut tokens = Vec::new();
    loop {
        let rest = chars.as_str();
        if let Some(behind) = rest.strip_prefix("}}") {
            return Ok((tokens, behind));
        }
        let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if trimmed.len() < rest.len() {
            if let Some(behind) = trimmed.strip_prefix("-}}") {
                return Ok((tokens, behind));
            }
            tokens.push(Token::Space);
            chars = trimmed.chars();
            continue;
        }
        let c = chars.next().ok_or("unclosed action")?;
        tokens.push(match c {
            '(' => Token::Open,
            ')' => Token::Close,
            '|' => Token::Pipe,
            ',' => Token::Comma,
            '=' => Token::Assign,
            ':' if chars.next() == Some('=') => Token::Declare,
            ':' => return Err("expected :=".to_owned()),
            '"' => quoted(rest, &mut chars, '"', "unterminated quoted string")?,
            '\'' => quoted(rest, &mut chars, '\'', "unterminated character constant")?,
            '`' => raw(rest, &mut chars)?,
            '$' => Token::Variable(format!("${}", name(&mut chars))),
            '.' if !chars.as_str().starts_with(|c: char| c.is_ascii_digit()) => {
                Token::Field(format!(".{}", name(&mut chars)))
            }
            c if c.is_ascii_digit() || "+-.".contains(c) => number(rest, &mut chars)?,
            c if c.is_alphabetic() || c == '_' => Token::Name(format!("{c}{}", name(&mut chars))),
            c => {
                return Err(format!(
                    "unrecognized character in action: U+{:04X} '{c}'",
                    u32::from(c)
                ));
            }
        });
    }
}

fn name(chars: &mut Chars<'_>) -> String {
    let rest = chars.as_str();
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (name, behind) = rest.split_at(end.unwrap_or(rest.len()));
    *chars = behind.chars();
    name.to_owned()
}

fn quoted(text: &str, chars: &mut Chars<'_>, end: char, wrong: &str) -> Result<Token, String> {
    loop {
        match chars.next() {
            Some('\\') if chars.as_str().starts_with(|c| c != '\n') => {
                chars.next();
            }
            None | Some('\n' | '\\') => return Err(wrong.to_owned()),
            Some(c) if c == end => return Ok(read_so_far(text, chars)),
            Some(_) => {}
        }
    }
}

fn raw(text: &str, chars: &mut Chars<'_>) -> Result<Token, String> {
    match chars.find(|c| *c == '`') {
        Some(_) => Ok(read_so_far(text, chars)),
        None => Err("unterminated raw quoted string".to_owned()),
    }
}

fn number(text: &str, chars: &mut Chars<'_>) -> Result<Token, String> {
    let is_part = |c: char| c.is_alphanumeric() || "._+-".contains(c);
    let rest = chars.as_str();
    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let (_, behind) = rest.split_at(end);
    *chars = behind.chars();
    let token = read_so_far(text, chars);
    let Token::Literal(digits) = &token else {
        return Ok(token);
    };
    let plain = digits.replace('_', "");
    let unsigned = plain.trim_start_matches(['+', '-']);
    let based = ["0x", "0b", "0o", "0X"]
        .iter()
        .any(|base| unsigned.starts_with(base));
    if based || plain.trim_end_matches('i').parse::<f64>().is_ok() {
        return Ok(token);
    }
    Err(format!("bad number syntax: \"{digits}\""))
}

fn read_so_far(text: &str, chars: &Chars<'_>) -> Token {
    let length = text.len() - chars.as_str().len();
    Token::Literal(text.get(..length).unwrap_or_default().to_owned())
}
