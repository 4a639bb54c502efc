//! `http_client` of server groups: TLS with targets, users from files, proxies and what goes around them.

#![allow(clippy::unwrap_used, reason = "a failed test says what it expected")]

mod support;

use std::{
    fs,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, Version},
};
use serde_json::json;
use shared::{
    config::secret::Secret,
    http::{Limits, serve_tls},
    lifecycle::Tasks,
    testing::pki::{Authority, named},
    tls::{
        H2, HTTP_1_1, Pem,
        server::{Clients, Server, Settings, Trust},
    },
};
use support::{
    Promxy, config, group,
    stub::{Asked, Reply, Stub},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};

const NOW: i64 = 1_700_000_000;

fn vector(time: i64) -> String {
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"i":"1"}},"value":[{time},"1"]}}]}}}}"#
    )
}

/// A target that speaks TLS, and what it was asked with: the version of HTTP, and headers.
struct Secured {
    port: u16,
    asked: Arc<Mutex<Vec<(Version, HeaderMap)>>>,
    tasks: Tasks,
    _runtime: Runtime,
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Secured {
    fn start(settings: Settings) -> Self {
        let runtime = Runtime::new().unwrap();
        let asked = Arc::<Mutex<Vec<(Version, HeaderMap)>>>::default();
        let told = Arc::clone(&asked);
        let router = Router::new().fallback(async move |request: Request| {
            let (head, _) = request.into_parts();
            told.lock().unwrap().push((head.version, head.headers));
            vector(NOW)
        });
        let tasks = Tasks::new();
        let port = runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = Arc::new(Server::new(settings).unwrap());
            serve_tls(&tasks, listener, server, router, Limits::ADMIN);
            port
        });
        Self {
            port,
            asked,
            tasks,
            _runtime: runtime,
        }
    }

    /// Asks through promxy with a client of this kind. Returns the error, or nothing.
    fn ask(&self, client: &str) -> Option<String> {
        let config = format!(
            "promxy:\n  server_groups:\n  - static_configs: [{{targets: ['localhost:{}']}}]\n    scheme: https\n    http_client: {{{client}}}\n",
            self.port
        );
        let promxy = Promxy::start(&config, &[]).ready();
        let (result, answer) = promxy.query("up", NOW);
        if answer["status"] == json!("success") {
            assert_eq!(result[0]["value"], json!([NOW, "1"]), "{answer}");
        }
        answer["error"].as_str().map(str::to_owned)
    }
}

#[track_caller]
fn is_about(error: Option<String>, expected: &str) {
    let error = error.unwrap_or_else(|| panic!("no error about {expected}"));
    assert!(error.contains(expected), "{error}");
}

#[test]
fn tls_config_says_whom_to_trust_by_which_name() {
    let folder = TempDir::new().unwrap();
    let (authority, other) = (Authority::new("a"), Authority::new("b"));
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ours, theirs) = (file("a.pem", authority.pem()), file("b.pem", other.pem()));
    let identity = authority.issue(&named(&["localhost"])).identity();
    let here = Secured::start(Settings::new(identity, &[HTTP_1_1]));
    assert_eq!(
        here.ask(&format!("tls_config: {{ca_file: '{ours}'}}")),
        None
    );
    is_about(
        here.ask(&format!("tls_config: {{ca_file: '{theirs}'}}")),
        "x509",
    );
    is_about(here.ask(""), "x509");
    assert_eq!(here.ask("tls_config: {insecure_skip_verify: true}"), None);
    let text = authority.pem().replace('\n', "\\n");
    assert_eq!(here.ask(&format!("tls_config: {{ca: \"{text}\"}}")), None);
    let identity = authority.issue(&named(&["elsewhere.example"])).identity();
    let elsewhere = Secured::start(Settings::new(identity, &[HTTP_1_1]));
    is_about(
        elsewhere.ask(&format!("tls_config: {{ca_file: '{ours}'}}")),
        "x509",
    );
    let named = format!("tls_config: {{ca_file: '{ours}', server_name: elsewhere.example}}");
    assert_eq!(elsewhere.ask(&named), None);
}

