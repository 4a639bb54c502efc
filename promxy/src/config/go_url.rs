//! URLs as Go's `net/url` takes them: which it refuses and in which words, and what of them must not be seen.

use promql::format::quote;

/// The parts of a URL that a check may ask for.
#[derive(Debug, PartialEq)]
pub(crate) struct Parts<'a> {
    pub(crate) scheme: &'a str,
    /// With the port, without user and password.
    pub(crate) host: &'a str,
    user: Option<&'a str>,
    /// What follows the host.
    rest: &'a str,
}

/// Takes a URL apart, or says what Go says.
pub(crate) fn parse(url: &str) -> Result<Parts<'_>, String> {
    let wrong = |reason: String| format!("parse {}: {reason}", quote(url.as_bytes()));
    if url.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err(wrong(
            "net/url: invalid control character in URL".to_owned(),
        ));
    }
    let (scheme, rest) = match url.split_once(':') {
        Some(("", _)) => return Err(wrong("missing protocol scheme".to_owned())),
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        Some((before, _)) if !before.contains('/') && starts_like_scheme(before) => {
            return Err(wrong(
                "first path segment in URL cannot contain colon".to_owned(),
            ));
        }
        _ => ("", url),
    };
    let Some(after) = rest.strip_prefix("//") else {
        let (host, user) = ("", None);
        return Ok(Parts {
            scheme,
            host,
            user,
            rest,
        });
    };
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let port = match host.rfind(']') {
        Some(end) => host.get(end + 1..).unwrap_or_default(),
        None => host
            .rfind(':')
            .and_then(|at| host.get(at..))
            .unwrap_or_default(),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if !digits.bytes().all(|b| b.is_ascii_digit()) || (!port.is_empty() && !port.starts_with(':')) {
        let port = quote(port.as_bytes());
        return Err(wrong(format!("invalid port {port} after host")));
    }
    if let Some(bad) = host.chars().find(|c| " <>\"\\^`{|}".contains(*c)) {
        let bad = quote(bad.to_string().as_bytes());
        return Err(wrong(format!("invalid character {bad} in host name")));
    }
    Ok(Parts {
        scheme,
        host,
        user,
        rest,
    })
}

impl<'a> Parts<'a> {
    /// Returns the path, without query and fragment.
    pub(crate) fn path(&self) -> &'a str {
        self.rest.split(['?', '#']).next().unwrap_or_default()
    }
}

/// Says whether Go takes a URL.
pub(crate) fn check(url: &str) -> Result<(), String> {
    parse(url).map(|_| ())
}

/// Writes a URL without its password.
pub(crate) fn redacted(url: &str) -> String {
    match parse(url) {
        Ok(parts) => match parts.user.and_then(|user| user.split_once(':')) {
            Some((user, _)) => format!(
                "{}://{user}:xxxxx@{}{}",
                parts.scheme, parts.host, parts.rest
            ),
            None => url.to_owned(),
        },
        Err(_) => url.to_owned(),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Whether Go would look for a scheme in front of the colon and find something else.
fn starts_like_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) || !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_refused_in_the_words_of_go() {
        let f = |url: &str, expected: &str| assert_eq!(check(url).unwrap_err(), expected);
        f(
            "http://a b:%zz",
            r#"parse "http://a b:%zz": invalid port ":%zz" after host"#,
        );
        f(":x", r#"parse ":x": missing protocol scheme"#);
        f(
            "http://a b/",
            r#"parse "http://a b/": invalid character " " in host name"#,
        );
        f(
            "1:2",
            r#"parse "1:2": first path segment in URL cannot contain colon"#,
        );
    }

    #[test]
    fn urls_are_shown_without_their_password() {
        let f = |url: &str, expected: &str| assert_eq!(redacted(url), expected);
        f("http://u:p@h:1/w?x=y", "http://u:xxxxx@h:1/w?x=y");
        f("http://u@h/", "http://u@h/");
        f("http://[::1]:9/", "http://[::1]:9/");
        f("/p", "/p");
    }
}
