//! Connections of the HTTP client on the wire: how many are kept, and those through SOCKS proxies.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "support/recorder.rs"]
mod recorder;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use shared::{
    config::secret::Secret,
    http::client::{Client, ClientError, Idle, Kind, Settings, Versions, proxy},
    lifecycle::Tasks,
    testing::{PATIENCE, wire::free_tcp_port},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use self::recorder::{Recorder, client, ok, post};

fn through(url: &str) -> Settings {
    Settings {
        proxy: proxy::Settings {
            choice: proxy::Choice::Fixed {
                url: Secret::new(url),
                no_proxy: None,
            },
            connect_headers: Vec::new(),
        },
        ..Settings::PLAIN
    }
}

#[tokio::test]
async fn max_idle_conns_counts_the_connections_to_all_hosts() {
    let servers = [
        Recorder::start(None, |_, _| ok("a")).await,
        Recorder::start(None, |_, _| ok("b")).await,
        Recorder::start(None, |_, _| ok("")).await,
    ];
    let f = async |connections: usize, expected: usize| {
        let client = client(Settings {
            versions: Versions::Http1,
            idle: Idle {
                connections,
                ..Idle::PROMETHEUS
            },
            ..Settings::PLAIN
        });
        let before = servers[0].asked().len();
        for _ in 0..4 {
            for server in &servers {
                post(&client, &server.url("/")).await.unwrap();
            }
        }
        for server in &servers {
            let asked = server.asked();
            let mut peers: Vec<_> = asked[before..].iter().map(|asked| asked.peer).collect();
            peers.dedup();
            assert_eq!(peers.len(), expected, "{connections} connections");
        }
    };
    // As many as there are hosts: each keeps its own.
    f(3, 1).await;
    // One less, and the one that waits for the longest time, which is asked next, is closed.
    f(2, 4).await;
    f(0, 4).await;
}

#[tokio::test]
async fn max_idle_conns_does_not_touch_connections_in_use() {
    let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let busy_url = format!("http://{}/", busy.local_addr().unwrap());
    let other = Recorder::start(None, |_, _| ok("b")).await;
    let client = client(Settings {
        idle: Idle {
            connections: 1,
            ..Idle::PROMETHEUS
        },
        ..Settings::PLAIN
    });
    let asking = post(&client, &busy_url);
    let serving = async {
        let (mut stream, _) = busy.accept().await.unwrap();
        let mut request = vec![0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab";
        stream.write_all(head).await.unwrap();
        // Many others come to an end meanwhile.
        for _ in 0..5 {
            post(&client, &other.url("/")).await.unwrap();
        }
        stream.write_all(b"cd").await.unwrap();
        stream
    };
    let (answer, _stream) = tokio::join!(asking, serving);
    assert_eq!(answer.unwrap(), (200, "abcd".to_owned()));
}

/// What a client said to a SOCKS proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    login: Option<(String, String)>,
    place: String,
}

/// A SOCKS proxy that wants this login, if any, and answers with this code. Names are looked up as loopback.
async fn socks_proxy(
    tasks: &Tasks,
    login: Option<(&'static str, &'static str)>,
    code: u8,
) -> (SocketAddr, Arc<Mutex<Vec<Said>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let said: Arc<Mutex<Vec<Said>>> = Arc::default();
    let kept = Arc::clone(&said);
    let group = tasks.clone();
    tasks.spawn("socks", async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            group.spawn("tunnel", async move {
                let (wanted, port) = greet(&mut client, login.is_some()).await;
                let is_known = wanted.login.as_ref().map(|(n, p)| (n.as_str(), p.as_str()));
                kept.lock().unwrap().push(wanted.clone());
                if is_known != login {
                    return;
                }
                let answer = [5, code, 0, 1, 127, 0, 0, 1, 0, 9];
                client.write_all(&answer).await.unwrap();
                if code == 0 {
                    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
                    let _over = copy_bidirectional(&mut client, &mut server.unwrap()).await;
                }
            });
        }
    });
    (address, said)
}

async fn text(client: &mut TcpStream) -> String {
    let mut bytes = vec![0; usize::from(client.read_u8().await.unwrap())];
    client.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Reads what a client says until it waits for the connection, and returns the port, too.
async fn greet(client: &mut TcpStream, wants_login: bool) -> (Said, u16) {
    let mut said = Said::default();
    assert_eq!(client.read_u8().await.unwrap(), 5);
    let methods = text(client).await.into_bytes();
    let method = if wants_login && methods.contains(&2) {
        2
    } else {
        0
    };
    client.write_all(&[5, method]).await.unwrap();
    if method == 2 {
        assert_eq!(client.read_u8().await.unwrap(), 1);
        said.login = Some((text(client).await, text(client).await));
        client.write_all(&[1, 0]).await.unwrap();
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..3], [5, 1, 0]);
    let host = match head[3] {
        1 => {
            let mut address = [0; 4];
            client.read_exact(&mut address).await.unwrap();
            Ipv4Addr::from(address).to_string()
        }
        3 => text(client).await,
        other => panic!("address of kind {other}"),
    };
    let port = client.read_u16().await.unwrap();
    said.place = format!("{host}:{port}");
    (said, port)
}

