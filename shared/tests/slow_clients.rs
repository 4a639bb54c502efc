//! Clients that stop in the middle: of an answer that they do not read, of a request that they do not send.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    routing::{get, post},
};
use futures_util::stream;
use shared::{
    http::{Limits, serve},
    lifecycle::Tasks,
    testing::PATIENCE,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

/// No client of these tests that does something is silent for so long.
const STALL: Duration = Duration::from_secs(2);
const PIECE: usize = 100_000;

struct Served {
    tasks: Tasks,
    address: SocketAddr,
    /// How many long answers are held.
    held: Arc<AtomicUsize>,
}

/// Counts an answer for as long as it is there.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Serves `/` (the client's address), `/long` (100 MB), `/once` (the same as one piece), and `/length` of what is posted.
async fn start(limits: Limits) -> Served {
    let held = Arc::<AtomicUsize>::default();
    let count = |held: &Arc<AtomicUsize>| {
        held.fetch_add(1, SeqCst);
        Held(Arc::clone(held))
    };
    let (of_pieces, of_one) = (Arc::clone(&held), Arc::clone(&held));
    let long = move || {
        let held = count(&of_pieces);
        let pieces = stream::unfold((0, held), |(sent, held)| async move {
            let piece = Bytes::from(vec![b'x'; PIECE]);
            (sent < 1000).then_some((Ok::<_, std::io::Error>(piece), (sent + 1, held)))
        });
        std::future::ready(Body::from_stream(pieces))
    };
    let once = move || {
        let piece = Some(Bytes::from(vec![b'x'; 1000 * PIECE]));
        let pieces = stream::unfold((piece, count(&of_one)), |(piece, held)| async move {
            Some((Ok::<_, std::io::Error>(piece?), (None, held)))
        });
        std::future::ready(Body::from_stream(pieces))
    };
    let router = Router::new()
        .route(
            "/",
            get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()),
        )
        .route("/long", get(long))
        .route("/once", get(once))
        .route("/length", post(async |body: Bytes| body.len().to_string()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new();
    serve(&tasks, listener, router, limits);
    Served {
        tasks,
        address,
        held,
    }
}

const LIMITS: Limits = Limits {
    connections: 1,
    request_head: PATIENCE,
    stall: STALL,
    drain: PATIENCE,
};

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Asks for `/`. There is one place only, so this waits until others have lost theirs.
    async fn is_answered(&self) {
        let mut stream = self.connect().await;
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        let reading = timeout(PATIENCE, stream.read_to_string(&mut answer));
        reading.await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    async fn holds(&self, number: usize) {
        let held = timeout(PATIENCE, async {
            while self.held.load(SeqCst) != number {
                sleep(Duration::from_millis(5)).await;
            }
        });
        held.await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_holds_neither_its_answer_nor_its_place() {
    for path in ["/long", "/once"] {
        let served = start(LIMITS).await;
        let mut stream = served.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        served.is_answered().await;
        served.holds(0).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_all_of_its_answer() {
    let served = start(LIMITS).await;
    let mut stream = served.connect().await;
    let request = b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut buffer = vec![0; 8 << 20];
    let mut read = 0;
    // Each step is more than the system keeps for the client, and all of them take longer than a stall.
    for _ in 0..10 {
        sleep(STALL / 8).await;
        read += stream.read_exact(&mut buffer).await.unwrap();
    }
    loop {
        match timeout(PATIENCE, stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap()
        {
            0 => break,
            more => read += more,
        }
    }
    assert!(read > 1000 * PIECE, "{read}");
}

#[tokio::test]
async fn over_http2_an_answer_that_is_not_taken_is_given_up_and_the_connection_goes_on() {
    let served = start(LIMITS).await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let url = |path: &str| format!("http://{}{path}", served.address);
    let get = async |path: &str| client.get(url(path)).send().await.unwrap();
    let before = get("/").await.text().await.unwrap();
    let mut untaken = [get("/long").await, get("/once").await];
    served.holds(0).await;
    assert_eq!(get("/").await.text().await.unwrap(), before);
    for answer in &mut untaken {
        let mut length = 0;
        let reason = loop {
            match timeout(PATIENCE, answer.chunk()).await.unwrap() {
                Ok(Some(piece)) => length += piece.len(),
                Ok(None) => panic!("{length} bytes were taken for the whole of {answer:?}"),
                Err(reason) => break reason,
            }
        };
        assert!(length < 100 * PIECE, "{length}");
        assert!(reason.is_body() || reason.is_decode(), "{reason:?}");
    }
    let mut taken = get("/once").await;
    let mut length = 0;
    while let Some(piece) = taken.chunk().await.unwrap() {
        length += piece.len();
    }
    assert_eq!(length, 1000 * PIECE);
}

#[tokio::test]
async fn clients_that_do_not_say_what_they_want_lose_their_places() {
    let limits = Limits {
        request_head: Duration::from_millis(200),
        ..LIMITS
    };
    for bytes in ["", "PRI * HTTP", "GET / HTTP/1.1\r\nHos"] {
        let served = start(limits).await;
        let mut stream = served.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        served.is_answered().await;
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let served = start(Limits {
        request_head: Duration::from_millis(500),
        ..LIMITS
    })
    .await;
    let mut stream = served.connect().await;
    let endless = async {
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").await?;
        loop {
            stream.write_all(b"x").await?;
            sleep(Duration::from_millis(20)).await;
        }
    };
    let ended: Result<std::io::Result<()>, _> = timeout(PATIENCE, endless).await;
    ended.unwrap().unwrap_err();
    served.is_answered().await;
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_not_waited_for() {
    let served = start(LIMITS).await;
    let (mut answer, mut stream) = served.connect().await.into_split();
    let endless = async {
        let head = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
        stream.write_all(head).await?;
        loop {
            stream.write_all(b"x").await?;
            sleep(Duration::from_millis(20)).await;
        }
    };
    let (ended, answered) = tokio::join!(timeout(PATIENCE, endless), async {
        let mut first = [0; 12];
        answer.read_exact(&mut first).await.map(|_| first)
    });
    let ended: std::io::Result<()> = ended.unwrap();
    ended.unwrap_err();
    assert_eq!(&answered.unwrap(), b"HTTP/1.1 400");
    served.is_answered().await;
}

#[tokio::test]
async fn a_server_that_ends_waits_no_longer_for_a_client_that_does_not_read() {
    let served = start(LIMITS).await;
    let mut stream = served.connect().await;
    let request = b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    served.tasks.stop();
    let drained = served.tasks.drain(PATIENCE / 2).await;
    assert_eq!(drained, shared::lifecycle::Drained::Completely);
}
