//! A client that speaks bytes: one request per connection, and an answer read as far as it goes.

use std::{
    io::{Read, Write as _},
    net::TcpStream,
    time::Duration,
};

use super::PATIENCE;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The number in its first line.
    pub status: u16,
    /// The whole first line.
    pub status_line: String,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// As far as it came.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub complete: bool,
}

impl Response {
    /// Returns the first header of a name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends bytes on a new connection and reads one answer. `None`: the connection ended or stayed silent before one began.
pub fn request(port: u16, bytes: &[u8]) -> Option<Response> {
    request_within(port, bytes, PATIENCE)
}

/// As [`request`], with another limit for each read than [`PATIENCE`].
pub fn request_within(port: u16, bytes: &[u8], limit: Duration) -> Option<Response> {
    let mut stream = connect(port, limit)?;
    stream.write_all(bytes).ok()?;
    let head_only = bytes.starts_with(b"HEAD ");
    read_response(&mut stream, head_only)
}

/// Connects to a loopback port; reads take no longer than the limit.
pub fn connect(port: u16, limit: Duration) -> Option<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// Reads one answer, interim ones skipped.
pub fn read_response(stream: &mut impl Read, head_only: bool) -> Option<Response> {
    loop {
        let head = read_head(stream)?;
        let mut lines = head.split("\r\n");
        let status_line = lines.next()?.to_owned();
        let status: u16 = status_line.split(' ').nth(1)?.parse().ok()?;
        if status == 100 || status == 103 {
            continue;
        }
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": ").or_else(|| line.split_once(':')))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut response = Response {
            status,
            status_line,
            headers,
            body: Vec::new(),
            complete: true,
        };
        if !head_only && status != 204 && status != 304 && status != 101 {
            response.complete = read_body(stream, &mut response).is_some();
        }
        return Some(response);
    }
}

fn read_head(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    head.truncate(head.len() - 4);
    Some(head.iter().map(|byte| char::from(*byte)).collect())
}

fn read_body(stream: &mut impl Read, response: &mut Response) -> Option<()> {
    let length = response
        .header("content-length")
        .and_then(|length| length.parse::<usize>().ok());
    let chunked = response.header("transfer-encoding") == Some("chunked");
    if chunked {
        loop {
            let size = usize::from_str_radix(read_line(stream)?.trim(), 16).ok()?;
            read_exactly(stream, size, &mut response.body)?;
            read_line(stream)?;
            if size == 0 {
                return Some(());
            }
        }
    }
    if let Some(length) = length {
        return read_exactly(stream, length, &mut response.body);
    }
    stream.read_to_end(&mut response.body).ok()?;
    Some(())
}

/// Reads up to a line feed, which is left out.
pub fn read_line(stream: &mut impl Read) -> Option<String> {
    let (mut line, mut byte) = (String::new(), [0]);
    loop {
        stream.read_exact(&mut byte).ok()?;
        if byte[0] == b'\n' {
            return Some(line);
        }
        line.push(char::from(byte[0]));
    }
}

fn read_exactly(stream: &mut impl Read, length: usize, body: &mut Vec<u8>) -> Option<()> {
    let mut left = length;
    let mut buffer = vec![0; 65_536];
    while left > 0 {
        let most = left.min(buffer.len());
        match stream.read(&mut buffer[..most]) {
            Ok(0) | Err(_) => return None,
            Ok(read) => {
                body.extend_from_slice(&buffer[..read]);
                left -= read;
            }
        }
    }
    Some(())
}
