//! Servers on loopback that answer as a closure says.

use std::{
    io::{self, Read, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// A request as a server sees it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query, as they came.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// A parameter, empty if it is not there.
    pub(crate) fn parameter(&self, name: &str) -> String {
        let found = self
            .parameters()
            .into_iter()
            .find(|(other, _)| other == name);
        found.map(|(_, value)| value).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(other, _)| other == name);
        named.next().map(|(_, value)| value.as_str())
    }

    /// The parameters of URL and body, decoded, sorted.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let body = String::from_utf8_lossy(&self.body);
        parameters(&format!("{query}&{body}"))
    }
}

/// Decodes parameters, those without a value left out, and sorts them.
pub(crate) fn parameters(text: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = text
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect();
    pairs.sort();
    pairs
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers.
    Answer {
        status: u16,
        content_type: String,
        body: Vec<u8>,
    },
    /// Announces more than it sends.
    Truncated { content_type: String, body: Vec<u8> },
    /// Closes the connection.
    Close,
    /// Connects the client with the host that it asked for (`CONNECT`).
    Tunnel,
    /// Waits, then does the other.
    After(Duration, Box<Reply>),
}

impl Reply {
    /// A successful answer to a query.
    pub(crate) fn result(kind: &str, result: &str) -> Self {
        Self::json(format!(
            r#"{{"status":"success","data":{{"resultType":"{kind}","result":[{result}]}}}}"#
        ))
    }

    pub(crate) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::Answer {
            status: 200,
            content_type: "application/json".to_owned(),
            body: body.into(),
        }
    }
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A server. Closed when dropped.
pub(crate) struct Stub {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    open: Arc<AtomicUsize>,
}

impl Stub {
    pub(crate) fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let handler: Arc<Handler> = Arc::new(handler);
        let stub = Self {
            port,
            asked: Arc::default(),
            stop: Arc::default(),
            streams: Arc::default(),
            open: Arc::default(),
        };
        let (asked, stop, streams) = (
            Arc::clone(&stub.asked),
            Arc::clone(&stub.stop),
            Arc::clone(&stub.streams),
        );
        let open = Arc::clone(&stub.open);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let (handler, asked) = (Arc::clone(&handler), Arc::clone(&asked));
                let open = Arc::clone(&open);
                open.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || {
                    converse(stream, &handler, &asked);
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        stub
    }

    /// Returns all requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Returns how many connections there have been, and how many of them are open.
    pub(crate) fn connections(&self) -> (usize, usize) {
        let made = self.streams.lock().unwrap().len();
        (made, self.open.load(Ordering::Relaxed))
    }

    /// The values of a parameter of all requests so far, in their order.
    pub(crate) fn asked_for(&self, parameter: &str) -> Vec<String> {
        let asked = self.asked();
        let parameters = asked.iter().flat_map(Asked::parameters);
        parameters
            .filter_map(|(name, value)| (name == parameter).then_some(value))
            .collect()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _woken = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        for stream in self.streams.lock().unwrap().iter() {
            let _closed = stream.shutdown(Shutdown::Both).is_ok();
        }
    }
}

fn converse(mut stream: TcpStream, handler: &Arc<Handler>, asked: &Mutex<Vec<Asked>>) {
    let _fast = stream.set_nodelay(true).is_ok();
    while let Some(request) = read(&mut stream) {
        asked.lock().unwrap().push(request.clone());
        if send(&mut stream, &request, handler(&request)).is_none() {
            let _closed = stream.shutdown(Shutdown::Both).is_ok();
            return;
        }
    }
}

fn send(stream: &mut TcpStream, asked: &Asked, reply: Reply) -> Option<()> {
    let (status, content_type, body, more) = match reply {
        Reply::Answer {
            status,
            content_type,
            body,
        } => (status, content_type, body, 0),
        Reply::Truncated { content_type, body } => (200, content_type, body, 100),
        Reply::Close => return None,
        Reply::Tunnel => return tunnel(stream, &asked.target),
        Reply::After(time, reply) => {
            thread::sleep(time);
            return send(stream, asked, *reply);
        }
    };
    let length = if status == 204 {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len() + more)
    };
    let head = format!("HTTP/1.1 {status} Status\r\nContent-Type: {content_type}\r\n{length}\r\n");
    stream.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    (more == 0).then_some(())
}

/// Connects a client with a host, until both have said all.
fn tunnel(client: &mut TcpStream, host: &str) -> Option<()> {
    let server = TcpStream::connect(host).ok()?;
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .ok()?;
    let pass = |mut from: &TcpStream, mut to: &TcpStream| {
        let _passed = io::copy(&mut from, &mut to).is_ok();
        let _said = to.shutdown(Shutdown::Write).is_ok();
    };
    thread::scope(|scope| {
        scope.spawn(|| pass(&server, client));
        pass(client, &server);
    });
    None
}

/// Reads a request; `None` at the end of the connection.
pub(crate) fn read(stream: &mut impl Read) -> Option<Asked> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let header = |name: &str| {
        let mut named = headers.iter().filter(|(other, _)| other == name);
        named.next().map(|(_, value)| value.clone())
    };
    let mut body = Vec::new();
    if header("transfer-encoding").as_deref() == Some("chunked") {
        loop {
            let line = super::client::read_line(stream)?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = header("content-length").and_then(|length| length.parse().ok()) {
        body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
    }
    Some(Asked {
        method,
        target,
        headers,
        body,
    })
}
