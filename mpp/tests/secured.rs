//! The front behind a web configuration file: TLS, passwords, headers, and everything that the plain front does as well.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use shared::testing::{
    PATIENCE, eventually,
    pki::{Authority, named},
};
use support::{
    Mpp,
    client::{connect, read_response},
    prometheus::{Manners, Prometheus, Reply},
};

/// What `reader` with the password `secret` sends.
const READER: &str = "Authorization: Basic cmVhZGVyOnNlY3JldA==\r\n";

struct Stage {
    server: Prometheus,
    mpp: Mpp,
    authority: Authority,
}

impl Stage {
    /// One server behind an mpp that speaks TLS and knows one reader.
    fn new(args: &[&str]) -> Self {
        let server = Prometheus::start("b1", Manners::good("1"));
        let authority = Authority::new("test");
        let folder = tempfile::TempDir::new().unwrap();
        let issued = authority.issue(&named(&["127.0.0.1"]));
        issued.write(folder.path(), "web");
        let hash = bcrypt::hash("secret", 4).unwrap();
        let web = format!(
            "tls_server_config: {{cert_file: web.pem, key_file: web.key}}\n\
             basic_auth_users: {{reader: '{hash}'}}\n\
             http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
        );
        fs::write(folder.path().join("web.yml"), web).unwrap();
        fs::write(folder.path().join("endpoints.txt"), server.url()).unwrap();
        let files = [
            "--endpoints-file",
            "endpoints.txt",
            "--web-config-file",
            "web.yml",
        ];
        let mpp = Mpp::spawn(folder, &[&files, args].concat(), &[]);
        let stage = Self {
            server,
            mpp,
            authority,
        };
        let ready = format!("GET /ready HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{READER}\r\n");
        eventually("a server to be selected", || {
            stage
                .exchange(ready.as_bytes())
                .starts_with("HTTP/1.1 200 ")
                .then_some(())
        });
        stage.server.take_seen();
        stage
    }

    /// A connection of a client that trusts the authority. The handshake comes with the first byte.
    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(session, connect(self.mpp.port, PATIENCE).unwrap())
    }

    /// Sends bytes and returns every byte that comes back until the connection ends.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ended = stream.read_to_end(&mut answer).is_ok();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[test]
fn a_web_configuration_brings_tls_a_password_and_headers() {
    let stage = Stage::new(&[]);
    let ask = |credentials: &str, path: &str| {
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 8\r\n{credentials}\r\nquery=up"
        );
        stage.exchange(bytes.as_bytes())
    };
    for path in ["/x", "/mpp/status"] {
        let answer = ask("", path);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nUnauthorized\n"), "{answer}");
        assert!(
            answer.to_lowercase().contains("x-frame-options: deny"),
            "{answer}"
        );
    }
    let answer = ask(READER, "/x");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("served_by"),
        "{answer}"
    );
    assert!(
        answer.to_lowercase().contains("x-frame-options: deny"),
        "{answer}"
    );
    let seen = stage.server.seen();
    assert_eq!(seen[0].body, b"query=up");
    assert!(
        seen[0]
            .head
            .to_lowercase()
            .contains("x-forwarded-proto: https"),
        "{seen:?}"
    );
    assert!(ask(READER, "/mpp/health").starts_with("HTTP/1.1 200 "));
}

#[test]
fn plain_http_is_told_to_speak_tls() {
    let stage = Stage::new(&[]);
    let mut stream = connect(stage.mpp.port, PATIENCE).unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    assert!(stage.server.seen().is_empty());
}

#[test]
fn a_websocket_passes_over_tls_to_those_who_may() {
    let stage = Stage::new(&[]);
    stage.server.set(|manners| manners.proxied = Reply::Echo);
    let open = |credentials: &str| {
        let mut stream = stage.connect();
        let bytes = format!(
            "GET /ws?x=1 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{credentials}\r\n"
        );
        stream.write_all(bytes.as_bytes()).unwrap();
        let status = read_response(&mut stream, false).unwrap().status;
        (stream, status)
    };
    assert_eq!(open("").1, 401);
    assert!(stage.server.seen().is_empty());
    let (mut stream, status) = open(READER);
    assert_eq!(status, 101);
    let head = stage.server.seen()[0].head.to_lowercase();
    assert!(head.contains("\r\nx-forwarded-proto: wss\r\n"), "{head}");
    for text in ["hello", "quit"] {
        stream.write_all(text.as_bytes()).unwrap();
        let mut echo = vec![0; 5 + text.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, format!("echo:{text}").into_bytes());
    }
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn requests_of_two_lengths_are_refused_over_tls_and_nothing_is_smuggled() {
    let stage = Stage::new(&[]);
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nHost: h\r\n{READER}\r\n");
    let f = |what: &str, head: &str, body: &str| {
        let bytes = format!("POST /x HTTP/1.1\r\nHost: h\r\n{READER}{head}\r\n{body}{smuggled}");
        let answer = stage.exchange(bytes.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
        let seen = stage.server.take_seen();
        assert!(
            seen.iter().all(|seen| !seen.head.contains("/smuggled")),
            "{what}: {seen:?}"
        );
    };
    f(
        "two different lengths",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "hello",
    );
    f(
        "a length and chunks",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    );
    f(
        "chunks and a length",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "0\r\n\r\n",
    );
    f(
        "a chunk size that is none",
        "Transfer-Encoding: chunked\r\n",
        "zz\r\n",
    );
}

#[test]
fn clients_may_choose_http_2() {
    let stage = Stage::new(&[]);
    let root = reqwest::Certificate::from_pem(stage.authority.pem().as_bytes()).unwrap();
    let address = format!("https://127.0.0.1:{}", stage.mpp.port);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .tls_certs_only([root])
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let ask = async |password: &str| {
            let request = client.post(format!("{address}/x")).body("query=up");
            let answer = request.basic_auth("reader", Some(password)).send().await;
            let answer = answer.unwrap();
            assert_eq!(answer.version(), reqwest::Version::HTTP_2);
            answer.status().as_u16()
        };
        assert_eq!(ask("wrong").await, 401);
        for _ in 0..3 {
            assert_eq!(ask("secret").await, 200);
        }
    });
    let seen = stage.server.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].body, b"query=up");
    let head = seen[0].head.to_lowercase();
    let host = format!("\r\nx-forwarded-host: 127.0.0.1:{}\r\n", stage.mpp.port);
    assert!(head.starts_with("post /x http/1.1\r\n"), "{head}");
    assert!(head.contains(&host), "{head}");
}

#[test]
fn the_limit_of_connections_holds_over_tls() {
    let stage = Stage::new(&["--max-connections", "2"]);
    let ask = format!("GET /x HTTP/1.1\r\nHost: h\r\n{READER}\r\n");
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = stage.connect();
        stream.write_all(ask.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream, false).unwrap().status, 200);
        held.push(stream);
    }
    let mut third = stage.connect();
    let limit = Some(Duration::from_millis(300));
    third.sock.set_read_timeout(limit).unwrap();
    third.write_all(ask.as_bytes()).unwrap_err();
    assert!(third.conn.is_handshaking(), "it waits");
    held.pop();
    third.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    third.write_all(ask.as_bytes()).unwrap();
    assert_eq!(read_response(&mut third, false).unwrap().status, 200);
}