#[test]
fn tls_config_shows_a_certificate_and_bounds_versions() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("a");
    let mut settings = Settings::new(
        authority.issue(&named(&["localhost"])).identity(),
        &[HTTP_1_1],
    );
    settings.clients = Clients::Verified(Trust {
        authorities: Pem::Text(Secret::new(authority.pem())),
        names: Vec::new(),
    });
    settings.versions.most = shared::tls::Version::Tls12;
    let server = Secured::start(settings);
    authority
        .issue(&named(&["client"]))
        .write(folder.path(), "client");
    let at = folder.path().display();
    let shown = format!("cert_file: {at}/client.pem, key_file: {at}/client.key");
    let ask = |keys: &str| {
        server.ask(&format!(
            "tls_config: {{insecure_skip_verify: true, {keys}}}"
        ))
    };
    assert_eq!(ask(&shown), None);
    assert!(ask("").is_some());
    assert!(ask(&format!("{shown}, min_version: TLS13")).is_some());
    assert_eq!(
        ask(&format!("{shown}, min_version: TLS12, max_version: TLS12")),
        None
    );
}

#[test]
fn enable_http2_offers_it() {
    let authority = Authority::new("a");
    let identity = authority.issue(&named(&["localhost"])).identity();
    let server = Secured::start(Settings::new(identity, &[H2, HTTP_1_1]));
    let skipped = "tls_config: {insecure_skip_verify: true}";
    assert_eq!(server.ask(skipped), None);
    assert_eq!(server.ask(&format!("{skipped}, enable_http2: true")), None);
    let asked = server.asked.lock().unwrap();
    let versions: Vec<Version> = asked.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, [Version::HTTP_11, Version::HTTP_2]);
}

fn one(_: &Asked) -> Reply {
    Reply::json(vector(NOW))
}

#[test]
fn basic_auth_takes_users_and_passwords_from_files_that_may_change() {
    let folder = TempDir::new().unwrap();
    let at = folder.path().display().to_string();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("user", "u\n");
    write("password", "one\n");
    let stub = Stub::start(one);
    let keys = format!(
        "http_client: {{basic_auth: {{username_file: '{at}/user', password_file: '{at}/password'}}}}"
    );
    let promxy = Promxy::start(&config(&[group(&[&stub], &keys)]), &[]).ready();
    promxy.query("up", NOW);
    write("password", "two\n");
    promxy.query("up", NOW);
    let sent: Vec<Option<String>> = stub
        .asked()
        .iter()
        .map(|asked| asked.header("authorization").map(str::to_owned))
        .collect();
    // u:one and u:two.
    let expected = ["Basic dTpvbmU=", "Basic dTp0d28="].map(|text| Some(text.to_owned()));
    assert_eq!(sent, expected);
}

#[test]
fn proxies_come_from_the_configuration_or_the_environment_and_no_proxy_goes_around_them() {
    let f = |host: &str, client: &str, through_proxy: bool| {
        let (target, proxy) = (Stub::start(one), Stub::start(one));
        let url = format!("http://127.0.0.1:{}", proxy.port);
        let config = format!(
            "promxy:\n  server_groups:\n  - static_configs: [{{targets: ['{}']}}]\n    http_client: {}\n",
            host.replace("TARGET", &format!("127.0.0.1:{}", target.port)),
            client.replace("PROXY", &url)
        );
        let environment = [("HTTP_PROXY", url.as_str())];
        let folder = TempDir::new().unwrap();
        let promxy = Promxy::start_in(folder, &config, &[], &environment).ready();
        let (_, answer) = promxy.query("up", NOW);
        assert_eq!(answer["status"], json!("success"), "{client}: {answer}");
        let asked = (proxy.asked().len(), target.asked().len());
        let expected = if through_proxy { (1, 0) } else { (0, 1) };
        assert_eq!(asked, expected, "{client}");
        if through_proxy {
            assert!(proxy.asked()[0].target.starts_with("http://"), "{client}");
        }
    };
    f("TARGET", "{proxy_url: 'PROXY'}", true);
    f(
        "TARGET",
        "{proxy_url: 'PROXY', no_proxy: '127.0.0.1'}",
        false,
    );
    // As in Go, loopback is asked without a proxy where there are exceptions at all.
    f(
        "TARGET",
        "{proxy_url: 'PROXY', no_proxy: 'other.example'}",
        false,
    );
    f(
        "t.example:9090",
        "{proxy_url: 'PROXY', no_proxy: 'other.example'}",
        true,
    );
    f("t.example:9090", "{proxy_from_environment: true}", true);
    f("TARGET", "{proxy_from_environment: true}", false);
    f("TARGET", "{}", false);
}

