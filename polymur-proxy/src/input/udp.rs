//! Plaintext lines in datagrams. A datagram holds whole lines: the last needs no line feed.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tokio::net::UdpSocket;
use tracing::warn;

use super::Context;
use crate::lines::LineReader;

/// The longest datagram.
const LONGEST: usize = 65_536;
/// Datagrams that are read before other tasks have their turn.
const BURST: usize = 64;

/// Reads datagrams as a task until the group is stopped; then what the kernel still has.
pub(crate) fn serve(context: &Context, socket: UdpSocket) {
    let context = context.clone();
    let tasks = context.tasks.clone();
    tasks.spawn("udp", async move {
        let stop = context.tasks.stop_token();
        let mut buffer = vec![0; LONGEST];
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ready = socket.readable() => {
                    if let Err(reason) = ready {
                        warn!(%reason, "cannot read datagrams");
                        break;
                    }
                }
            }
            read_burst(&context, &socket, &mut buffer).await;
            tokio::task::yield_now().await;
        }
        while read_burst(&context, &socket, &mut buffer).await == BURST {}
    });
}

/// Reads what there is, up to a burst. Returns how many datagrams.
async fn read_burst(context: &Context, socket: &UdpSocket, buffer: &mut [u8]) -> usize {
    let mut read = 0;
    while read < BURST {
        let Ok((length, peer)) = socket.try_recv_from(buffer) else {
            break;
        };
        read += 1;
        let shared = Arc::clone(&context.shared_batch);
        let (tally, full) = shared.fill(|filling| {
            let mut reader = LineReader::new(context.check);
            let mut tally = reader.feed(&buffer[..length], filling);
            let last = reader.finish(filling);
            tally.taken += last.taken;
            tally.invalid += last.invalid;
            tally
        });
        let counters = &context.intake.counters;
        counters.datagrams.fetch_add(1, Relaxed);
        context.count(length, tally, &peer);
        context.intake.tell_if_full();
        context.intake.submit_all(full).await;
    }
    read
}
