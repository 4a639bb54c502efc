//! Listeners that a web configuration file describes, on real sockets: recorded requests, rotation, and what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test counts its cases and fails where it stands"
)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use shared::{
    http::{
        Limits,
        web_config::{WebConfig, serve_web, unauthorized},
    },
    lifecycle::Tasks,
    testing::{
        PATIENCE,
        golden::json_lines,
        pki::{Authority, named},
    },
    tls::{
        Identity, Pem, Version, Versions,
        client::{self, Client, Roots},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// A folder with certificates, and what was served last with files from it.
struct Place {
    folder: tempfile::TempDir,
    authority: Authority,
    tasks: Tasks,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("a");
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let place = Self {
            folder,
            authority,
            tasks: Tasks::new(),
        };
        place.issue("s", "localhost");
        place.issue("c", "client.example");
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, file: &str, name: &str) {
        let issued = self.authority.issue(&named(&[name]));
        issued.write(self.folder.path(), file);
    }

    /// Writes the file, with a time of its own: two writes within a tick of the clock look the same.
    fn write(&self, text: &str) {
        write_anew(&self.path("web.yml"), text);
    }

    fn load(&self, text: &str) -> Result<WebConfig, String> {
        self.write(text);
        WebConfig::load(self.path("web.yml")).map_err(|reason| reason.to_string())
    }

    async fn serve(&self, text: &str) -> SocketAddr {
        let web = Arc::new(self.load(text).unwrap());
        let router = Router::new()
            .route("/api/v1/query", get(async || "answer"))
            .route("/-/ready", get(async || " is Ready.\n"))
            .route(
                "/own",
                get(async || ([("x-frame-options", "own")], "answer")),
            )
            .route("/metrics", get(async || "metrics"))
            .fallback(async || (StatusCode::NOT_FOUND, "404 page not found\n"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits {
            request_head: PATIENCE,
            ..Limits::ADMIN
        };
        serve_web(&self.tasks, listener, web, router, limits);
        address
    }

    fn client(&self) -> client::Settings {
        client::Settings {
            roots: Roots::Authorities(Pem::File(self.path("ca.pem"))),
            ..client::Settings::SYSTEM
        }
    }
}

fn write_anew(path: &Path, text: &str) {
    let before = fs::metadata(path).and_then(|it| it.modified());
    fs::write(path, text).unwrap();
    if let Ok(before) = before {
        let later = SystemTime::now().max(before + Duration::from_secs(1));
        fs::File::options()
            .append(true)
            .open(path)
            .unwrap()
            .set_modified(later)
            .unwrap();
    }
}

/// Sends a request and returns the response's head, in lines, and its body.
async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    headers: &[String],
) -> std::io::Result<(Vec<String>, String)> {
    let mut lines = vec![
        format!("GET {path} HTTP/1.1"),
        "Host: localhost".to_owned(),
        "Connection: close".to_owned(),
    ];
    lines.extend_from_slice(headers);
    let request = lines.join("\r\n") + "\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await??;
    let answer = String::from_utf8(answer).unwrap().replace("\r\n", "\n");
    let (head, body) = answer
        .split_once("\n\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((head.lines().map(str::to_owned).collect(), body.to_owned()))
}

async fn plain(address: SocketAddr, path: &str, headers: &[String]) -> (Vec<String>, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    talk(stream, path, headers).await.unwrap()
}

async fn secured(
    address: SocketAddr,
    settings: &client::Settings,
    path: &str,
    headers: &[String],
) -> std::io::Result<(Vec<String>, String)> {
    let client = Client::new(settings).unwrap();
    let stream = TcpStream::connect(address).await?;
    let stream = client.connect("localhost", stream, PATIENCE).await?;
    talk(stream, path, headers).await
}

fn login(text: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(text))
}

#[derive(Deserialize)]
struct Record {
    id: String,
    web_config: String,
    requests: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    cmd: String,
    curl_exit: i32,
    response: String,
}

/// The headers that the file, or a refusal, has a say in.
const HEADERS: [&str; 6] = [
    "content-security-policy",
    "strict-transport-security",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
    "x-xss-protection",
];

/// Status, headers and (of refusals) body, in a form that can be compared.
fn essence(head: &[String], body: &str) -> String {
    let status = head[0].split(' ').nth(1).unwrap();
    let mut lines: Vec<_> = head[1..]
        .iter()
        .filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let name = name.to_lowercase();
            HEADERS
                .contains(&name.as_str())
                .then(|| format!("{name}: {value}"))
        })
        .collect();
    lines.sort();
    let body = if matches!(status, "401" | "400") {
        body
    } else {
        ""
    };
    format!("{status} {lines:?} {body:?}")
}

