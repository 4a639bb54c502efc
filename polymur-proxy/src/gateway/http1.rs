//! HTTP/1.1 as a client of one gateway needs it: a request's head byte for byte as Go writes it, and a reader of answers.
//!
//! It is our own for two reasons: header names, case and order are part of the contract, and an answer has to be read that
//! comes before the body is sent (the real gateway answers 401 to large bodies and hangs up).

use std::{fmt::Write as _, io};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest head of an answer.
const MAX_HEAD: usize = 64 * 1024;
/// How much of a body is kept; it is only shown.
const MAX_BODY: usize = 64 * 1024;
/// How much more of a body is read so that the connection can be used again.
const MAX_DISCARDED: usize = 1 << 20;

/// What stands in the head of a request, in this order.
#[derive(Debug)]
pub(crate) struct RequestHead<'a> {
    /// Path and query, or the whole URL for a proxy.
    pub(crate) target: &'a str,
    pub(crate) host: &'a str,
    pub(crate) content_length: usize,
    pub(crate) authorization: Option<&'a str>,
    pub(crate) proxy_authorization: Option<&'a str>,
    pub(crate) referer: Option<&'a str>,
    /// Without outer blanks.
    pub(crate) key: &'a str,
}

impl RequestHead<'_> {
    /// Writes the head of a POST.
    pub(crate) fn write(&self) -> String {
        let Self {
            target,
            host,
            content_length,
            authorization,
            proxy_authorization,
            referer,
            key,
        } = self;
        let mut head = format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {content_length}\r\n"
        );
        let optional = [
            ("Authorization", authorization),
            ("Proxy-Authorization", proxy_authorization),
            ("Referer", referer),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                write!(head, "{name}: {value}\r\n").expect("writing to a string cannot fail");
            }
        }
        write!(
            head,
            "X-Polymur-Key: {key}\r\nAccept-Encoding: gzip\r\n\r\n"
        )
        .expect("writing to a string cannot fail");
        head
    }
}

/// An answer, as far as anybody looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) gzip: bool,
    /// Whether the connection may carry another request.
    pub(crate) keep_alive: bool,
    /// The first bytes of the body, as they came.
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum AnswerError {
    /// Closed before the first byte.
    #[error("EOF")]
    Closed,
    /// Closed within the head.
    #[error("unexpected EOF")]
    HeadCut,
    /// Closed within the body.
    #[error("unexpected EOF")]
    BodyCut,
    /// Not HTTP. The text is Go's.
    #[error("net/http: HTTP/1.x transport connection broken: {0}")]
    Malformed(String),
    /// The connection broke.
    #[error("{0}")]
    Broken(io::Error),
}

