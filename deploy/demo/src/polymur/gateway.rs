//! A polymur gateway over HTTPS: knows one key, takes gzip batches, and remembers every line. It can be stopped and started
//! again at the same address.

use std::{
    collections::HashMap,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use anyhow::ensure;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::any,
};
use flate2::read::MultiGzDecoder;
use shared::{
    http::{Limits, serve_tls},
    lifecycle::{Drained, Tasks},
    tls::{
        HTTP_1_1, Identity,
        server::{Server, Settings},
    },
};
use tokio::net::TcpListener;

use crate::patience::PATIENCE;

/// The key that it knows.
pub(super) const KEY: &str = "0123456789abcdef01234567";

/// How often each line has arrived.
pub(super) type Mail = HashMap<String, u64>;

/// The gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    server: Arc<Server>,
    desk: Arc<Desk>,
    /// Those that serve, while it is up.
    tasks: Tasks,
}

/// What it has been sent.
#[derive(Debug, Default)]
struct Desk {
    mail: Mutex<Mail>,
    batches: AtomicU64,
    refused: AtomicU64,
}

impl Gateway {
    /// Starts on a free port.
    pub(super) async fn start(identity: Identity) -> anyhow::Result<Self> {
        let server = Arc::new(Server::new(Settings::new(identity, &[HTTP_1_1]))?);
        let mut gateway = Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            server,
            desk: Arc::default(),
            tasks: Tasks::new(),
        };
        gateway.resume().await?;
        Ok(gateway)
    }

    /// Closes the port and all connections.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        self.tasks.stop();
        ensure!(
            self.tasks.drain(PATIENCE).await == Drained::Completely,
            "the gateway does not stop"
        );
        Ok(())
    }

    /// Opens the port again.
    pub(super) async fn resume(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        self.tasks = Tasks::new();
        let router = Router::new()
            .route("/ping", any(ping))
            .route("/ingest", any(ingest))
            .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
            .with_state(Arc::clone(&self.desk));
        let server = Arc::clone(&self.server);
        serve_tls(&self.tasks, listener, server, router, Limits::ADMIN);
        Ok(())
    }

    /// Returns how many different lines have arrived.
    pub(super) fn arrived(&self) -> u64 {
        self.desk.mail().len() as u64
    }

    /// Returns all that has arrived so far, and forgets it.
    pub(super) fn take(&self) -> Mail {
        std::mem::take(&mut self.desk.mail())
    }

    /// Returns how many batches it has taken.
    pub(super) fn batches(&self) -> u64 {
        self.desk.batches.load(Relaxed)
    }

    /// Returns how many requests it has refused.
    pub(super) fn refused(&self) -> u64 {
        self.desk.refused.load(Relaxed)
    }
}

impl Desk {
    fn mail(&self) -> parking_lot::MutexGuard<'_, Mail> {
        self.mail.lock()
    }

    fn refuse(&self, status: StatusCode, text: &'static str) -> Said {
        self.refused.fetch_add(1, Relaxed);
        (status, text)
    }
}

type Said = (StatusCode, &'static str);

fn knows(headers: &HeaderMap) -> bool {
    headers
        .get("x-polymur-key")
        .is_some_and(|key| key.as_bytes() == KEY.as_bytes())
}

async fn ping(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Said {
    if knows(&headers) {
        (StatusCode::OK, "key is valid\n")
    } else {
        desk.refuse(StatusCode::UNAUTHORIZED, "invalid key")
    }
}

async fn ingest(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Said {
    if !knows(&headers) {
        return desk.refuse(StatusCode::UNAUTHORIZED, "invalid key");
    }
    let mut text = String::new();
    if MultiGzDecoder::new(&body[..])
        .read_to_string(&mut text)
        .is_err()
    {
        return desk.refuse(StatusCode::BAD_REQUEST, "Batch Malformed\n");
    }
    let mut mail = desk.mail();
    for line in text.lines() {
        *mail.entry(line.to_owned()).or_default() += 1;
    }
    drop(mail);
    desk.batches.fetch_add(1, Relaxed);
    (StatusCode::OK, "Batch Received\n")
}