#[tokio::test]
async fn recorded_requests_are_answered_as_promxy_answered_them() {
    let records: Vec<Record> = json_lines("tests/golden/web-config/requests.jsonl");
    let mut count = 0;
    for record in &records {
        let place = Place::new();
        let address = place.serve(&record.web_config).await;
        for request in &record.requests {
            // A header's value is not quoted in the recording, so that its words stand apart.
            let words: Vec<_> = request.cmd.split(' ').collect();
            let after = |name: &str| {
                let place = words.iter().position(|word| *word == name)?;
                words.get(place + 1).copied()
            };
            let url = words.iter().find(|word| word.starts_with("http")).unwrap();
            let (scheme, rest) = url.split_once("://").unwrap();
            let path = rest.split_at(rest.find('/').unwrap()).1;
            let mut headers = Vec::new();
            headers.extend(after("-u").map(login));
            if after("-H").is_some() {
                headers.push("Authorization: Bearer x".to_owned());
            }
            let found = if scheme == "http" {
                Ok(plain(address, path, &headers).await)
            } else {
                let mut settings = place.client();
                if after("--tls-max").is_some() {
                    // There is no older version than 1.2 to ask with; the recording used 1.1 once.
                    settings.versions = Versions {
                        least: Version::Tls12,
                        most: Version::Tls12,
                    };
                }
                settings.identity = after("--cert").map(|_| Identity {
                    certificates: Pem::File(place.path("c.pem")),
                    key: Pem::File(place.path("c.key")),
                });
                if after("--tls-max") == Some("1.1") {
                    Err(std::io::ErrorKind::Unsupported.into())
                } else {
                    secured(address, &settings, path, &headers).await
                }
            };
            let case = format!("{}: {}", record.id, request.cmd);
            match found {
                Err(reason) => assert_ne!(request.curl_exit, 0, "{case}: {reason}"),
                Ok((head, body)) => {
                    assert_eq!(request.curl_exit, 0, "{case}: {head:?}");
                    let expected = request.response.replace("\r\n", "\n");
                    let (lines, text) = expected.split_once("\n\n").unwrap_or((&expected, ""));
                    let lines: Vec<_> = lines.lines().map(|line| line.trim().to_owned()).collect();
                    assert_eq!(essence(&head, &body), essence(&lines, text), "{case}");
                }
            }
            count += 1;
        }
    }
    println!("{} files, {count} requests alike", records.len());
    assert_eq!((records.len(), count), (6, 22));
}

const ALICE: &str = "$2b$04$qYcLg9G48YJWAMoHUPtNge8satKDkwyufpt63rqD4e1YVggKX2kiC";

