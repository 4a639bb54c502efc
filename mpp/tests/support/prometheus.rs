//! A server that looks like Prometheus to mpp's probes, and answers what is proxied to it as the test says.
//!
//! What carries `X-Forwarded-Server` is proxied and recorded; the rest are probes.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use shared::testing::{PATIENCE, eventually};

/// What a server answers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// JSON that names the server.
    Served,
    /// These bytes; the connection stays.
    Raw(Vec<u8>),
    /// These bytes, and the end of the connection.
    RawThenClose(Vec<u8>),
    /// These bytes, and a reset.
    RawThenReset(Vec<u8>),
    /// A status with a short body.
    Status(u16, &'static str),
    /// Nothing, for as long as the test runs.
    Hang,
    /// This much later.
    Slow(Duration, Box<Reply>),
    /// Once the gate lets it pass.
    Held(Gate, Box<Reply>),
    /// These pieces, each but the first once the gate lets it pass; chunked.
    Stream(Vec<Vec<u8>>, Gate),
    /// A websocket that echoes.
    Echo,
}

impl Reply {
    pub(crate) fn json(body: &str) -> Self {
        Self::Raw(message("200 OK", "application/json", body.as_bytes()))
    }

    pub(crate) fn text(body: &str) -> Self {
        Self::Raw(message(
            "200 OK",
            "text/plain; version=0.0.4",
            body.as_bytes(),
        ))
    }

    /// What Prometheus says while it starts.
    pub(crate) fn not_ready() -> Self {
        Self::Status(503, "Service Unavailable")
    }
}

/// What holds answers up until the test lets them pass, one by one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    /// Lets one more pass.
    pub(crate) fn open(&self) {
        let (passes, changed) = &*self.0;
        *passes.lock().unwrap() += 1;
        changed.notify_one();
    }

    fn pass(&self) -> Option<()> {
        let (passes, changed) = &*self.0;
        let passes = passes.lock().unwrap();
        let (mut passes, _) = changed
            .wait_timeout_while(passes, PATIENCE, |passes| *passes == 0)
            .unwrap();
        *passes = passes.checked_sub(1)?;
        Some(())
    }
}

/// What a server does.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    pub(crate) metrics: Reply,
    pub(crate) query: Reply,
    pub(crate) history: Reply,
    pub(crate) proxied: Reply,
}

/// A vector of one sample, as the recorded servers answer.
pub(crate) const VECTOR: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1795199547.787,"1"]}]}}"#;
pub(crate) const EMPTY_VECTOR: &str =
    r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

/// The metrics page of a Prometheus 1.5 with so many samples.
pub(crate) fn page(samples: &str) -> String {
    format!(
        "{}prometheus_local_storage_ingested_samples_total {samples}\n",
        page_without_samples()
    )
}

pub(crate) fn page_without_samples() -> String {
    "# HELP prometheus_build_info x\n# TYPE prometheus_build_info gauge\nprometheus_build_info{branch=\"master\",goversion=\"go1.7.5\",revision=\"bd1182d29f462c39544f94cc822830e1c64cf55b\",version=\"1.5.2\"} 1\nprocess_start_time_seconds 1.5e+09\n".to_owned()
}

impl Manners {
    pub(crate) fn good(samples: &str) -> Self {
        Self {
            metrics: Reply::text(&page(samples)),
            query: Reply::json(VECTOR),
            history: Reply::json(VECTOR),
            proxied: Reply::Served,
        }
    }

    pub(crate) fn proxied(self, proxied: Reply) -> Self {
        Self { proxied, ..self }
    }
}

/// A proxied request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// The server. Closed when dropped.
pub(crate) struct Prometheus {
    pub(crate) port: u16,
    host: &'static str,
    shared: Arc<Shared>,
    running: Arc<AtomicBool>,
}

struct Shared {
    name: String,
    manners: Mutex<Manners>,
    seen: Mutex<Vec<Seen>>,
    probes: Mutex<Vec<String>>,
    streams: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
    deserted: AtomicUsize,
}