/// Reads one answer to a POST, skipping those of 1xx.
pub(crate) async fn read_answer(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Answer, AnswerError> {
    let mut input = Input {
        stream,
        buffer: Vec::with_capacity(1_024),
        used: 0,
    };
    loop {
        let head = input.head().await?;
        let (mut answer, body) = parse_head(&head)?;
        if (100..200).contains(&answer.status) {
            continue;
        }
        let complete = input.body(body, &mut answer.body).await?;
        answer.keep_alive &= complete && input.used == input.buffer.len();
        return Ok(answer);
    }
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

struct Input<'a, R> {
    stream: &'a mut R,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have been looked at.
    used: usize,
}

impl<R: AsyncRead + Unpin> Input<'_, R> {
    /// Reads more; `false` at the end of the stream.
    async fn fill(&mut self) -> Result<bool, AnswerError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.reserve(4_096);
        let count = self.stream.read_buf(&mut self.buffer).await;
        match count {
            Ok(count) => Ok(count > 0),
            // Go takes a TLS stream that ends without a farewell for ended.
            Err(reason) if reason.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(reason) => Err(AnswerError::Broken(reason)),
        }
    }

    /// Takes the lines up to the first empty one.
    async fn head(&mut self) -> Result<Vec<u8>, AnswerError> {
        loop {
            let unread = &self.buffer[self.used..];
            if let Some(length) = head_length(unread) {
                let head = unread[..length].to_vec();
                self.used += length;
                return Ok(head);
            }
            // What is not HTTP may never hold an empty line.
            let first_line = unread.iter().position(|byte| *byte == b'\n');
            if let Some(end) = first_line
                && !unread.starts_with(b"HTTP/")
            {
                return Err(parse_head(&unread[..=end])
                    .err()
                    .unwrap_or(AnswerError::HeadCut));
            }
            if unread.len() > MAX_HEAD {
                let reason = "net/http: server response headers exceeded 65536 bytes; aborted";
                return Err(AnswerError::Malformed(reason.to_owned()));
            }
            let empty = unread.is_empty();
            if !self.fill().await? {
                return Err(if empty {
                    AnswerError::Closed
                } else {
                    AnswerError::HeadCut
                });
            }
        }
    }

    /// Reads a body, and keeps its beginning. `false` if the rest was left unread.
    async fn body(&mut self, framing: Framing, kept: &mut Vec<u8>) -> Result<bool, AnswerError> {
        let mut budget = MAX_BODY + MAX_DISCARDED;
        match framing {
            Framing::Length(length) => self.piece(length, kept, &mut budget).await,
            Framing::UntilClose => {
                while budget > 0 {
                    if self.used == self.buffer.len() && !self.fill().await? {
                        return Ok(false);
                    }
                    let here = (self.buffer.len() - self.used) as u64;
                    self.piece(here, kept, &mut budget).await?;
                }
                Ok(false)
            }
            Framing::Chunked => loop {
                let size = self.line().await?;
                let digits = size.split(';').next().unwrap_or_default().trim();
                let length = u64::from_str_radix(digits, 16).map_err(|_| {
                    AnswerError::Malformed("invalid byte in chunk length".to_owned())
                })?;
                if length == 0 {
                    // Trailers, up to an empty line.
                    while !self.line().await?.is_empty() {}
                    return Ok(true);
                }
                if !self.piece(length, kept, &mut budget).await? {
                    return Ok(false);
                }
                if !self.line().await?.is_empty() {
                    return Err(AnswerError::Malformed(
                        "malformed chunked encoding".to_owned(),
                    ));
                }
            },
        }
    }

    async fn piece(
        &mut self,
        mut length: u64,
        kept: &mut Vec<u8>,
        budget: &mut usize,
    ) -> Result<bool, AnswerError> {
        while length > 0 {
            if *budget == 0 {
                return Ok(false);
            }
            if self.used == self.buffer.len() && !self.fill().await? {
                return Err(AnswerError::BodyCut);
            }
            let here = &self.buffer[self.used..];
            let count = here.len().min(*budget);
            let count = usize::try_from(length).map_or(count, |length| count.min(length));
            let keep = count.min(MAX_BODY.saturating_sub(kept.len()));
            kept.extend_from_slice(&here[..keep]);
            self.used += count;
            *budget -= count;
            length -= count as u64;
        }
        Ok(true)
    }

    /// A short line of chunked framing.
    async fn line(&mut self) -> Result<String, AnswerError> {
        loop {
            let unread = &self.buffer[self.used..];
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&unread[..end])
                    .trim_end()
                    .to_owned();
                self.used += end + 1;
                return Ok(line);
            }
            if unread.len() > 4_096 {
                return Err(AnswerError::Malformed("header line too long".to_owned()));
            }
            if !self.fill().await? {
                return Err(AnswerError::BodyCut);
            }
        }
    }
}

/// How many bytes a head takes, its empty line included; `None` if that has not come.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[start..end];
        if start > 0 && (line.is_empty() || line == b"\r") {
            return Some(end + 1);
        }
        start = end + 1;
    }
    None
}

