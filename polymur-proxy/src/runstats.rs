//! The runstats listener: one read of at most 8 bytes, one reply. Replies are the original's, byte for byte.
//!
//! Unlike the original's, clients are served side by side, for a limited time, and what they send beyond 8 bytes is read,
//! so that the reply is not lost to a reset.

use std::{sync::Arc, time::Duration};

use jiff::Zoned;
use serde::Serialize;
use shared::lifecycle::Tasks;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use crate::memory;

/// What is read of a request.
const REQUEST: usize = 8;
/// Clients at a time; more wait in the kernel's queue.
const CLIENTS: usize = 64;
/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long and how much is read after the reply.
const DRAIN: Duration = Duration::from_secs(1);
const DRAIN_BYTES: usize = 64 * 1024;

/// When the process began.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    wall: Zoned,
    clock: Instant,
}

impl Started {
    pub(crate) fn now() -> Self {
        Self {
            wall: Zoned::now(),
            clock: Instant::now(),
        }
    }
}

#[derive(Serialize)]
struct Stats {
    #[serde(rename = "runtime-meminfo", serialize_with = "as_map")]
    memory: [(&'static str, u64); 25],
    service: Service,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Service {
    start_time: String,
    uptime_seconds: u64,
}

/// Serves clients as tasks of `tasks` until it is stopped.
pub(crate) fn serve(tasks: &Tasks, listener: TcpListener, started: Started) {
    let group = tasks.clone();
    tasks.spawn("runstats", async move {
        let stop = group.stop_token();
        let places = Arc::new(Semaphore::new(CLIENTS));
        let next = async || {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        loop {
            let (place, accepted) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                next = next() => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (started, stop) = (started.clone(), stop.clone());
                    group.spawn("runstats client", async move {
                        let _ended = stop.run_until_cancelled(answer(stream, &started)).await;
                        drop(place);
                    });
                }
                Err(reason) => {
                    warn!(%reason, "cannot accept runstats clients");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
}

/// A client that goes away, or says nothing, gets nothing.
async fn answer(mut stream: TcpStream, started: &Started) {
    let mut request = [0; REQUEST];
    let Ok(Ok(length)) = timeout(PATIENCE, stream.read(&mut request)).await else {
        return;
    };
    let answer = reply(&request[..length], started);
    let finish = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        let (mut rest, mut read) = ([0; 4_096], 0);
        while read < DRAIN_BYTES {
            match stream.read(&mut rest).await? {
                0 => break,
                length => read += length,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let _done = timeout(DRAIN, finish).await.is_ok();
}

fn reply(request: &[u8], started: &Started) -> Vec<u8> {
    let trimmed = trim(request);
    if trimmed != b"stats" {
        return [b"Not a command: ", trimmed, b"\n"].concat();
    }
    let stats = Stats {
        memory: memory::numbers(),
        service: Service {
            start_time: started.wall.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            uptime_seconds: started.clock.elapsed().as_secs(),
        },
    };
    let mut text = serde_json::to_vec_pretty(&stats).expect("strings and numbers are JSON");
    text.push(b'\n');
    // Go writes UTC as Z.
    if started.wall.offset().seconds() == 0 {
        let text = String::from_utf8(text).expect("JSON is UTF-8");
        return text.replace("+00:00\"", "Z\"").into_bytes();
    }
    text
}

/// Cuts Unicode white space at both ends; bytes that are no UTF-8 are none.
fn trim(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some(first) = rest.utf8_chunks().next()
        && let Some(c) = first.valid().chars().next()
        && c.is_whitespace()
    {
        rest = &rest[c.len_utf8()..];
    }
    while let Some(c) = last_char(rest).filter(|c| c.is_whitespace()) {
        rest = &rest[..rest.len() - c.len_utf8()];
    }
    rest
}

fn last_char(bytes: &[u8]) -> Option<char> {
    (1..=bytes.len().min(4)).find_map(|length| {
        let tail = &bytes[bytes.len() - length..];
        std::str::from_utf8(tail).ok()?.chars().next()
    })
}

fn as_map<S: serde::Serializer>(
    numbers: &[(&'static str, u64); 25],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(numbers.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unicode_white_space_is_cut_at_both_ends() {
        let f = |bytes: &[u8], expected: &[u8]| assert_eq!(trim(bytes), expected, "{bytes:?}");
        f(b" stats\r\n", b"stats");
        f("\u{a0}stats\u{2003}".as_bytes(), b"stats");
        f(b"\x0bstats", b"stats");
        f(b"\n", b"");
        f(b"", b"");
        f(b"\xff\xfe\n", b"\xff\xfe");
        f(b"\0\n", b"\0");
        f(b"a b", b"a b");
    }
}
