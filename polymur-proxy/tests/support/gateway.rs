//! Gateways on loopback that do what a script says, request by request, and keep what they get byte for byte.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread,
    time::{Duration, Instant},
};

use flate2::read::MultiGzDecoder;
use parking_lot::Mutex;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use shared::testing::eventually;

use super::loopback;

/// How often a thread looks whether it is to stop.
const TICK: Duration = Duration::from_millis(10);

/// What is done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read the body, then answer with exactly this.
    Answer(Vec<u8>),
    /// Read the body, answer, and close.
    AnswerAndClose(Vec<u8>),
    /// Answer before the body is read, and close.
    Early(Vec<u8>),
    /// Read the body and close.
    Close,
    /// Read the body and reset.
    Reset,
    /// Read so many bytes of the body and reset.
    ResetWithin(usize),
    /// Read the body and never answer.
    Hang,
    /// What the real gateway does, for this key.
    Real(&'static str),
    /// What the real gateway does, for these keys.
    RealOf(Vec<String>),
    /// Wait, then do something else.
    After(Duration, Box<Action>),
}

impl Action {
    /// Answers with a status and a body.
    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::Answer(answer(status, &[], body.as_bytes()))
    }

    /// What a gateway says when all is well.
    pub(crate) fn received() -> Self {
        Self::status(200, "Batch Received\n")
    }
}

/// Writes an answer.
pub(crate) fn answer(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        out.extend([name, ": ", value, "\r\n"]);
    }
    out.push_str("\r\n");
    [out.as_bytes(), body].concat()
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Request line and headers, a character per byte.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Number of the connection.
    pub(crate) connection: usize,
    /// Whether the batch was taken: the answer was 200.
    pub(crate) taken: bool,
    pub(crate) at: Instant,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The body decompressed; `None` if it is no gzip stream.
    pub(crate) fn text(&self) -> Option<Vec<u8>> {
        gunzip(&self.body)
    }
}

/// All members of a gzip stream.
pub(crate) fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut text).ok()?;
    Some(text)
}

/// What a server shows.
#[derive(Debug, Clone)]
pub(crate) struct Tls(Arc<ServerConfig>);

impl Tls {
    pub(crate) fn new(
        certificates: &[u8],
        key: &[u8],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        Self::build(certificates, key, versions, None)
    }

    /// Wants a certificate of its clients that `authority` has issued.
    pub(crate) fn build(
        certificates: &[u8],
        key: &[u8],
        versions: &[&'static SupportedProtocolVersion],
        authority: Option<&[u8]>,
    ) -> Self {
        let provider = shared::tls::provider();
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(certificates)
            .map(Result::unwrap)
            .collect();
        let key = PrivateKeyDer::from_pem_slice(key).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots
                    .add(CertificateDer::from_pem_slice(authority).unwrap())
                    .unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    provider,
                );
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = builder.with_single_cert(certificates, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }
}

/// Says what is done with a request, from its path and how many came before it to this gateway.
pub(crate) type Script = Box<dyn Fn(&str, usize) -> Action + Send + Sync>;

/// Says that the key is valid, and does the same with every batch.
pub(crate) fn ping_then(action: Action) -> impl Fn(&str, usize) -> Action + Send + Sync + 'static {
    move |path, _| match path {
        "/ping" => Action::status(200, "key is valid\n"),
        _ => action.clone(),
    }
}

/// A gateway. Gone, with its connections, when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    acceptor: Option<thread::JoinHandle<()>>,
}

