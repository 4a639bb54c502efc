//! A server that looks like Prometheus as far as mpp and the demo's clients look.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use parking_lot::Mutex;

/// The answer to a query: no data, but an answer.
const VECTOR: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

/// The server. Its threads end with the demo, or when it is killed.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    alive: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    queries: Arc<AtomicU64>,
    /// Questions of mpp itself.
    pub(crate) probes: Arc<AtomicU64>,
}

impl Server {
    /// Listens on a free port, and says that it has ingested so many samples.
    pub(crate) fn start(samples: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let server = Self {
            address: listener.local_addr()?,
            alive: Arc::new(AtomicBool::new(true)),
            streams: Arc::default(),
            queries: Arc::default(),
            probes: Arc::default(),
        };
        let (alive, streams) = (Arc::clone(&server.alive), Arc::clone(&server.streams));
        let (queries, probes) = (Arc::clone(&server.queries), Arc::clone(&server.probes));
        let page = format!(
            "process_start_time_seconds 1.7e9\nprometheus_build_info{{version=\"3.5.0\"}} 1\nprometheus_tsdb_head_samples_appended_total{{type=\"float\"}} {samples}\n"
        );
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if !alive.load(Relaxed) {
                    return;
                }
                if let Ok(copy) = stream.try_clone() {
                    streams.lock().push(copy);
                }
                let (queries, probes, page) =
                    (Arc::clone(&queries), Arc::clone(&probes), page.clone());
                thread::spawn(move || {
                    // Ends with the connection.
                    let _ended = converse(&stream, &page, &queries, &probes).is_ok();
                });
            }
        });
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Queries of clients that were answered.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Relaxed)
    }

    /// Closes the listener and every connection, as the end of a process does.
    pub(crate) fn kill(&self) {
        self.alive.store(false, Relaxed);
        for stream in self.streams.lock().drain(..) {
            let _closed = stream.shutdown(Shutdown::Both).is_ok();
        }
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address).is_ok();
    }
}

fn converse(
    mut stream: &TcpStream,
    page: &str,
    queries: &AtomicU64,
    probes: &AtomicU64,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(first) = lines.next() {
        let first = first?;
        let mut proxied = false;
        for line in lines.by_ref() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            proxied |= line.to_ascii_lowercase().starts_with("x-forwarded-server:");
        }
        let body = if first.contains("/metrics") {
            page
        } else {
            VECTOR
        };
        stream.write_all(
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .as_bytes(),
        )?;
        if proxied {
            queries.fetch_add(1, Relaxed);
        } else {
            probes.fetch_add(1, Relaxed);
        }
    }
    Ok(())
}
