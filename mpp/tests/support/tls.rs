//! TLS before a server that speaks plain HTTP, and what servers under TLS need.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use shared::{
    testing::pki::{Authority, named},
    tls::server::{Clients, Server, Settings},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::prometheus::Prometheus;

/// A server's side of TLS, with a certificate of `authority` for 127.0.0.1.
pub(crate) fn server_config(authority: &Authority, clients: Clients) -> Arc<rustls::ServerConfig> {
    config_for(authority, "127.0.0.1", clients)
}

fn config_for(authority: &Authority, name: &str, clients: Clients) -> Arc<rustls::ServerConfig> {
    let identity = authority.issue(&named(&[name])).identity();
    let mut settings = Settings::new(identity, &[]);
    settings.clients = clients;
    Server::new(settings).unwrap().config()
}

/// The end of TLS, from which bytes go on to a server. Closed with all its connections when dropped.
pub(crate) struct TlsFront {
    pub(crate) port: u16,
    handshakes: Arc<AtomicUsize>,
    refusals: Arc<AtomicUsize>,
    runtime: Runtime,
}

impl TlsFront {
    /// Listens on a free port, with a certificate of `authority` for `name`.
    pub(crate) fn start(authority: &Authority, name: &str, server: &Prometheus) -> Self {
        Self::start_on(0, authority, name, server)
    }

    /// Listens on `port`, which may have been that of another one.
    pub(crate) fn start_on(
        port: u16,
        authority: &Authority,
        name: &str,
        server: &Prometheus,
    ) -> Self {
        let acceptor = TlsAcceptor::from(config_for(authority, name, Clients::Ignored));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = runtime.block_on(TcpListener::bind(here)).unwrap();
        let front = Self {
            port: listener.local_addr().unwrap().port(),
            handshakes: Arc::default(),
            refusals: Arc::default(),
            runtime,
        };
        let (handshakes, refusals) = (Arc::clone(&front.handshakes), Arc::clone(&front.refusals));
        let behind = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
        front.runtime.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, handshakes, refusals) = (
                    acceptor.clone(),
                    Arc::clone(&handshakes),
                    Arc::clone(&refusals),
                );
                connections.spawn(async move {
                    let Ok(mut client) = acceptor.accept(stream).await else {
                        refusals.fetch_add(1, Relaxed);
                        return;
                    };
                    handshakes.fetch_add(1, Relaxed);
                    if let Ok(mut server) = TcpStream::connect(behind).await {
                        let _ended = copy_bidirectional(&mut client, &mut server).await.is_ok();
                    }
                });
            }
        });
        front
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Connections that came to speak TLS.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.load(Relaxed)
    }

    /// Connections whose client did not want our certificate, or spoke no TLS.
    pub(crate) fn refusals(&self) -> usize {
        self.refusals.load(Relaxed)
    }
}
