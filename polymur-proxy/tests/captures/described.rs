//! Clients that captures describe in words only.

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use shared::testing::wire::connect;

use crate::{
    replay::Replay,
    support::{gateway::Gateway, loopback, wait_for_count},
};

/// Connections without `-cert` are closed after 90 s; captures waited for 100 s.
const IDLE: Duration = Duration::from_secs(100);

/// Does what the words of a capture say, and returns what each connection has sent.
pub(crate) fn play(replay: &Replay<'_>, gateway: Option<&Gateway>) -> Vec<Vec<u8>> {
    let connection = || connect(loopback(replay.lines_port));
    let send = |line: String| {
        connection().write_all(line.as_bytes()).unwrap();
        line.into_bytes()
    };
    let points = |name: &str, count: usize| -> Vec<Vec<u8>> {
        (0..count)
            .map(|number| send(format!("{name}{number} 1 1\n")))
            .collect()
    };
    let heard = |count: u64| {
        let gateway = gateway.unwrap();
        wait_for_count("requests", count, || gateway.ingests() as u64);
    };
    match replay.case.as_str() {
        "timing/concurrency_workers_1"
        | "timing/concurrency_workers_3"
        | "timing/concurrency_workers_8" => points("k", 12),
        "timing/gateway_hangs" => points("h", 6),
        "queue/cap_2_stalled" | "queue/cap_2_recovers" => {
            let mut sent = vec![send("q0 1 1\n".to_owned())];
            if replay.case == "queue/cap_2_stalled" {
                heard(1);
            }
            for number in 1..8 {
                sent.push(send(format!("q{number} 1 1\n")));
                thread::sleep(Duration::from_millis(50));
            }
            sent
        }
        "failure/stale_keepalive" => {
            let before = send("before.x 0 1500000000\n".to_owned());
            heard(1);
            thread::sleep(Duration::from_millis(600));
            vec![before, send("after.x 0 1500000000\n".to_owned())]
        }
        "timing/five_idle_conns" => {
            let idle: Vec<_> = (0..5).map(|_| connection()).collect();
            thread::sleep(Duration::from_secs(31));
            drop(idle);
            Vec::new()
        }
        "timing/idle_keepalive_cert" | "timing/idle_keepalive_nocert" => {
            let sent = send("some.test.data 1337 1469802654\n".to_owned());
            heard(1);
            let began = Instant::now();
            let gateway = gateway.unwrap();
            while gateway.hung_up() == 0 && began.elapsed() < IDLE {
                thread::sleep(Duration::from_millis(100));
            }
            // As recorded: after 90 s without -cert, and not at all with it.
            let closed = gateway.hung_up() > 0;
            assert_eq!(closed, replay.case.ends_with("_nocert"), "{}", replay.case);
            assert!(began.elapsed() > Duration::from_secs(88), "{}", replay.case);
            vec![sent]
        }
        "tls/http1_with_cert" | "tls/http2_without_cert" => (0..3)
            .map(|number| send(format!("a.b {number} 1500000000\n")))
            .collect(),
        // Nothing comes for as long as was waited.
        "metrics/flush_negative" => {
            thread::sleep(Duration::from_secs(2));
            Vec::new()
        }
        _ => Vec::new(),
    }
}