#[tokio::test]
async fn a_socks5_proxy_url_is_spoken_to_with_its_login_and_looks_names_up() {
    let server = Recorder::start(None, |_, _| ok("through")).await;
    let port = server.address.port();
    let f = async |login: Option<(&'static str, &'static str)>, url: &str, host: &str| {
        let (proxy, said) = socks_proxy(&server.tasks, login, 0).await;
        let client = client(through(&url.replace("PROXY", &proxy.to_string())));
        for _ in 0..2 {
            let (status, body) = post(&client, &format!("http://{host}:{port}/api?x=1"))
                .await
                .unwrap();
            assert_eq!((status, body.as_str()), (200, "through"));
            let asked = server.asked().pop().unwrap();
            // As if there was no proxy.
            assert_eq!(asked.line, "POST /api?x=1");
            assert!(!asked.headers.contains_key("proxy-authorization"));
        }
        let expected = Said {
            login: login.map(|(name, password)| (name.to_owned(), password.to_owned())),
            place: format!("{host}:{port}"),
        };
        // The second request took the connection of the first.
        assert_eq!(*said.lock().unwrap(), [expected]);
    };
    f(None, "socks5://PROXY", "127.0.0.1").await;
    f(None, "socks5h://PROXY", "no.such.name.invalid").await;
    f(
        Some(("me", "p@ss")),
        "socks5://me:p%40ss@PROXY",
        "127.0.0.1",
    )
    .await;
}

#[tokio::test]
async fn a_socks5_proxy_that_refuses_or_is_away_is_told_from_the_server() {
    let tasks = Tasks::new();
    let f = async |proxy: &str, expected: &str| {
        let client = client(through(proxy));
        let error = post(&client, "http://127.0.0.1:1/").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Connect);
        let text = error.to_string();
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    };
    // 5: refused by the server.
    let (refusing, said) = socks_proxy(&tasks, None, 5).await;
    f(
        &format!("socks5://{refusing}"),
        &format!("proxyconnect tcp: socks connect tcp {refusing}->127.0.0.1:1: "),
    )
    .await;
    assert_eq!(said.lock().unwrap().len(), 1);
    // Another login than the proxy's: it hangs up.
    let (picky, _) = socks_proxy(&tasks, Some(("me", "other")), 0).await;
    f(
        &format!("socks5://me:s3cret@{picky}"),
        &format!("proxyconnect tcp: socks connect tcp {picky}->127.0.0.1:1: "),
    )
    .await;
    let port = free_tcp_port();
    f(
        &format!("socks5://127.0.0.1:{port}"),
        &format!("proxyconnect tcp: dial tcp 127.0.0.1:{port}: connect: connection refused"),
    )
    .await;
    tasks.stop();
}

/// A server by hand: what it does with the connections that it accepts, in their order.
async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

/// Reads a request without a body, and answers it.
async fn answer(stream: &mut TcpStream, bytes: &[u8]) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(bytes).await.unwrap();
}

/// Waits until the other side has closed a connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = [0; 16];
    let ended = tokio::time::timeout(PATIENCE, stream.read(&mut rest));
    assert!(matches!(ended.await.unwrap(), Ok(0) | Err(_)));
}

/// Asks for an answer, and reads it.
async fn get(client: &Client, url: &str) -> Result<Bytes, Option<ClientError>> {
    let request = http::Request::get(url).body(Bytes::new()).unwrap();
    let response = client.send(request, Some(PATIENCE)).await.map_err(Some)?;
    let body = response.into_body().collect().await.map_err(|_| None)?;
    Ok(body.to_bytes())
}

const AB: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_replaced() {
    let (listener, url) = listen().await;
    let client = client(Settings::PLAIN);
    let serving = async {
        let (mut first, _) = listener.accept().await.unwrap();
        answer(&mut first, AB).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        answer(&mut second, AB).await;
        answer(&mut second, AB).await;
    };
    let asking = async {
        for _ in 0..3 {
            assert_eq!(get(&client, &url).await.unwrap(), "ab");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_not_read_spoils_only_its_connection() {
    let (listener, url) = listen().await;
    let client = client(Settings::PLAIN);
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab";
    let serving = async {
        let (mut first, _) = listener.accept().await.unwrap();
        answer(&mut first, half).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        answer(&mut second, half).await;
        closed(&mut second).await;
        let (mut third, _) = listener.accept().await.unwrap();
        answer(
            &mut third,
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab",
        )
        .await;
        closed(&mut third).await;
        let (mut fourth, _) = listener.accept().await.unwrap();
        let chunks =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n";
        answer(&mut fourth, chunks).await;
        answer(&mut fourth, b"HTTP/1.1 204 No Content\r\n\r\n").await;
        for _ in 0..3 {
            answer(&mut fourth, AB).await;
        }
    };
    let ask = || {
        let request = http::Request::get(&url).body(Bytes::new()).unwrap();
        client.send(request, Some(PATIENCE))
    };
    let asking = async {
        assert!(get(&client, &url).await.unwrap_err().is_none());
        drop(ask().await.unwrap());
        for expected in ["ab", "ab", "", "ab"] {
            assert_eq!(get(&client, &url).await.unwrap(), expected);
        }
        // What nobody reads is no reason to connect again if all of it is there.
        drop(ask().await.unwrap());
        assert_eq!(get(&client, &url).await.unwrap(), "ab");
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn idle_conn_timeout_closes_connections_that_nobody_uses() {
    let (listener, url) = listen().await;
    let client = client(Settings {
        idle: Idle {
            timeout: Duration::from_millis(100),
            ..Idle::PROMETHEUS
        },
        ..Settings::PLAIN
    });
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream, AB).await;
        closed(&mut stream).await;
    };
    let (answered, ()) = tokio::join!(get(&client, &url), serving);
    assert_eq!(answered.unwrap(), "ab");
}