/// The values of a header.
fn values<'a>(asked: &'a Asked, name: &str) -> Vec<&'a str> {
    let named = asked.headers.iter().filter(|(other, _)| other == name);
    named.map(|(_, value)| value.as_str()).collect()
}

// Prometheus 3.5 sends the same.
#[test]
fn proxy_connect_header_and_the_user_of_proxy_url_are_told_to_the_proxy_alone() {
    let authority = Authority::new("a");
    let identity = authority.issue(&named(&["localhost"])).identity();
    let target = Secured::start(Settings::new(identity, &[HTTP_1_1]));
    let f = |user: &str, headers: &str, credentials: &[&str], ways: &[&str]| {
        let proxy = Stub::start(|_| Reply::Tunnel);
        let client = format!(
            "proxy_url: 'http://{user}127.0.0.1:{}', proxy_connect_header: {{{headers}}}, tls_config: {{insecure_skip_verify: true}}",
            proxy.port
        );
        assert_eq!(target.ask(&client), None, "{client}");
        let asked = proxy.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        let host = format!("localhost:{}", target.port);
        assert_eq!(
            (asked[0].method.as_str(), &asked[0].target),
            ("CONNECT", &host)
        );
        assert_eq!(values(&asked[0], "host"), [host]);
        assert_eq!(
            values(&asked[0], "proxy-authorization"),
            credentials,
            "{client}"
        );
        assert_eq!(values(&asked[0], "x-way"), ways, "{client}");
    };
    f("", "X-Way: [a, b]", &[], &["a", "b"]);
    // me:p@ss.
    f("me:p%40ss@", "X-Way: [a]", &["Basic bWU6cEBzcw=="], &["a"]);
    f("me@", "", &["Basic bWU6"], &[]);
    f("", "Proxy-Authorization: [Bearer t]", &["Bearer t"], &[]);
    // Who is named in the URL counts.
    f(
        "me@",
        "Proxy-Authorization: [Bearer t]",
        &["Basic bWU6"],
        &[],
    );
    let asked = target.asked.lock().unwrap();
    assert_eq!(asked.len(), 5);
    for (_, headers) in &*asked {
        for name in ["x-way", "proxy-authorization"] {
            assert!(!headers.contains_key(name), "{headers:?}");
        }
    }
    // Where nothing is encrypted there is no tunnel, and the request itself says who asks.
    let proxy = Stub::start(one);
    let config = format!(
        "promxy:\n  server_groups:\n  - static_configs: [{{targets: ['t.example:9090']}}]\n    http_client: {{proxy_url: 'http://me:pw@127.0.0.1:{}', proxy_connect_header: {{X-Way: [a]}}}}\n",
        proxy.port
    );
    let promxy = Promxy::start(&config, &[]).ready();
    let (_, answer) = promxy.query("up", NOW);
    assert_eq!(answer["status"], json!("success"), "{answer}");
    let asked = proxy.asked();
    assert!(
        asked[0].target.starts_with("http://t.example:9090/"),
        "{asked:?}"
    );
    assert_eq!(values(&asked[0], "proxy-authorization"), ["Basic bWU6cHc="]);
    assert_eq!(values(&asked[0], "x-way"), [""; 0]);
}

#[test]
fn an_error_says_that_the_proxy_does_not_connect() {
    let authority = Authority::new("a");
    let identity = authority.issue(&named(&["localhost"])).identity();
    let target = Secured::start(Settings::new(identity, &[HTTP_1_1]));
    let proxy = Stub::start(|_| Reply::Answer {
        status: 407,
        content_type: "text/plain".to_owned(),
        body: Vec::new(),
    });
    is_about(
        target.ask(&format!("proxy_url: 'http://127.0.0.1:{}'", proxy.port)),
        "Status",
    );
    assert!(target.asked.lock().unwrap().is_empty());
}
