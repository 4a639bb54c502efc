//! Raw peers: sockets that collect what arrives, so that tests see bytes and nothing else.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::eventually;

/// How often a peer's thread looks whether it is to stop.
const TICK: Duration = Duration::from_millis(20);

/// A UDP socket on loopback that keeps every datagram. Closed when dropped.
#[derive(Debug)]
pub struct UdpPeer {
    address: SocketAddr,
    datagrams: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl UdpPeer {
    /// Binds a free port.
    #[track_caller]
    pub fn bind() -> Self {
        Self::bind_to((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Binds `address`.
    #[track_caller]
    pub fn bind_to(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address)
            .unwrap_or_else(|reason| panic!("cannot bind {address}: {reason}"));
        Self::on(socket)
    }

    /// Collects what arrives on `socket`.
    #[track_caller]
    pub fn on(socket: UdpSocket) -> Self {
        let address = socket.local_addr().expect("a bound socket has an address");
        enlarge_receive_buffer(&socket);
        socket
            .set_read_timeout(Some(TICK))
            .expect("a time limit can be set");
        let (datagrams, stop) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let thread = thread::spawn({
            let (datagrams, stop) = (Arc::clone(&datagrams), Arc::clone(&stop));
            move || {
                let mut buffer = vec![0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(length) = socket.recv(&mut buffer) {
                        datagrams.lock().unwrap().push(buffer[..length].to_vec());
                    }
                }
            }
        });
        Self {
            address,
            datagrams,
            stop,
            thread: Some(thread),
        }
    }

    /// Returns the bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the bound port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns all datagrams so far, in order of arrival.
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        self.datagrams.lock().unwrap().clone()
    }

    /// Returns all datagrams so far and forgets them.
    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.datagrams.lock().unwrap())
    }

    /// Returns how many lines have arrived; a datagram holds one line more than it has inner line feeds.
    pub fn line_count(&self) -> usize {
        self.datagrams
            .lock()
            .unwrap()
            .iter()
            .map(|datagram| lines(datagram).count())
            .sum()
    }
}

impl Drop for UdpPeer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a peer does not panic");
        }
    }
}

/// A TCP listener on loopback that keeps every byte of all its connections. Closed, with them, when dropped.
#[derive(Debug)]
pub struct TcpPeer {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    threads: Arc<Mutex<Vec<thread::JoinHandle<()>>>>,
}

impl TcpPeer {
    /// Binds a free port and answers nothing.
    #[track_caller]
    pub fn bind() -> Self {
        Self::answering((Ipv4Addr::LOCALHOST, 0).into(), None)
    }

    /// Binds `address`; writes `answer` after everything that is read.
    #[track_caller]
    pub fn answering(address: SocketAddr, answer: Option<&'static [u8]>) -> Self {
        let listener = TcpListener::bind(address)
            .unwrap_or_else(|reason| panic!("cannot bind {address}: {reason}"));
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        listener
            .set_nonblocking(true)
            .expect("a listener can be made non-blocking");
        let peer = Self {
            address,
            received: Arc::default(),
            stop: Arc::default(),
            threads: Arc::default(),
        };
        let (received, stop, threads) = (
            peer.received.clone(),
            peer.stop.clone(),
            peer.threads.clone(),
        );
        let accept = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                let (received, stop) = (Arc::clone(&received), Arc::clone(&stop));
                let place = {
                    let mut received = received.lock().unwrap();
                    received.push(Vec::new());
                    received.len() - 1
                };
                threads.lock().unwrap().push(thread::spawn(move || {
                    read_all(stream, answer, place, &received, &stop);
                }));
            }
        });
        peer.threads.lock().unwrap().push(accept);
        peer
    }

    /// Returns the bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the bound port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the bytes of each connection so far, in order of connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap().clone()
    }

    /// Returns how many complete lines have arrived on all connections.
    pub fn line_count(&self) -> usize {
        let received = self.received.lock().unwrap();
        received
            .iter()
            .flatten()
            .filter(|byte| **byte == b'\n')
            .count()
    }
}

impl Drop for TcpPeer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        loop {
            let Some(thread) = self.threads.lock().unwrap().pop() else {
                break;
            };
            thread.join().expect("a peer does not panic");
        }
    }
}

fn read_all(
    mut stream: TcpStream,
    answer: Option<&[u8]>,
    place: usize,
    received: &Mutex<Vec<Vec<u8>>>,
    stop: &AtomicBool,
) {
    stream
        .set_nonblocking(false)
        .expect("a stream can be made blocking");
    stream
        .set_read_timeout(Some(TICK))
        .expect("a time limit can be set");
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                received.lock().unwrap()[place].extend_from_slice(&buffer[..length]);
                if answer.is_some_and(|answer| stream.write_all(answer).is_err()) {
                    break;
                }
            }
            Err(reason) if matches!(reason.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            }
            Err(_) => break,
        }
    }
}

/// Returns the non-empty lines of `bytes`.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
}

/// Returns a loopback UDP port that was free a moment ago. For peers that are to be absent.
#[track_caller]
pub fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port can be bound");
    socket
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

/// Returns a loopback TCP port that was free a moment ago.
#[track_caller]
pub fn free_tcp_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port can be bound");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

/// Connects to `address` as soon as something listens there.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    eventually(&format!("a listener on {address}"), || {
        TcpStream::connect(address).ok()
    })
}

/// Tests send in bursts; a default buffer would drop part of them. What the kernel grants has to do.
fn enlarge_receive_buffer(socket: &UdpSocket) {
    use nix::sys::socket::{setsockopt, sockopt};
    const BYTES: usize = 64 << 20;
    let _granted = setsockopt(socket, sockopt::RcvBufForce, &BYTES).is_ok()
        || setsockopt(socket, sockopt::RcvBuf, &BYTES).is_ok();
}
