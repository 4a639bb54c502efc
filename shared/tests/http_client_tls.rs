//! The HTTP client's TLS, and what it says when there is no answer.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "support/recorder.rs"]
mod recorder;

use std::{fs, net::Ipv4Addr, sync::Arc, time::Duration};

use shared::{
    config::secret::Secret,
    http::client::{Client, ClientError, Kind, Settings, Versions, proxy},
    testing::{
        PATIENCE,
        pki::{Authority, named},
        wire::free_tcp_port,
    },
    tls::{
        H2, HTTP_1_1, Pem,
        client::{Roots, Settings as Tls, Verification},
        server::{self, Clients, Server, Trust},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use self::recorder::{Recorder, client, ok, post, tunnelling_proxy};

fn served(authority: &Authority, names: &[&str]) -> Arc<Server> {
    let identity = authority.issue(&named(names)).identity();
    Arc::new(Server::new(server::Settings::new(identity, &[H2, HTTP_1_1])).unwrap())
}

fn trusting(authority: &Authority) -> Settings {
    Settings {
        tls: Tls {
            roots: Roots::Authorities(Pem::Text(Secret::new(authority.pem()))),
            ..Tls::SYSTEM
        },
        ..Settings::PLAIN
    }
}

#[tokio::test]
async fn enable_http2_offers_it_and_its_absence_does_not() {
    let authority = Authority::new("a");
    let server = Recorder::start(Some(served(&authority, &["localhost"])), |_, asked| {
        ok(&format!("{:?}", asked.version))
    })
    .await;
    let url = format!("https://localhost:{}/", server.address.port());
    for (versions, expected) in [
        (Versions::Http1And2, "HTTP/2.0"),
        (Versions::Http1, "HTTP/1.1"),
    ] {
        let client = client(Settings {
            versions,
            ..trusting(&authority)
        });
        assert_eq!(post(&client, &url).await.unwrap().1, expected);
    }
}

#[tokio::test]
async fn tls_config_says_whom_to_trust_and_by_which_name() {
    let (authority, other) = (Authority::new("a"), Authority::new("b"));
    let server = Recorder::start(Some(served(&authority, &["b.example"])), |_, _| ok("")).await;
    let url = format!("https://{}/", server.address);
    let f = async |tls: Tls, expected: Result<(), &str>| {
        let client = client(Settings {
            tls,
            ..Settings::PLAIN
        });
        let found = post(&client, &url).await;
        match (found, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(text)) => {
                assert_eq!(error.kind(), Kind::Tls, "{error}");
                assert!(error.to_string().contains(text), "{error}");
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    };
    let trusted = trusting(&authority).tls;
    let named = |tls: &Tls| Tls {
        server_name: Some("b.example".to_owned()),
        ..tls.clone()
    };
    f(named(&trusted), Ok(())).await;
    f(
        trusted.clone(),
        Err("tls: failed to verify certificate: x509: "),
    )
    .await;
    f(
        named(&trusting(&other).tls),
        Err("tls: failed to verify certificate: x509: certificate signed by unknown authority"),
    )
    .await;
    let anybody = Tls {
        verification: Verification::InsecureSkipVerify,
        ..Tls::SYSTEM
    };
    f(anybody, Ok(())).await;
}

#[tokio::test]
async fn a_client_certificate_in_files_is_shown_and_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new("a"), Authority::new("c"));
    let identity = authority.issue(&named(&["127.0.0.1"])).identity();
    let mut settings = server::Settings::new(identity, &[HTTP_1_1]);
    settings.clients = Clients::Verified(Trust {
        authorities: Pem::Text(Secret::new(clients.pem())),
        names: Vec::new(),
    });
    let server = Recorder::start(Some(Arc::new(Server::new(settings).unwrap())), |_, _| {
        ok("")
    })
    .await;
    let url = format!("https://{}/", server.address);
    let wrong = authority.issue(&named(&["me"])).write(folder.path(), "me");
    let client = client(Settings {
        tls: Tls {
            identity: Some(wrong),
            ..trusting(&authority).tls
        },
        ..Settings::PLAIN
    });
    let error = post(&client, &url).await.unwrap_err();
    assert!(error.to_string().contains("tls: "), "{error}");
    clients.issue(&named(&["me"])).write(folder.path(), "me");
    assert_eq!(post(&client, &url).await.unwrap().0, 200);
    // A broken file does not undo what worked.
    fs::write(folder.path().join("me.pem"), "").unwrap();
    assert_eq!(post(&client, &url).await.unwrap().0, 200);
}

#[test]
fn a_missing_ca_file_is_refused_at_once() {
    let error = Client::new(Settings {
        tls: Tls {
            roots: Roots::Authorities(Pem::File("/nonexistent.pem".into())),
            ..Tls::SYSTEM
        },
        ..Settings::PLAIN
    });
    let error = error.unwrap_err();
    let expected = "unable to read CA cert: unable to read file /nonexistent.pem: open /nonexistent.pem: no such file or directory";
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (Kind::Settings, expected)
    );
}