impl Prometheus {
    /// Listens on a free port.
    #[track_caller]
    pub(crate) fn start(name: &str, manners: Manners) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        Self::on(listener, "127.0.0.1", name, manners)
    }

    /// Starts servers on one port of 127.0.0.1, 127.0.0.2 and 127.0.0.3.
    #[track_caller]
    pub(crate) fn start_on_one_port() -> (u16, Vec<Self>) {
        const HOSTS: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
        let (port, listeners) = eventually("a port that is free on three addresses", || {
            let first = TcpListener::bind((HOSTS[0], 0)).ok()?;
            let port = first.local_addr().ok()?.port();
            let mut listeners = vec![first];
            for host in &HOSTS[1..] {
                listeners.push(TcpListener::bind((*host, port)).ok()?);
            }
            Some((port, listeners))
        });
        let servers = HOSTS
            .into_iter()
            .zip(listeners)
            .map(|(host, listener)| Self::on(listener, host, host, Manners::good("1")));
        (port, servers.collect())
    }

    fn on(listener: TcpListener, host: &'static str, name: &str, manners: Manners) -> Self {
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            host,
            shared: Arc::new(Shared {
                name: name.to_owned(),
                manners: Mutex::new(manners),
                seen: Mutex::default(),
                probes: Mutex::default(),
                streams: Mutex::default(),
                connections: AtomicUsize::new(0),
                deserted: AtomicUsize::new(0),
            }),
            running: Arc::new(AtomicBool::new(true)),
        };
        accept(
            listener,
            Arc::clone(&server.shared),
            Arc::clone(&server.running),
        );
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.shared.manners.lock().unwrap());
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }

    /// The request lines of probes.
    pub(crate) fn probes(&self) -> Vec<String> {
        self.shared.probes.lock().unwrap().clone()
    }

    /// Connections that were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Relaxed)
    }

    /// Connections whose client left while [`Reply::Hang`] kept it waiting.
    pub(crate) fn deserted(&self) -> usize {
        self.shared.deserted.load(Relaxed)
    }

    /// Closes the listener and all connections, as a killed process does.
    pub(crate) fn stop(&mut self) {
        self.running.store(false, Relaxed);
        // Wakes the accepting thread, which closes the listener.
        eventually("the listener to close", || {
            TcpStream::connect((self.host, self.port))
                .is_err()
                .then_some(())
        });
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ended = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            let _closed = stream.shutdown(Shutdown::Both).is_ok();
        }
    }

    /// Listens on the same port again.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        let listener = eventually("the port to be free", || {
            TcpListener::bind((self.host, self.port)).ok()
        });
        self.running = Arc::new(AtomicBool::new(true));
        accept(
            listener,
            Arc::clone(&self.shared),
            Arc::clone(&self.running),
        );
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if self.running.load(Relaxed) {
            self.stop();
        }
    }
}

fn accept(listener: TcpListener, shared: Arc<Shared>, running: Arc<AtomicBool>) {
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            if !running.load(Relaxed) {
                return;
            }
            shared.connections.fetch_add(1, Relaxed);
            stream.set_nodelay(true).unwrap();
            {
                let mut streams = shared.streams.lock().unwrap();
                streams.retain(|stream| stream.peer_addr().is_ok());
                streams.push(stream.try_clone().unwrap());
            }
            let (shared, running) = (Arc::clone(&shared), Arc::clone(&running));
            thread::spawn(move || {
                let _ended = converse(&stream, &shared, &running);
                let _closed = stream.shutdown(Shutdown::Both).is_ok();
            });
        }
    });
}