#[tokio::test]
async fn users_and_headers_rotate_without_a_restart_and_a_broken_file_changes_nothing() {
    let place = Place::new();
    let address = place
        .serve(&format!("basic_auth_users:\n  alice: {ALICE}\n"))
        .await;
    let status = async |user: &str| {
        let (head, _) = plain(address, "/own", &[login(&format!("{user}:secret"))]).await;
        head[0].clone()
    };
    let (ok, refused) = ("HTTP/1.1 200 OK", "HTTP/1.1 401 Unauthorized");
    assert_eq!(status("alice").await, ok);
    assert_eq!(status("bob").await, refused);
    place.write(&format!("basic_auth_users:\n  bob: {ALICE}\n"));
    assert_eq!(status("alice").await, refused);
    assert_eq!(status("bob").await, ok);
    place.write("basic_auth_users: 7");
    assert_eq!(status("bob").await, ok);
    // A file that would switch TLS on says nothing to a listener that is open.
    place.write("tls_server_config:\n  cert_file: s.pem\n  key_file: s.key\n");
    assert_eq!(status("bob").await, ok);
    place.write("http_server_config:\n  headers:\n    X-Frame-Options: deny\n");
    let (head, _) = plain(address, "/nope", &[]).await;
    assert!(
        head.contains(&"x-frame-options: deny".to_owned()),
        "{head:?}"
    );
    // What a handler says itself counts.
    let (head, _) = plain(address, "/own", &[]).await;
    assert!(
        head.contains(&"x-frame-options: own".to_owned()),
        "{head:?}"
    );
}

#[tokio::test]
async fn certificates_rotate_without_a_restart_and_a_broken_one_changes_nothing() {
    let place = Place::new();
    let address = place
        .serve("tls_server_config:\n  cert_file: s.pem\n  key_file: s.key\n")
        .await;
    let shown = async |name: &str| {
        let settings = client::Settings {
            server_name: Some(name.to_owned()),
            ..place.client()
        };
        secured(address, &settings, "/metrics", &[]).await.is_ok()
    };
    assert!(shown("localhost").await);
    place.issue("other", "other.example");
    for kind in ["key", "pem"] {
        let new = fs::read_to_string(place.path(&format!("other.{kind}"))).unwrap();
        write_anew(&place.path(&format!("s.{kind}")), &new);
        // The key alone fits nothing: the old pair is shown.
        assert_eq!(shown("localhost").await, kind == "key");
    }
    assert!(shown("other.example").await);
    write_anew(&place.path("s.pem"), "nothing");
    assert!(shown("other.example").await);
}

#[test]
fn what_prometheus_refuses_is_refused_with_file_and_line() {
    let place = Place::new();
    let f = |text: &str, expected: &str| {
        let reason = place.load(text).expect_err(text);
        let file = place.path("web.yml").display().to_string();
        assert!(reason.contains(&file), "{reason}");
        assert!(reason.contains(expected), "{text}: {expected}: {reason}");
    };
    f("basic_auth_users: {}\nfoo: 1\n", "line 2");
    f("basic_auth_users: {}\nfoo: 1\n", "foo");
    f("foo: 1\n", "unknown field");
    f(
        "tls_server_config:\n  cert_file: s.pem\n  certfile: x\n",
        "certfile",
    );
    f("tls_server_config: {\n", "line");
    f("basic_auth_users:\n  alice: secret\n", "alice");
    f(
        "http_server_config:\n  headers:\n    Foo: x\n",
        "HTTP header \"Foo\" can not be configured",
    );
    f(
        "http_server_config:\n  headers:\n    X-Frame-Options: allow\n",
        "invalid value for X-Frame-Options",
    );
    let tls = |more: &str| {
        format!("tls_server_config:\n  cert_file: s.pem\n  key_file: s.key\n  {more}\n")
    };
    f(
        "tls_server_config:\n  cert_file: s.pem\n",
        "missing one of key or key_file",
    );
    f(
        "tls_server_config:\n  key_file: s.key\n",
        "missing one of cert or cert_file",
    );
    f(&tls("cert: x"), "both cert and cert_file");
    f(
        "tls_server_config:\n  cert_file: nosuch.pem\n  key_file: s.key\n",
        "nosuch.pem",
    );
    f(&tls("client_auth_type: Maybe"), "Invalid ClientAuth: Maybe");
    f(
        &tls("client_ca_file: ca.pem"),
        "without a Client Auth Policy",
    );
    f(
        &tls("client_auth_type: RequireAndVerifyClientCert"),
        "needs client_ca",
    );
    f(&tls("min_version: SSL3"), "unknown TLS version: SSL3");
    f(&tls("max_version: TLS11"), "max_version must be");
    f(
        &tls("min_version: TLS13\n  max_version: TLS12"),
        "the highest TLS version is below",
    );
    f(
        &tls("cipher_suites: [TLS_NONSENSE]"),
        "unknown cipher: TLS_NONSENSE",
    );
    f(&tls("curve_preferences: [P1]"), "unknown curve: P1");
}