#[tokio::test]
async fn https_goes_through_a_proxy_with_connect_and_its_headers() {
    let authority = Authority::new("a");
    let server = Recorder::start(Some(served(&authority, &["localhost"])), |_, _| {
        ok("behind")
    })
    .await;
    let (proxy, heads) = tunnelling_proxy(&server.tasks, None).await;
    let client = client(Settings {
        proxy: proxy::Settings {
            choice: proxy::Choice::Fixed {
                url: Secret::new(format!("http://me:pw@{proxy}")),
                no_proxy: None,
            },
            connect_headers: vec![("x-way".to_owned(), vec![Secret::new("a"), Secret::new("b")])],
        },
        ..trusting(&authority)
    });
    let place = format!("localhost:{}", server.address.port());
    let (_, body) = post(&client, &format!("https://{place}/")).await.unwrap();
    assert_eq!(body, "behind");
    let expected = format!(
        "CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nproxy-authorization: Basic bWU6cHc=\r\nx-way: a\r\nx-way: b\r\n\r\n"
    );
    assert_eq!(*heads.lock().unwrap(), [expected]);
    assert!(
        !server.asked()[0]
            .headers
            .contains_key("proxy-authorization")
    );
}

/// A server that answers every connection with `bytes` once it was asked, and closes it; without bytes it stays silent.
async fn raw(bytes: Option<&'static [u8]>) -> (shared::lifecycle::Tasks, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = shared::lifecycle::Tasks::new();
    tasks.spawn("raw", async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _asked = stream.read(&mut buffer).await.is_ok();
            match bytes {
                Some(bytes) => {
                    let _written = stream.write_all(bytes).await.is_ok();
                }
                None => silent.push(stream),
            }
        }
    });
    (tasks, address.to_string())
}

// `faults.jsonl.gz` and `http_client.jsonl` have these texts behind `Post "http://...": `.
#[tokio::test]
async fn errors_have_the_originals_words_and_say_whether_it_was_a_time_limit() {
    let plain = client(Settings::PLAIN);
    let ask = async |url: String, within: Duration| -> ClientError {
        let request = http::Request::get(url).body(bytes::Bytes::new()).unwrap();
        plain.send(request, Some(within)).await.unwrap_err()
    };
    let f = |error: ClientError, kind: Kind, text: &str, is_timeout: bool| {
        assert_eq!(error.to_string(), text);
        assert_eq!(
            (error.kind(), error.is_timeout()),
            (kind, is_timeout),
            "{text}"
        );
    };
    let port = free_tcp_port();
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    f(
        ask(format!("http://127.0.0.1:{port}/"), PATIENCE).await,
        Kind::Connect,
        &refused,
        false,
    );
    let (_tasks, silent) = raw(None).await;
    let waited = "net/http: timeout awaiting response headers";
    f(
        ask(format!("http://{silent}/"), Duration::from_millis(50)).await,
        Kind::Timeout,
        waited,
        true,
    );
    let (_tasks, closing) = raw(Some(b"")).await;
    f(
        ask(format!("http://{closing}/"), PATIENCE).await,
        Kind::Broken,
        "EOF",
        false,
    );
    let (_tasks, unencrypted) = raw(Some(b"HTTP/1.0 400 Bad Request\r\n\r\n")).await;
    let text = "http: server gave HTTP response to HTTPS client";
    f(
        ask(format!("https://{unencrypted}/"), PATIENCE).await,
        Kind::Tls,
        text,
        false,
    );
    let text = "unsupported protocol scheme \"ftp\"";
    f(
        ask("ftp://x/".to_owned(), PATIENCE).await,
        Kind::Request,
        text,
        false,
    );
    let (_tasks, garbage) = raw(Some(b"garbage\r\n\r\n")).await;
    let error = ask(format!("http://{garbage}/"), PATIENCE).await;
    assert!(
        error
            .to_string()
            .starts_with("net/http: HTTP/1.x transport connection broken: malformed HTTP response"),
        "{error}"
    );
    let error = ask("http://no-such-host.invalid/".to_owned(), PATIENCE).await;
    f(
        error,
        Kind::Connect,
        "dial tcp: lookup no-such-host.invalid: no such host",
        false,
    );
}

#[tokio::test]
async fn dial_timeout_bounds_connecting() {
    // An address of a network for documentation: packets to it are lost, or refused at once where there is no way out.
    let client = client(Settings {
        dial: Duration::from_millis(50),
        ..Settings::PLAIN
    });
    let error = post(&client, "http://192.0.2.1:9/").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Connect);
    let text = error.to_string();
    let is_lost = text == "dial tcp 192.0.2.1:9: i/o timeout" && error.is_timeout();
    assert!(
        is_lost || text.starts_with("dial tcp 192.0.2.1:9: connect: "),
        "{text}"
    );
}