fn parse_head(head: &[u8]) -> Result<(Answer, Framing), AnswerError> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let status_line = lines.next().unwrap_or_default();
    let (version, status) = parse_status_line(status_line).map_err(AnswerError::Malformed)?;
    let mut answer = Answer {
        status,
        location: None,
        retry_after: None,
        gzip: false,
        keep_alive: version == "HTTP/1.1",
        body: Vec::new(),
    };
    let mut framing = Framing::UntilClose;
    for line in lines.take_while(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            return Err(AnswerError::Malformed(format!(
                "malformed MIME header line: {line}"
            )));
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" if framing != Framing::Chunked => {
                let length = value
                    .parse()
                    .map_err(|_| AnswerError::Malformed(format!("bad Content-Length {value:?}")))?;
                framing = Framing::Length(length);
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                framing = Framing::Chunked;
            }
            "connection" if value.eq_ignore_ascii_case("close") => answer.keep_alive = false,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => answer.keep_alive = true,
            "content-encoding" => answer.gzip = value.eq_ignore_ascii_case("gzip"),
            "location" => answer.location = Some(value.to_owned()),
            "retry-after" => answer.retry_after = Some(value.to_owned()),
            _ => {}
        }
    }
    if matches!(status, 100..=199 | 204 | 304) {
        framing = Framing::Length(0);
    }
    Ok((answer, framing))
}

fn parse_status_line(line: &str) -> Result<(&str, u16), String> {
    let (version, status) = line
        .split_once(' ')
        .ok_or_else(|| format!("malformed HTTP response {line:?}"))?;
    let code = status.trim_start_matches(' ');
    let code = code.split(' ').next().unwrap_or(code);
    let number = (code.len() == 3)
        .then(|| code.parse::<u16>().ok())
        .flatten();
    let number = number.ok_or_else(|| format!("malformed HTTP status code {code:?}"))?;
    if !version.starts_with("HTTP/") {
        return Err(format!("malformed HTTP version {version:?}"));
    }
    Ok((version, number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn read(mut bytes: &[u8]) -> Result<Answer, AnswerError> {
        read_answer(&mut bytes).await
    }

    #[tokio::test]
    async fn bodies_end_where_their_framing_says() {
        let cases: [(&[u8], &[u8], bool); 6] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", true),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: 1\r\n\r\n",
                b"abc",
                true,
            ),
            (b"HTTP/1.1 200 OK\r\n\r\nabc", b"abc", false),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b"", true),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 1\n\na",
                b"a",
                true,
            ),
            (
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                b"",
                false,
            ),
        ];
        for (bytes, body, keep_alive) in cases {
            let answer = read(bytes).await.unwrap();
            assert_eq!(
                (answer.body.as_slice(), answer.keep_alive),
                (body, keep_alive),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[tokio::test]
    async fn what_is_not_an_answer_is_named_in_the_words_of_go() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "EOF"),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n", "unexpected EOF"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
                "unexpected EOF",
            ),
            (
                b"hello there\r\n",
                "net/http: HTTP/1.x transport connection broken: malformed HTTP status code \"there\"",
            ),
            (
                b"hello\r\n",
                "net/http: HTTP/1.x transport connection broken: malformed HTTP response \"hello\"",
            ),
        ];
        for (bytes, text) in cases {
            assert_eq!(read(bytes).await.unwrap_err().to_string(), text);
        }
    }

    #[tokio::test]
    async fn a_body_without_end_is_read_in_part() {
        let mut bytes = b"HTTP/1.1 500 X\r\nContent-Length: 99999999999\r\n\r\n".to_vec();
        bytes.resize(4 << 20, b'x');
        let answer = read(&bytes).await.unwrap();
        assert_eq!((answer.body.len(), answer.keep_alive), (MAX_BODY, false));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_refused(
            start in prop::sample::select(&["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"][..]),
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'5'), any::<u8>()], 0..200),
        ) {
            let whole = [start.as_bytes(), &bytes].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _outcome = runtime.block_on(read(&whole));
        }
    }
}
