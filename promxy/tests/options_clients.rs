//! `http_client` of server groups: TLS with targets, users from files, proxies and what goes around them.

#![allow(clippy::unwrap_used, reason = "a failed test says what it expected")]

mod support;

use std::{
    fs,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Request};
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

/// A target that speaks TLS, and what it was asked with: the version of HTTP.
struct Secured {
    port: u16,
    versions: Arc<Mutex<Vec<String>>>,
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
        let versions = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&versions);
        let router = Router::new().fallback(async move |request: Request| {
            told.lock()
                .unwrap()
                .push(format!("{:?}", request.version()));
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
            versions,
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
    assert_eq!(*server.versions.lock().unwrap(), ["HTTP/1.1", "HTTP/2.0"]);
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
