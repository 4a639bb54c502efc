//! What `deploy/` says of this tool is true: every example, and the configuration in the Kubernetes manifest, passes
//! `-check-config`, relays metrics, and ends in order; dashboard and alerts use metrics that exist.
//!
//! The files are started as they are: the environment, which wins over them, moves their addresses to loopback, and their
//! Consul and Kubernetes are played by one [`Site`].

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
mod program;
#[path = "support/site.rs"]
mod site;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message as _;
use serde_json::Value;
use shared::{
    testing::{
        PATIENCE, eventually,
        pki::{Authority, named},
        wire::UdpPeer,
    },
    tls::{
        H2, Identity, Pem, client,
        server::{Clients, Server, Settings, Trust},
    },
};
use tempfile::TempDir;
use tokio::{net::TcpStream, task::block_in_place};
use veneur_proxy::proto::{
    forwardrpc::{MetricList, SEND_METRICS},
    metricpb::{CounterValue, Metric, Scope, Type, Value as MetricValue},
};

use peers::{Manner, Peer, Speaks};
use program::{Proxy, client as grpc, post};
use site::Site;

/// A counter of one, as local veneurs send it.
const BODY: &[u8] =
    br#"[{"name":"hits","type":"counter","tagstring":"a:1","tags":["a:1"],"value":"AQAAAAAAAAA="}]"#;
const LOOPBACK: &str = "127.0.0.1:0";

