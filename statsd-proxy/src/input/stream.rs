//! Lines from TCP and Unix stream connections.
//!
//! A task per connection reads, cuts at the last line feed, and sends whole lines over one bounded channel to one relay
//! thread. When that is full, connections wait, and so do their senders. Text without a line feed at the end of a
//! connection is dropped and counted, as `proxy.js` drops it: it may be half a line.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::Duration,
};

use memchr::{memchr, memrchr};
use shared::lifecycle::Tasks;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime::Handle,
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{BURST, IDLE_TICK, LAST_READS};
use crate::{counters::DropReason, relay::Relay};

/// Blocks that may wait for the relay, of up to [`MAX_LINE`] bytes each. When they are full, connections wait.
const WAITING_BLOCKS: usize = 64;
/// The longest line; also what a connection's buffer grows to.
const MAX_LINE: usize = 65_535;
/// Connections at a time over all listeners; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4_096;
/// After a stop request, a connection that is silent for this long has said what it had to say.
const SILENCE: Duration = Duration::from_millis(50);

/// What a connection has to say.
#[derive(Debug)]
pub(crate) enum Block {
    /// Whole lines, each with its line feed.
    Lines(Vec<u8>),
    /// A line that cannot be forwarded.
    Lost(DropReason),
}

/// A listener for connections that carry lines.
#[derive(Debug)]
pub(crate) enum StreamListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

#[derive(Debug)]
enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Starts the relay thread and an accept loop for each listener, all in `tasks`.
///
/// The thread ends when all connections have ended.
pub(crate) fn start(tasks: &Tasks, listeners: Vec<StreamListener>, relay: Relay) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(WAITING_BLOCKS);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for listener in listeners {
        let accept = accept(listener, tasks.clone(), Arc::clone(&places), sender.clone());
        tasks.spawn("stream listener", accept);
    }
    let runtime = Handle::current();
    tasks.spawn_thread("relay-streams".to_owned(), move || {
        relay_blocks(&runtime, receiver, relay)
    })
}

fn relay_blocks(runtime: &Handle, mut blocks: mpsc::Receiver<Block>, mut relay: Relay) {
    loop {
        let first = match runtime.block_on(async { timeout(IDLE_TICK, blocks.recv()).await }) {
            Ok(Some(block)) => block,
            Ok(None) => break,
            Err(_) => {
                relay.idle();
                continue;
            }
        };
        relay.begin();
        relay_block(&mut relay, first);
        for _ in 1..BURST {
            let Ok(block) = blocks.try_recv() else { break };
            relay_block(&mut relay, block);
        }
        relay.flush();
    }
    relay.idle();
}

fn relay_block(relay: &mut Relay, block: Block) {
    match block {
        Block::Lines(lines) => relay.lines(&lines),
        Block::Lost(reason) => relay.drop_line(reason),
    }
}

async fn accept(
    listener: StreamListener,
    tasks: Tasks,
    places: Arc<Semaphore>,
    sender: mpsc::Sender<Block>,
) {
    let stop = tasks.stop_token();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(place), Ok(connection)) => {
                let (sender, stop) = (sender.clone(), stop.clone());
                tasks.spawn("stream connection", async move {
                    match connection {
                        Connection::Tcp(stream) => read_lines(stream, sender, stop).await,
                        Connection::Unix(stream) => read_lines(stream, sender, stop).await,
                    }
                    drop(place);
                });
            }
            (_, Err(reason)) => {
                // Out of descriptors, most likely: waiting gives them time to come back.
                warn!(%reason, "cannot accept connections");
                sleep(IDLE_TICK).await;
            }
            (Err(_closed), _) => return,
        }
    }
}

impl StreamListener {
    async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A sender may be silent for days; this finds the ones that are gone.
                let alive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
                socket2::SockRef::from(&stream).set_tcp_keepalive(&alive)?;
                Ok(Connection::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Connection::Unix(listener.accept().await?.0)),
        }
    }
}