struct Inner {
    tls: Mutex<Option<Tls>>,
    script: Script,
    requests: Mutex<Vec<Request>>,
    /// Lines of batches that were taken, counted as they are: who asks holds no request up.
    taken_lines: AtomicU64,
    heads: AtomicU64,
    /// Connections that the other side has closed between requests.
    hung_up: AtomicU64,
    stop: AtomicBool,
    connections: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Gateway {
    /// Starts on a free port.
    #[track_caller]
    pub(crate) fn start(
        tls: Option<Tls>,
        script: impl Fn(&str, usize) -> Action + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(loopback(0), tls, script)
    }

    /// Takes everything.
    #[track_caller]
    pub(crate) fn friendly() -> Self {
        Self::friendly_at(loopback(0))
    }

    /// Takes everything, where another gateway was before.
    #[track_caller]
    pub(crate) fn friendly_at(address: SocketAddr) -> Self {
        Self::start_at(address, None, ping_then(Action::received()))
    }

    #[track_caller]
    pub(crate) fn start_at(
        address: SocketAddr,
        tls: Option<Tls>,
        script: impl Fn(&str, usize) -> Action + Send + Sync + 'static,
    ) -> Self {
        let listener = eventually(&format!("port {address} to be free"), || {
            TcpListener::bind(address).ok()
        });
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let inner = Arc::new(Inner {
            tls: Mutex::new(tls),
            script: Box::new(script),
            requests: Mutex::default(),
            taken_lines: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            hung_up: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let shared = Arc::clone(&inner);
        let acceptor = thread::spawn(move || accept(&listener, &shared));
        Self {
            address,
            inner,
            acceptor: Some(acceptor),
        }
    }

    /// The flag that names this gateway.
    pub(crate) fn flag(&self) -> String {
        let scheme = match *self.inner.tls.lock() {
            Some(_) => "https",
            None => "http",
        };
        format!("-gateway={scheme}://localhost:{}", self.address.port())
    }

    /// Shows something else from now on.
    pub(crate) fn show(&self, tls: Tls) {
        *self.inner.tls.lock() = Some(tls);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.inner.requests.lock().clone()
    }

    /// Requests to `/ingest` so far, those whose body was not read included.
    pub(crate) fn ingests(&self) -> usize {
        let requests = self.inner.requests.lock();
        requests
            .iter()
            .filter(|request| request.path().ends_with("/ingest"))
            .count()
    }

    /// Connections that the other side has closed between requests.
    pub(crate) fn hung_up(&self) -> u64 {
        self.inner.hung_up.load(Relaxed)
    }

    /// The lines of all batches that were taken.
    pub(crate) fn taken(&self) -> Vec<u8> {
        let requests = self.inner.requests.lock();
        let batches = requests
            .iter()
            .filter(|request| request.taken && request.path().ends_with("/ingest"));
        batches
            .flat_map(|request| request.text().unwrap())
            .collect()
    }

    /// How many lines have been taken.
    pub(crate) fn taken_lines(&self) -> u64 {
        self.inner.taken_lines.load(Acquire)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.inner.stop.store(true, Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
        let connections = std::mem::take(&mut *self.inner.connections.lock());
        for connection in connections {
            // A connection that a broken peer has ended with a panic is not news.
            let _ended = connection.join().is_ok();
        }
    }
}

fn accept(listener: &TcpListener, inner: &Arc<Inner>) {
    let mut number = 0;
    while !inner.stop.load(Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let shared = Arc::clone(inner);
        let connection = number;
        number += 1;
        let handle = thread::spawn(move || {
            stream.set_nonblocking(false).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(TICK)).unwrap();
            let raw = stream.try_clone().unwrap();
            let tls = shared.tls.lock().clone();
            let end = match tls {
                None => serve(stream, connection, &shared),
                Some(Tls(config)) => {
                    let session = ServerConnection::new(config).unwrap();
                    serve(StreamOwned::new(session, stream), connection, &shared)
                }
            };
            match end {
                End::Close => drop(raw.shutdown(Shutdown::Both)),
                // The last handle goes without a farewell.
                End::Reset => socket2::SockRef::from(&raw)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap(),
            }
        });
        inner.connections.lock().push(handle);
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

/// Serves requests until one side has had enough.
fn serve(mut stream: impl Read + Write, connection: usize, inner: &Inner) -> End {
    let mut unread = Vec::new();
    loop {
        let Some(head) = read_until(&mut stream, &mut unread, inner, |bytes| {
            memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
        }) else {
            if unread.is_empty() && !inner.stop.load(Relaxed) {
                inner.hung_up.fetch_add(1, Relaxed);
            }
            return End::Close;
        };
        let head: String = head.into_iter().map(char::from).collect();
        let length = header(&head, "content-length");
        let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
        let number = inner.heads.fetch_add(1, Relaxed) as usize;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut action = (inner.script)(&path, number);
        while let Action::After(wait, next) = action {
            thread::sleep(wait);
            action = *next;
        }
        let wanted = match &action {
            Action::Early(_) => 0,
            Action::ResetWithin(bytes) => length.min(*bytes),
            _ => length,
        };
        let body = read_until(&mut stream, &mut unread, inner, |bytes| {
            (bytes.len() >= wanted).then_some(wanted)
        });
        let Some(body) = body else {
            return End::Close;
        };
        action = match action {
            Action::Real(key) => real(&head, &body, &[key.to_owned()]),
            Action::RealOf(keys) => real(&head, &body, &keys),
            other => other,
        };
        let taken = matches!(&action, Action::Answer(bytes) if bytes.starts_with(b"HTTP/1.1 200 "));
        let request = Request {
            head,
            body,
            connection,
            taken,
            at: Instant::now(),
        };
        let batch = request.taken && request.path().ends_with("/ingest");
        let text = batch.then(|| request.text()).flatten().unwrap_or_default();
        inner.requests.lock().push(request);
        let lines = memchr::memchr_iter(b'\n', &text).count();
        inner.taken_lines.fetch_add(lines as u64, Release);
        match action {
            Action::Answer(bytes) => {
                if stream
                    .write_all(&bytes)
                    .and_then(|()| stream.flush())
                    .is_err()
                {
                    return End::Close;
                }
            }
            Action::AnswerAndClose(bytes) | Action::Early(bytes) => {
                let _sent = stream
                    .write_all(&bytes)
                    .and_then(|()| stream.flush())
                    .is_ok();
                return End::Close;
            }
            Action::Close => return End::Close,
            Action::Reset | Action::ResetWithin(_) => return End::Reset,
            Action::Hang => {
                while !inner.stop.load(Relaxed) && !is_gone(&mut stream) {
                    thread::sleep(TICK);
                }
                return End::Close;
            }
            Action::Real(_) | Action::RealOf(_) | Action::After(..) => {
                unreachable!("replaced above")
            }
        }
    }
}

/// The first header of a name, whatever its case.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn is_gone(stream: &mut impl Read) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(reason) => !is_timeout(&reason),
    }
}

fn is_timeout(reason: &io::Error) -> bool {
    matches!(reason.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Reads until `complete` says how many bytes to take; `None` when that will never be.
fn read_until(
    stream: &mut impl Read,
    unread: &mut Vec<u8>,
    inner: &Inner,
    complete: impl Fn(&[u8]) -> Option<usize>,
) -> Option<Vec<u8>> {
    let mut block = vec![0; 64 * 1024];
    loop {
        if let Some(length) = complete(unread) {
            let rest = unread.split_off(length);
            return Some(std::mem::replace(unread, rest));
        }
        if inner.stop.load(Relaxed) {
            return None;
        }
        match stream.read(&mut block) {
            Ok(0) => return None,
            Ok(length) => unread.extend_from_slice(&block[..length]),
            Err(reason) if is_timeout(&reason) => {}
            Err(_) => return None,
        }
    }
}

/// What the real gateway answers: section by section as recorded in `golden/gateway/http_replies.json`.
fn real(head: &str, body: &[u8], keys: &[String]) -> Action {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let text = [(
        "Content-Type".to_owned(),
        "text/plain; charset=utf-8".to_owned(),
    )];
    let say = |status, body: &str| Action::Answer(answer(status, &text, body.as_bytes()));
    let shown = header(head, "x-polymur-key");
    let known = shown.is_some_and(|shown| keys.iter().any(|key| key == shown));
    match path {
        "//ping" | "//ingest" => Action::Answer(answer(
            301,
            &[("Location".to_owned(), path.replacen("//", "/", 1))],
            b"",
        )),
        "/ping" | "/ingest" if !known => say(401, "invalid key"),
        "/ping" => say(200, "key is valid\n"),
        "/ingest" if body.len() < 10 || !body.starts_with(&[0x1f, 0x8b]) => Action::Close,
        "/ingest" if gunzip(body).is_none() => say(400, "Batch Malformed\n"),
        "/ingest" => say(200, "Batch Received\n"),
        _ => say(404, "404 page not found\n"),
    }
}