#[test]
fn every_example_passes_check_config_without_unknown_keys() {
    for example in examples() {
        let mut words = vec![
            "-check-config",
            "-strict",
            "-f",
            example.path.to_str().unwrap(),
        ];
        words.extend(example.words());
        let check = program::run(&words, &[]);
        assert_eq!(check.status, Some(0), "{}", check.stdout);
        assert!(!check.stdout.contains("warning"), "{}", check.stdout);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_relays_metrics_and_ends_in_order() {
    for example in examples() {
        let stage = Stage::build(&example).await;
        let mut proxy = block_in_place(|| stage.start());
        let sent = stage.send(&proxy).await;
        assert!(sent > 0, "{}", example.name);
        block_in_place(|| {
            let what = format!("{sent} metrics of {}", example.name);
            eventually(&what, || (stage.arrived() == sent).then_some(()));
            let status = proxy.program.terminate();
            let log = proxy.program.stderr();
            assert_eq!(status.code(), Some(0), "{} {log:#?}", example.name);
            let last = log.last().unwrap();
            assert!(
                last.contains("drained") && last.contains("lost=0"),
                "{last}"
            );
            assert_eq!(stage.arrived(), sent, "{}", example.name);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboard_and_alerts_use_metrics_that_exist() {
    let exposed = exposed_metrics().await;
    for file in ["dashboards/veneur-proxy.json", "alerts/veneur-proxy.yaml"] {
        let used = metrics_in(&read(file));
        assert!(used.len() > 8, "{file} {used:?}");
        let unknown: Vec<&String> = used.difference(&exposed).collect();
        assert!(unknown.is_empty(), "{file} {unknown:?} {exposed:?}");
    }
}

#[test]
fn the_manifest_probes_paths_that_are_served_and_leaves_time_for_the_drain() {
    let manifest = read("kubernetes/veneur-proxy.yaml");
    let probed: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.split_once("httpGet: {path: ")?.1.split(',').next())
        .collect();
    assert_eq!(probed, ["/healthcheck/ready", "/version"]);
    let number = |key: &str| -> u64 {
        let (_, rest) = manifest.split_once(key).unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    };
    let closing = 9;
    assert!(number("terminationGracePeriodSeconds: ") > number("shutdown_timeout: ") + closing);
}

/// A configuration of `deploy/`.
struct Example {
    name: String,
    path: PathBuf,
    document: Value,
    /// Holds what is no file of its own.
    _folder: Option<TempDir>,
}

impl Example {
    fn read(path: PathBuf, folder: Option<TempDir>) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        Self {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            path,
            document: serde_saphyr::from_str(&text).unwrap(),
            _folder: folder,
        }
    }

    /// What the file says has to be on the command line.
    fn words(&self) -> &'static [&'static str] {
        if self.name.starts_with("legacy") {
            &["-generation", "legacy"]
        } else {
            &[]
        }
    }

    fn has(&self, key: &str) -> bool {
        key.split('.')
            .try_fold(&self.document, |value, key| value.get(key))
            .is_some()
    }
}

/// Returns the examples, in order of name, and the configuration in the manifest.
fn examples() -> Vec<Example> {
    let entries = fs::read_dir(deploy().join("examples/veneur-proxy")).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    assert!(files.len() >= 11, "{files:?}");
    let manifest = read("kubernetes/veneur-proxy.yaml");
    let (_, rest) = manifest.split_once("  config_proxy.yaml: |\n").unwrap();
    let lines = rest.lines().map_while(|line| line.strip_prefix("    "));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.yaml");
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let files = files.into_iter().map(|file| Example::read(file, None));
    files.chain([Example::read(file, Some(folder))]).collect()
}

/// An example on free ports of loopback, and everything that it talks to.
struct Stage {
    path: PathBuf,
    words: &'static [&'static str],
    variables: Vec<(String, String)>,
    http: Peer,
    grpc: Vec<Peer>,
    serves: Serves,
    authority: Authority,
    folder: TempDir,
    _self_metrics: UdpPeer,
    _site: Site,
}

/// What clients find.
struct Serves {
    import: bool,
    grpc: bool,
    grpc_tls: bool,
}

impl Stage {
    async fn build(example: &Example) -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("testing"));
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        authority
            .issue(&named(&["127.0.0.1"]))
            .write(folder.path(), "own");
        let file = |name: &str| folder.path().join(name).display().to_string();
        let tls = example.has("forward_tls").then(|| {
            let mut settings = Settings::new(identity(&folder), &[H2]);
            settings.clients = Clients::Verified(Trust {
                authorities: Pem::File(file("ca.pem").into()),
                names: Vec::new(),
            });
            Arc::new(Server::new(settings).unwrap())
        });
        let http = Peer::http().await;
        let count = example.document["forward_addresses"]
            .as_array()
            .map_or(1, Vec::len);
        let mut grpc = Vec::new();
        for _ in 0..count {
            let any = LOOPBACK.parse().unwrap();
            grpc.push(Peer::bind_tls(any, Speaks::Grpc, Manner::Takes, tls.clone()).await);
        }
        let addresses: Vec<String> = grpc.iter().map(|peer| peer.address.to_string()).collect();
        let site = Site::start(http.address, grpc[0].address, &authority, folder.path()).await;
        let self_metrics = UdpPeer::bind();
        let mut variables = site.variables();
        let moved = [
            ("http_address", LOOPBACK.to_owned()),
            ("grpc_address", LOOPBACK.to_owned()),
            ("grpc_tls_address", LOOPBACK.to_owned()),
            ("forward_address", format!("http://{}", http.address)),
            ("forward_addresses", addresses.join(",")),
            ("stats_address", self_metrics.address().to_string()),
            ("statsd.address", self_metrics.address().to_string()),
            (
                "ssf_destination_address",
                format!("udp://{}", self_metrics.address()),
            ),
            ("tls.ca_file", file("ca.pem")),
            ("tls.cert_file", file("own.pem")),
            ("tls.key_file", file("own.key")),
            ("forward_tls.ca_file", file("ca.pem")),
            ("forward_tls.cert_file", file("own.pem")),
            ("forward_tls.key_file", file("own.key")),
        ];
        variables.extend(
            moved
                .into_iter()
                .filter(|(key, _)| example.has(key))
                .map(|(key, value)| (variable(key), value)),
        );
        if ["kubernetes_service", "kubernetes_ready"]
            .iter()
            .any(|key| example.has(key))
        {
            let account = variable("kubernetes_service_account");
            variables.push((account, folder.path().display().to_string()));
        }
        let stream = example.has("forward_addresses") || example.has("forward_service");
        Self {
            path: example.path.clone(),
            words: example.words(),
            variables,
            http,
            grpc,
            serves: Serves {
                import: !stream || example.has("http.enable_import"),
                grpc: example.has("grpc_address"),
                grpc_tls: example.has("grpc_tls_address"),
            },
            authority,
            folder,
            _self_metrics: self_metrics,
            _site: site,
        }
    }

    /// Starts the proxy, and waits until it is ready.
    fn start(&self) -> Proxy {
        let text = fs::read_to_string(&self.path).unwrap();
        let variables: Vec<(&str, &str)> = self
            .variables
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let proxy = Proxy::start_with(&text, self.words, &variables);
        let http = proxy.http();
        eventually(&format!("{} to be ready", self.path.display()), || {
            (program::get(http, "/healthcheck/ready").status == 200).then_some(())
        });
        proxy
    }

    /// Sends a metric in each way that is served; returns how many.
    async fn send(&self, proxy: &Proxy) -> usize {
        let mut sent = 0;
        if self.serves.import {
            let answer = block_in_place(|| post(proxy.http(), "", BODY));
            assert_eq!(answer.status, 202, "{}", answer.text());
            sent += 1;
        }
        if self.serves.grpc {
            let address = block_in_place(|| proxy.grpc());
            let stream = TcpStream::connect(address).await.unwrap();
            let outcome = grpc::call_on(stream, SEND_METRICS, &[], list()).await;
            assert_eq!(outcome.code, 0, "{}", outcome.text);
            sent += 1;
        }
        if self.serves.grpc_tls {
            // The only gRPC listener of its example.
            let address = block_in_place(|| proxy.grpc());
            let stream = TcpStream::connect(address).await.unwrap();
            let client = self.client();
            let stream = client.connect("127.0.0.1", stream, PATIENCE).await.unwrap();
            let outcome = grpc::call_on(stream, SEND_METRICS, &[], list()).await;
            assert_eq!(outcome.code, 0, "{}", outcome.text);
            sent += 1;
        }
        sent
    }

    fn client(&self) -> client::Client {
        let authorities = self.folder.path().join("trusted.pem");
        fs::write(&authorities, self.authority.pem()).unwrap();
        let mut settings = client::Settings::SYSTEM;
        settings.roots = client::Roots::Authorities(Pem::File(authorities));
        settings.identity = Some(identity(&self.folder));
        settings.alpn = vec![H2];
        client::Client::new(&settings).unwrap()
    }

    fn arrived(&self) -> usize {
        self.http.metrics() + self.grpc.iter().map(Peer::metrics).sum::<usize>()
    }
}

