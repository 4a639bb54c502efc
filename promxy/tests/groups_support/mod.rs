//! Downstream servers that say what a test wants, and groups in front of them.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use promxy::{discovery::Environment, servergroup::Groups};
use shared::lifecycle::Tasks;

/// A request that a stub got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) url_params: Vec<(String, String)>,
    pub(crate) body_params: Vec<(String, String)>,
    /// Path and query as they came.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let mut params = self.body_params.iter().chain(&self.url_params);
        params
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What a stub does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers.
    Full {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Sends bytes as they are, and closes.
    Raw(Vec<u8>),
    /// Sends bytes as they are, and then nothing until the test ends.
    Hang(Vec<u8>),
    /// Waits, then does something else.
    After(Duration, Box<Reply>),
}

impl Reply {
    pub(crate) fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Full {
            status,
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: body.into(),
        }
    }

    pub(crate) fn vector(result: &str) -> Self {
        Self::json(
            200,
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#
            ),
        )
    }

    pub(crate) fn gzip(body: &[u8]) -> Self {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(body).unwrap();
        Self::Full {
            status: 200,
            headers: vec![("Content-Encoding".to_owned(), "gzip".to_owned())],
            body: packed.finish().unwrap(),
        }
    }
}

/// A server on a loopback port.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    is_over: Arc<AtomicBool>,
}

impl Stub {
    pub(crate) fn new(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stub = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            is_over: Arc::default(),
        };
        let (seen, is_over) = (Arc::clone(&stub.seen), Arc::clone(&stub.is_over));
        let reply = Arc::new(reply);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Relaxed) {
                    return;
                }
                let (seen, reply, is_over) =
                    (Arc::clone(&seen), Arc::clone(&reply), Arc::clone(&is_over));
                thread::spawn(move || while serve(&stream, &seen, &*reply, &is_over).is_some() {});
            }
        });
        stub
    }

    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        // Wakes the listener.
        let _woken = TcpStream::connect(self.address);
    }
}

/// Serves one request of a connection; `None` when that has ended.
fn serve(
    stream: &TcpStream,
    seen: &Mutex<Vec<Seen>>,
    reply: &(impl Fn(&Seen) -> Reply + ?Sized),
    is_over: &AtomicBool,
) -> Option<()> {
    let request = read(stream)?;
    seen.lock().unwrap().push(request.clone());
    let mut reply = reply(&request);
    let mut stream = stream;
    loop {
        match reply {
            Reply::After(wait, next) => {
                thread::sleep(wait);
                reply = *next;
            }
            Reply::Full {
                status,
                headers,
                body,
            } => {
                let mut head = vec![format!("HTTP/1.1 {status} X\r\n")];
                // An answer without content has no length either.
                if status != 204 {
                    head.push(format!("Content-Length: {}\r\n", body.len()));
                    let headers = headers.into_iter();
                    head.extend(headers.map(|(name, value)| format!("{name}: {value}\r\n")));
                }
                head.push("\r\n".to_owned());
                stream.write_all(head.concat().as_bytes()).ok()?;
                return stream.write_all(&body).ok();
            }
            Reply::Raw(bytes) => {
                stream.write_all(&bytes).ok()?;
                let _closed = stream.shutdown(std::net::Shutdown::Both);
                return None;
            }
            Reply::Hang(bytes) => {
                stream.write_all(&bytes).ok()?;
                while !is_over.load(Relaxed) {
                    thread::sleep(Duration::from_millis(20));
                }
                return None;
            }
        }
    }
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let is_form = headers.iter().any(|(_, value)| value.contains("form-url"));
    let form = if is_form {
        String::from_utf8(body.clone()).unwrap()
    } else {
        String::new()
    };
    Some(Seen {
        path: unescape(path),
        url_params: params(query),
        body_params: params(&form),
        target: target.clone(),
        method,
        headers,
        body,
    })
}

fn params(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(name), unescape(value))
    });
    pairs.collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// Groups in front of stubs, and the tasks that keep them.
pub(crate) struct Running {
    pub(crate) groups: Groups,
    tasks: Tasks,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// Starts the groups of a configuration.
pub(crate) fn start(config: &str) -> Running {
    let loaded = promxy::config::parse(config).unwrap_or_else(|error| panic!("{error}\n{config}"));
    let tasks = Tasks::new();
    let groups = Groups::start(&loaded.config, environment(), &tasks).unwrap();
    Running { groups, tasks }
}

pub(crate) fn environment() -> Environment {
    Environment::read(|_| None)
}

/// Writes a configuration of one group with these targets and keys.
pub(crate) fn one_group(targets: &[&Stub], keys: &str) -> String {
    format!("promxy:\n  server_groups:\n{}", group(targets, keys))
}

/// Writes one group of a list.
pub(crate) fn group(targets: &[&Stub], keys: &str) -> String {
    let addresses: Vec<String> = targets
        .iter()
        .map(|stub| format!("\"{}\"", stub.address))
        .collect();
    let targets = addresses.join(", ");
    format!("  - static_configs: [{{targets: [{targets}]}}]\n{keys}")
}
