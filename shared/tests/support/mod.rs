//! A raw HTTP peer in Consul's or Kubernetes' place: it keeps the head of every request and answers with the bytes that the test says.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    thread,
    time::Duration,
};

use shared::testing::PATIENCE;

/// What follows a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These bytes, and the connection stays.
    Bytes(Vec<u8>),
    /// These bytes, and then those that come from the test, until it has no more.
    Pieces(Vec<u8>, Arc<Mutex<Receiver<Vec<u8>>>>),
    /// The end of the connection.
    Close,
    /// Nothing, until the client gives up.
    Silence,
}

/// The peer. Takes no more connections when dropped.
pub(crate) struct Peer {
    heads: Arc<Mutex<Vec<Vec<String>>>>,
    stop: Arc<AtomicBool>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Peer {
    /// Listens on a free port; `answer` gets the number of the request, from 0, and its head.
    pub(crate) fn tcp(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(usize, &[String]) -> Reply + Send + Sync + 'static,
    ) -> (Self, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let accept = move || -> Option<Box<dyn Stream>> {
            let (stream, _) = listener.accept().ok()?;
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Some(match &tls {
                None => Box::new(stream),
                Some(tls) => {
                    let session = rustls::ServerConnection::new(Arc::clone(tls)).unwrap();
                    Box::new(rustls::StreamOwned::new(session, stream))
                }
            })
        };
        (Self::serve(accept, answer), address)
    }

    /// Listens on a Unix socket.
    pub(crate) fn unix(
        path: &Path,
        answer: impl Fn(usize, &[String]) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let accept = move || -> Option<Box<dyn Stream>> {
            let (stream, _) = listener.accept().ok()?;
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Some(Box::new(stream))
        };
        Self::serve(accept, answer)
    }

    /// Returns the heads of the requests so far, line by line.
    pub(crate) fn heads(&self) -> Vec<Vec<String>> {
        self.heads.lock().unwrap().clone()
    }

    fn serve(
        accept: impl Fn() -> Option<Box<dyn Stream>> + Send + 'static,
        answer: impl Fn(usize, &[String]) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (heads, stop, answer) = (
            Arc::default(),
            Arc::<AtomicBool>::default(),
            Arc::new(answer),
        );
        let peer = Self {
            heads: Arc::clone(&heads),
            stop: Arc::clone(&stop),
        };
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Some(mut stream) = accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                let (heads, answer) = (Arc::clone(&heads), Arc::clone(&answer));
                thread::spawn(move || converse(&mut *stream, &heads, &*answer));
            }
        });
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn converse(
    stream: &mut dyn Stream,
    heads: &Mutex<Vec<Vec<String>>>,
    answer: &dyn Fn(usize, &[String]) -> Reply,
) {
    while let Some(head) = read_head(stream) {
        let number = {
            let mut heads = heads.lock().unwrap();
            heads.push(head.clone());
            heads.len() - 1
        };
        match answer(number, &head) {
            Reply::Bytes(bytes) => {
                if stream
                    .write_all(&bytes)
                    .and_then(|()| stream.flush())
                    .is_err()
                {
                    return;
                }
            }
            Reply::Pieces(beginning, pieces) => {
                let pieces = pieces.lock().unwrap();
                let all = std::iter::once(beginning).chain(pieces.iter());
                for piece in all {
                    if stream
                        .write_all(&piece)
                        .and_then(|()| stream.flush())
                        .is_err()
                    {
                        return;
                    }
                }
            }
            Reply::Close => return,
            Reply::Silence => {
                let _gone = stream.read(&mut [0]).is_ok();
                return;
            }
        }
    }
}

fn read_head(stream: &mut dyn Stream) -> Option<Vec<String>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).unwrap();
    Some(text.trim_end().split("\r\n").map(str::to_owned).collect())
}