fn identity(folder: &TempDir) -> Identity {
    Identity {
        certificates: Pem::File(folder.path().join("own.pem")),
        key: Pem::File(folder.path().join("own.key")),
    }
}

/// A framed list of the same counter.
fn list() -> Vec<u8> {
    let metric = Metric {
        name: b"hits".to_vec(),
        tags: vec![b"a:1".to_vec()],
        r#type: Type::Counter.into(),
        value: Some(MetricValue::Counter(CounterValue { value: 1 })),
        scope: Scope::Global.into(),
    };
    let metrics = vec![metric];
    grpc::framed(&MetricList { metrics }.encode_to_vec())
}

/// The environment's name for a key.
fn variable(key: &str) -> String {
    format!(
        "VENEUR_PROXY_{}",
        key.replace('_', "").replace('.', "_").to_uppercase()
    )
}

/// Returns the names of all families of the metrics page, once every family has a sample.
async fn exposed_metrics() -> BTreeSet<String> {
    let file = deploy().join("examples/veneur-proxy/dual-consul.yaml");
    let stage = Stage::build(&Example::read(file, None)).await;
    // The family of losses shows only once something is lost.
    stage.http.behave(Manner::Answers(
        "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
    ));
    block_in_place(|| {
        let proxy = stage.start();
        let http = proxy.http();
        assert_eq!(post(http, "", BODY).status, 202);
        let page = eventually("a loss on the metrics page", || {
            let page = program::get(http, "/metrics").text();
            page.contains("\nveneur_proxy_destination_lost_metrics_total{")
                .then_some(page)
        });
        let family = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
        page.lines().filter_map(family).collect()
    })
}

/// Returns all words that look like metrics of this tool or of its process.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("veneur_proxy_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy().join(path)).unwrap()
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}
