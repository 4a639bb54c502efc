//! A server with series that can be made to fail, in every way that a process, a network or something between them does.

use std::{
    collections::HashMap,
    io::{ErrorKind, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use shared::testing::eventually;

use crate::{
    holding::Holding,
    support::stub::{self, Asked},
};

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It is gone: connections break off, and nobody listens any more.
    Killed,
    /// It takes requests and is silent.
    Hung,
    /// It is silent in the middle of its answers.
    HungWithinAnswer,
    /// It takes its time, and sends in pieces.
    Slowed,
    /// Its answers end in the middle, whatever says where they should end.
    Truncated,
    /// Connections are reset, some of them in the middle of an answer.
    Reset,
    /// It has failed.
    Status500,
    /// Something in between wants a login.
    Html403,
    /// Something in between has nothing to say.
    NoContent204,
    /// It is over.
    Ended,
}

/// How often a server looks whether its fault has changed.
const TICK: Duration = Duration::from_millis(5);

/// A server on a port of loopback.
pub(crate) struct Server {
    pub(crate) port: u16,
    inner: Arc<Inner>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Names and values.
type Params = Vec<(String, String)>;

/// Bodies by path and parameters.
type Answers = HashMap<(String, Params), Arc<[u8]>>;

struct Inner {
    fault: Mutex<Fault>,
    is_listening: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    holding: Arc<Holding>,
    answers: Mutex<Answers>,
    count: AtomicU64,
}

impl Server {
    /// Starts a server of series.
    pub(crate) fn start(holding: &Arc<Holding>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::new(Inner {
            fault: Mutex::new(Fault::None),
            is_listening: AtomicBool::new(true),
            streams: Mutex::default(),
            holding: Arc::clone(holding),
            answers: Mutex::default(),
            count: AtomicU64::new(0),
        });
        let thread = {
            let inner = Arc::clone(&inner);
            thread::spawn(move || inner.run(listener, port))
        };
        Self {
            port,
            inner,
            thread: Some(thread),
        }
    }

    /// From now on this is wrong with it, also with the answers that it is giving.
    pub(crate) fn set(&self, fault: Fault) {
        *self.inner.fault.lock().unwrap() = fault;
    }

    /// From now on nothing is wrong with it, and it listens.
    pub(crate) fn recover(&self) {
        self.set(Fault::None);
        eventually("a killed server to listen again", || {
            self.inner.is_listening.load(Relaxed).then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.set(Fault::Ended);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Inner {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    fn run(self: &Arc<Self>, listener: TcpListener, port: u16) {
        let mut listener = Some(listener);
        loop {
            match self.fault() {
                fault @ (Fault::Killed | Fault::Ended) => {
                    listener = None;
                    self.is_listening.store(false, Relaxed);
                    for stream in self.streams.lock().unwrap().drain(..) {
                        let _closed = stream.shutdown(Shutdown::Both).is_ok();
                    }
                    if fault == Fault::Ended {
                        return;
                    }
                    thread::sleep(TICK);
                }
                _ => match &listener {
                    None => {
                        let bound = eventually("the port of a killed server", || {
                            TcpListener::bind(("127.0.0.1", port)).ok()
                        });
                        listener = Some(bound);
                        self.is_listening.store(true, Relaxed);
                    }
                    Some(listener) => self.accept(listener),
                },
            }
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        listener.set_nonblocking(true).unwrap();
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_nodelay(true).unwrap();
                self.streams
                    .lock()
                    .unwrap()
                    .push(stream.try_clone().unwrap());
                let inner = Arc::clone(self);
                thread::spawn(move || while inner.serve(&stream).is_some() {});
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TICK),
            Err(error) => panic!("accepting failed: {error}"),
        }
    }

    /// Serves a request; `None` at the end of the connection.
    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        let request = stub::read(&mut stream)?;
        let (kind, body) = if request.path() == "/api/v1/read" {
            let body: Arc<[u8]> = self.holding.read(&request.body).into();
            ("application/x-protobuf", body)
        } else {
            ("application/json", self.answer(&request))
        };
        let whole = |status: &str, kind: &str, body: &[u8]| {
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            [head.as_bytes(), body].concat()
        };
        let right = || whole("200 OK", kind, &body);
        let number = self.count.fetch_add(1, Relaxed);
        match self.fault() {
            Fault::None => stream.write_all(&right()).ok(),
            Fault::Killed | Fault::Ended => None,
            Fault::Hung => self.hang(stream, Fault::Hung),
            Fault::HungWithinAnswer => {
                let bytes = right();
                stream.write_all(half(&bytes)).ok()?;
                self.hang(stream, Fault::HungWithinAnswer)
            }
            Fault::Slowed => {
                let bytes = right();
                thread::sleep(Duration::from_millis(100));
                for piece in bytes.chunks(bytes.len() / 4 + 1) {
                    stream.write_all(piece).ok()?;
                    thread::sleep(Duration::from_millis(20));
                }
                Some(())
            }
            Fault::Truncated => {
                // By a length that is not reached, by pieces without a last one, by the end of the connection alone.
                let cut = half(&body);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n");
                let framed = match number % 3 {
                    0 => format!("{head}Content-Length: {}\r\n\r\n", body.len()),
                    1 => format!(
                        "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                        cut.len()
                    ),
                    _ => format!("{head}Connection: close\r\n\r\n"),
                };
                let end: &[u8] = if number % 3 == 1 { b"\r\n" } else { b"" };
                stream
                    .write_all(&[framed.as_bytes(), cut, end].concat())
                    .ok()?;
                close(stream)
            }
            Fault::Reset => {
                if number.is_multiple_of(2) {
                    stream.write_all(half(&right())).ok()?;
                }
                let at_once = nix::libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                setsockopt(&stream, sockopt::Linger, &at_once).unwrap();
                // The connection is reset when its last handle is gone.
                let peer = stream.peer_addr().ok();
                let mut streams = self.streams.lock().unwrap();
                streams.retain(|other| other.peer_addr().ok() != peer);
                None
            }
            Fault::Status500 => stream
                .write_all(&whole("500 Internal Server Error", "text/plain", b"boom"))
                .ok(),
            Fault::Html403 => stream
                .write_all(&whole(
                    "403 Forbidden",
                    "text/html",
                    b"<html><body>Log in</body></html>",
                ))
                .ok(),
            Fault::NoContent204 => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok(),
        }
    }

    /// Says nothing more as long as the fault lasts.
    fn hang(&self, stream: &TcpStream, fault: Fault) -> Option<()> {
        while self.fault() == fault {
            thread::sleep(TICK);
        }
        close(stream)
    }

    /// Answers as a server with the series does. Equal questions come often.
    fn answer(&self, request: &Asked) -> Arc<[u8]> {
        let key = (request.path().to_owned(), request.parameters());
        if let Some(known) = self.answers.lock().unwrap().get(&key) {
            return Arc::clone(known);
        }
        let answer: Arc<[u8]> = self.holding.answer(&key.0, &key.1).into_bytes().into();
        self.answers
            .lock()
            .unwrap()
            .insert(key, Arc::clone(&answer));
        answer
    }
}

fn half(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / 2]
}

fn close(stream: &TcpStream) -> Option<()> {
    let _closed = stream.shutdown(Shutdown::Both).is_ok();
    None
}
