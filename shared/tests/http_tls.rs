//! A router served over TLS: versions of HTTP, limits, drain, and clients that speak plainly.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, routing::get};
use shared::{
    config::secret::Secret,
    http::{Limits, serve, serve_tls},
    lifecycle::{Drained, Tasks},
    testing::{
        PATIENCE,
        pki::{Authority, named},
    },
    tls::{
        H2, HTTP_1_1, Pem,
        client::{self, Client, Roots},
        server::{self, Server},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};

struct Served {
    tasks: Tasks,
    address: SocketAddr,
    client: client::Settings,
    release: Arc<Notify>,
}

/// Serves `/` (the client's address and the version of HTTP) and `/slow`, which waits to be released.
async fn start(limits: Limits) -> Served {
    let authority = Authority::new("a");
    let identity = authority.issue(&named(&["localhost"])).identity();
    let settings = server::Settings::new(identity, &[H2, HTTP_1_1]);
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let router = Router::new()
        .route(
            "/",
            get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()),
        )
        .route(
            "/slow",
            get(async move || {
                released.notified().await;
                "done"
            }),
        );
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new();
    let tls = Arc::new(Server::new(settings).unwrap());
    serve_tls(&tasks, listener, tls, router, limits);
    let roots = Roots::Authorities(Pem::Text(Secret::new(authority.pem())));
    Served {
        tasks,
        address,
        client: client::Settings {
            roots,
            ..client::Settings::SYSTEM
        },
        release,
    }
}

const LIMITS: Limits = Limits {
    connections: 4,
    request_head: PATIENCE,
    stall: PATIENCE,
    drain: PATIENCE,
};

impl Served {
    async fn connect(&self) -> client::TlsStream<TcpStream> {
        let client = Client::new(&self.client).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        client.connect("localhost", stream, PATIENCE).await.unwrap()
    }
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Everything until the end of the stream, `PATIENCE` at most.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn both_versions_of_http_are_served_and_handlers_know_the_client() {
    let served = start(LIMITS).await;
    let mut stream = served.connect().await;
    let own = stream.get_ref().0.local_addr().unwrap();
    stream.write_all(&request("/")).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{own}")), "{answer}");
    let Roots::Authorities(Pem::Text(root)) = &served.client.roots else {
        panic!()
    };
    let root = reqwest::Certificate::from_pem(root.reveal().as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([root])
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/", served.address.port());
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert!(answer.text().await.unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn a_client_that_speaks_plain_http_is_told_so() {
    let served = start(LIMITS).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(&request("/")).await.unwrap();
    assert_eq!(
        rest(&mut stream).await,
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    );
}

#[tokio::test]
async fn silent_clients_lose_their_places_when_the_time_for_a_handshake_is_over() {
    let served = start(Limits {
        connections: 1,
        request_head: Duration::from_millis(100),
        ..LIMITS
    })
    .await;
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let mut half = TcpStream::connect(served.address).await.unwrap();
    half.write_all(&[0x16, 3, 1]).await.unwrap();
    // The only place is free again after each, so that this one is served.
    let mut stream = served.connect().await;
    stream.write_all(&request("/")).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(rest(&mut silent).await, "");
    assert_eq!(rest(&mut half).await, "");
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_waits_for_no_handshake() {
    let served = start(LIMITS).await;
    let _silent = TcpStream::connect(served.address).await.unwrap();
    let mut stream = served.connect().await;
    stream.write_all(&request("/slow")).await.unwrap();
    // A second answer shows that the first request has been taken: its connection was made before.
    let mut other = served.connect().await;
    other.write_all(&request("/")).await.unwrap();
    rest(&mut other).await;
    served.tasks.stop();
    served.release.notify_one();
    assert!(rest(&mut stream).await.ends_with("\r\n\r\ndone"));
    assert_eq!(served.tasks.drain(PATIENCE).await, Drained::Completely);
}

#[tokio::test]
async fn plain_serving_tells_handlers_the_client_too() {
    let router = Router::new().route(
        "/",
        get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()),
    );
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new();
    serve(&tasks, listener, router, LIMITS);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let own = stream.local_addr().unwrap();
    stream.write_all(&request("/")).await.unwrap();
    assert!(rest(&mut stream).await.ends_with(&format!("\r\n\r\n{own}")));
    tasks.stop();
    assert_eq!(tasks.drain(PATIENCE).await, Drained::Completely);
}