/// Reads until the connection ends, or, after a stop request, until it is silent or [`LAST_READS`] is over.
async fn read_lines(
    mut stream: impl AsyncRead + Unpin,
    sender: mpsc::Sender<Block>,
    stop: CancellationToken,
) {
    let mut lines = Unfinished::default();
    loop {
        let read = tokio::select! {
            biased;
            read = stream.read_buf(&mut lines.text) => read,
            () = stop.cancelled() => break,
        };
        if !read_on(&read) || !hand_over(&mut lines, &sender).await {
            break;
        }
    }
    if stop.is_cancelled() {
        let deadline = Instant::now() + LAST_READS;
        while Instant::now() < deadline {
            match timeout(SILENCE, stream.read_buf(&mut lines.text)).await {
                Ok(read) if read_on(&read) && hand_over(&mut lines, &sender).await => {}
                _ => break,
            }
        }
    }
    if !lines.text.is_empty() && !lines.skipping {
        // A closed channel means that the relay is gone, which only happens when the process ends.
        let _sent = sender
            .send(Block::Lost(DropReason::Unterminated))
            .await
            .is_ok();
    }
}

fn read_on(read: &io::Result<usize>) -> bool {
    match read {
        Ok(length) => *length > 0,
        Err(reason) => reason.kind() == ErrorKind::Interrupted,
    }
}

/// Sends what the connection has completed; false when nobody takes it any more.
async fn hand_over(lines: &mut Unfinished, sender: &mpsc::Sender<Block>) -> bool {
    while let Some(block) = lines.next_block() {
        if sender.send(block).await.is_err() {
            return false;
        }
    }
    true
}

/// What a connection has sent since its last line feed.
#[derive(Debug, Default)]
struct Unfinished {
    text: Vec<u8>,
    /// Whether the text belongs to a line that was too long.
    skipping: bool,
}

impl Unfinished {
    /// Takes the whole lines, or notices that the line is too long; `None` until more text comes.
    fn next_block(&mut self) -> Option<Block> {
        if self.skipping {
            let Some(end) = memchr(b'\n', &self.text) else {
                self.text.clear();
                return None;
            };
            self.text.drain(..=end);
            self.skipping = false;
        }
        if let Some(end) = memrchr(b'\n', &self.text) {
            let rest = self.text.split_off(end + 1);
            return Some(Block::Lines(std::mem::replace(&mut self.text, rest)));
        }
        if self.text.len() > MAX_LINE {
            self.text.clear();
            self.skipping = true;
            return Some(Block::Lost(DropReason::Oversize));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(segments: &[&[u8]]) -> (Vec<String>, usize, Unfinished) {
        let mut unfinished = Unfinished::default();
        let (mut lines, mut lost) = (Vec::new(), 0);
        for segment in segments {
            unfinished.text.extend_from_slice(segment);
            while let Some(block) = unfinished.next_block() {
                match block {
                    Block::Lines(block) => lines.push(String::from_utf8(block).unwrap()),
                    Block::Lost(_) => lost += 1,
                }
            }
        }
        (lines, lost, unfinished)
    }

    #[test]
    fn lines_are_put_together_from_segments() {
        let (lines, lost, rest) = blocks(&[b"gore", b"ts:1|c\nglo", b"rk:320|ms\na:1|c\nb"]);
        assert_eq!(lines, ["gorets:1|c\n", "glork:320|ms\na:1|c\n"]);
        assert_eq!((lost, rest.text), (0, b"b".to_vec()));
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_to_its_end() {
        let long = vec![b'x'; MAX_LINE + 1];
        let (lines, lost, rest) = blocks(&[&long, b"xxx", b"y\na:1|c\n"]);
        assert_eq!(lines, ["a:1|c\n"]);
        assert_eq!((lost, rest.skipping), (1, false));
    }
}
