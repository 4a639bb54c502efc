//! An HTTP or HTTPS server that keeps what it is asked and answers as the test says: in the place of Kubernetes, Marathon, a login.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use shared::testing::PATIENCE;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The number of the server in the recording, 0 where there is none.
    pub(crate) server: u16,
    /// Method and target.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) answered: u16,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map_or("", |(_, value)| value.as_str())
    }
}

/// What was asked, in the order of the answers; servers may share one.
pub(crate) type Journal = Arc<Mutex<Vec<Asked>>>;

/// The server; its thread ends with the test.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) port: u16,
    journal: Journal,
    down: Arc<AtomicBool>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

type Answer = dyn Fn(&Asked) -> (u16, String) + Send + Sync;

impl Api {
    pub(crate) fn start(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        Self::start_as(0, &Journal::default(), tls, answer)
    }

    /// Starts it in the place of a recorded one, and has it write to `journal`.
    pub(crate) fn start_as(
        server: u16,
        journal: &Journal,
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let api = Self {
            port: listener.local_addr().unwrap().port(),
            journal: Arc::clone(journal),
            down: Arc::default(),
        };
        let (this, answer) = (api.clone(), Arc::new(answer));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (this, answer, tls) = (this.clone(), Arc::clone(&answer), tls.clone());
                thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut stream = wrap(stream, tls);
                    while this.converse(server, &mut *stream, &*answer).is_some() {}
                });
            }
        });
        api
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.journal.lock().unwrap().clone()
    }

    /// From now on it ends connections instead of answering, or answers again.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Relaxed);
    }

    fn converse(&self, server: u16, stream: &mut dyn Stream, answer: &Answer) -> Option<()> {
        let mut request = read(stream)?;
        if self.down.load(Relaxed) {
            return None;
        }
        request.server = server;
        let (status, text) = answer(&request);
        request.answered = status;
        self.journal.lock().unwrap().push(request);
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all((head + &text).as_bytes()).ok()?;
        stream.flush().ok()
    }
}

fn wrap(stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>) -> Box<dyn Stream> {
    match tls {
        None => Box::new(stream),
        Some(tls) => {
            let session = rustls::ServerConnection::new(tls).unwrap();
            Box::new(rustls::StreamOwned::new(session, stream))
        }
    }
}

fn read(stream: &mut dyn Stream) -> Option<Asked> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next()?.rsplit_once(' ')?.0.to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Asked {
        server: 0,
        line,
        headers,
        body: String::new(),
        answered: 0,
    };
    let length: usize = request.header("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Some(request)
}