#[tokio::test]
async fn what_is_said_about_versions_suites_and_names_of_clients_is_done() {
    let place = Place::new();
    let web = "tls_server_config:
  cert_file: s.pem
  key_file: s.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [client.example]
  min_version: TLS10
  cipher_suites:
    - TLS_RSA_WITH_AES_128_CBC_SHA
    - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    - TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305
  curve_preferences: [CurveP521, CurveP256]
  prefer_server_cipher_suites: true
";
    let address = place.serve(web).await;
    place.issue("stranger", "stranger.example");
    for (file, expected) in [("c", true), ("stranger", false)] {
        for version in [Version::Tls12, Version::Tls13] {
            let settings = client::Settings {
                identity: Some(Identity {
                    certificates: Pem::File(place.path(&format!("{file}.pem"))),
                    key: Pem::File(place.path(&format!("{file}.key"))),
                }),
                versions: Versions {
                    least: version,
                    most: version,
                },
                ..place.client()
            };
            let result = secured(address, &settings, "/metrics", &[]).await;
            assert_eq!(result.is_ok(), expected, "{file} {version:?} {result:?}");
        }
    }
}

#[test]
fn a_file_that_says_nothing_is_plain_and_inline_certificates_need_no_files() {
    let place = Place::new();
    for text in [
        "",
        "# nothing\n",
        "{}",
        "tls_server_config: {}\n",
        "basic_auth_users:\n",
    ] {
        assert!(!place.load(text).unwrap().is_secured(), "{text:?}");
    }
    assert!(!WebConfig::plain().is_secured());
    let indented = |name: &str| {
        let text = fs::read_to_string(place.path(name)).unwrap();
        text.lines()
            .map(|line| format!("    {line}\n"))
            .collect::<Vec<_>>()
            .concat()
    };
    let (certificate, key) = (indented("s.pem"), indented("s.key"));
    let text = format!("tls_server_config:\n  cert: |\n{certificate}  key: |\n{key}");
    let web = place.load(&text).unwrap();
    assert!(web.is_secured());
    let refused = WebConfig::load(place.path("absent"))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("absent"), "{refused}");
}

#[tokio::test]
async fn a_loop_of_ones_own_can_shake_hands_and_ask_who_may_pass() {
    let place = Place::new();
    let hash = bcrypt::hash("secret", 4).unwrap();
    let users = format!("basic_auth_users: {{alice: '{hash}'}}\n");
    let plain = place.load(&users).unwrap();
    assert!(plain.acceptor().is_none());
    let tls = "tls_server_config: {cert_file: s.pem, key_file: s.key}\n";
    let http = "http_server_config: {headers: {X-Frame-Options: deny}}\n";
    let web = place.load(&format!("{tls}{http}{users}")).unwrap();

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = place.client();
    let (served, asked) = tokio::join!(
        async {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = web.acceptor().unwrap();
            let mut stream = acceptor.accept(stream, PATIENCE).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await?;
            stream.shutdown().await
        },
        secured(address, &settings, "/", &[]),
    );
    served.unwrap();
    assert_eq!(asked.unwrap().1, "hello");

    let mut request = HeaderMap::new();
    let refused = web.admit(&request).await;
    assert!(!refused.is_granted());
    let mut answer = unauthorized();
    refused.complete(answer.headers_mut());
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["www-authenticate"], "Basic");
    assert_eq!(answer.headers()["x-frame-options"], "deny");

    let value = format!("Basic {}", STANDARD.encode("alice:secret"));
    request.insert("authorization", value.parse().unwrap());
    let granted = web.admit(&request).await;
    assert!(granted.is_granted());
    let mut answer = HeaderMap::new();
    answer.insert("x-frame-options", "own".parse().unwrap());
    granted.complete(&mut answer);
    assert_eq!(answer["x-frame-options"], "own");
}