/// Answers requests until the connection ends.
fn converse(stream: &TcpStream, shared: &Shared, running: &AtomicBool) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let seen = read_request(&mut reader)?;
        let line = seen.head.lines().next().unwrap_or_default().to_owned();
        let proxied = seen
            .head
            .to_ascii_lowercase()
            .contains("\r\nx-forwarded-server:");
        let manners = shared.manners.lock().unwrap().clone();
        let reply = if proxied {
            shared.seen.lock().unwrap().push(seen);
            manners.proxied
        } else {
            shared.probes.lock().unwrap().push(line.clone());
            match line.split(' ').nth(1).unwrap_or_default() {
                target if target.contains("/metrics") => manners.metrics,
                target if target.contains("max%28up%29") => manners.history,
                _ => manners.query,
            }
        };
        let head_only = line.starts_with("HEAD ");
        answer(stream, &mut reader, reply, shared, running, head_only)?;
    }
}

fn answer(
    mut stream: &TcpStream,
    reader: &mut BufReader<TcpStream>,
    reply: Reply,
    shared: &Shared,
    running: &AtomicBool,
    head_only: bool,
) -> Option<()> {
    match reply {
        Reply::Served => {
            let body = format!("{{\"served_by\": \"{}\"}}", shared.name);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nX-Backend: {}\r\nContent-Length: {}\r\n\r\n",
                shared.name,
                body.len()
            );
            let body = if head_only { String::new() } else { body };
            stream.write_all((head + &body).as_bytes()).ok()
        }
        Reply::Raw(bytes) => stream.write_all(&bytes).ok(),
        Reply::RawThenClose(bytes) => {
            stream.write_all(&bytes).ok()?;
            None
        }
        Reply::RawThenReset(bytes) => {
            stream.write_all(&bytes).ok()?;
            // Given time to be read: a reset takes back what still waits in the kernel.
            thread::sleep(Duration::from_millis(30));
            socket2::SockRef::from(stream)
                .set_linger(Some(Duration::ZERO))
                .ok()?;
            shared.streams.lock().unwrap().clear();
            None
        }
        Reply::Status(status, text) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nX-Backend: {}\r\nContent-Length: {}\r\n\r\n",
                shared.name,
                text.len()
            );
            let text = if head_only { "" } else { text };
            stream.write_all((head + text).as_bytes()).ok()
        }
        Reply::Hang => {
            let deadline = Instant::now() + PATIENCE * 3;
            stream.set_nonblocking(true).ok()?;
            while running.load(Relaxed) && Instant::now() < deadline {
                match stream.peek(&mut [0]) {
                    Ok(0) => {
                        shared.deserted.fetch_add(1, Relaxed);
                        return None;
                    }
                    _ => thread::sleep(Duration::from_millis(5)),
                }
            }
            None
        }
        Reply::Slow(pause, reply) => {
            thread::sleep(pause);
            answer(stream, reader, *reply, shared, running, head_only)
        }
        Reply::Held(gate, reply) => {
            gate.pass()?;
            answer(stream, reader, *reply, shared, running, head_only)
        }
        Reply::Stream(pieces, gate) => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).ok()?;
            for (place, piece) in pieces.into_iter().enumerate() {
                if place > 0 {
                    gate.pass()?;
                }
                let chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                stream
                    .write_all(&[&chunk, piece.as_slice(), b"\r\n"].concat())
                    .ok()?;
            }
            stream.write_all(b"0\r\n\r\n").ok()
        }
        Reply::Echo => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
            stream.write_all(head.as_bytes()).ok()?;
            let mut buffer = [0; 1024];
            loop {
                let length = reader.read(&mut buffer).ok().filter(|length| *length > 0)?;
                let text = [b"echo:", &buffer[..length]].concat();
                stream.write_all(&text).ok()?;
                if buffer[..length].starts_with(b"quit") {
                    return None;
                }
            }
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut head = String::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        head.extend(line.iter().map(|byte| char::from(*byte)));
        if line == b"\r\n" {
            break;
        }
    }
    let value = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    };
    let mut body = Vec::new();
    if value("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = value("content-length") {
        body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
    }
    Some(Seen { head, body })
}

/// A whole answer.
pub(crate) fn message(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
