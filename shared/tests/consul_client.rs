//! How the Consul source shows up at a server, what it trusts, and when it gives up; against a raw peer.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use shared::{
    discovery::{
        Discovery, Empty, Error, Lookup as _, Metrics, Plan, Schedule,
        consul::{Asking, Consul, Service, Settings, SetupError},
    },
    lifecycle::Tasks,
    testing::PATIENCE,
};
use support::{Peer, Reply};
use tokio::time::timeout;

const WAIT: Duration = Duration::from_secs(300);

/// A source that the variables and their values describe.
fn consul(variables: &[(&str, &str)], asking: Asking) -> Result<Consul, SetupError> {
    let settings = Settings::from_variables("test", |name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    });
    let service = Service {
        name: "global".to_owned(),
        datacenter: None,
    };
    Consul::new(&settings.unwrap(), service, asking)
}

fn listing(ports: &[u16], index: u64) -> Reply {
    let entry = |port| format!(r#"{{"Node":{{"Address":"n"}},"Service":{{"Port":{port}}}}}"#);
    let body = format!(
        "[{}]",
        ports.iter().map(entry).collect::<Vec<_>>().join(",")
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Consul-Index: {index}\r\nContent-Length: {}",
        body.len()
    );
    Reply::Bytes(format!("{head}\r\n\r\n{body}").into_bytes())
}

/// Looks up once; `Ok` is the addresses.
async fn look_up(mut consul: Consul) -> Result<Vec<String>, Error> {
    let answer = timeout(PATIENCE, consul.look_up()).await.unwrap()?;
    Ok(answer
        .members
        .into_iter()
        .map(|member| member.address)
        .collect())
}

#[tokio::test]
async fn token_login_and_namespace_reach_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "from-file\n").unwrap();
    let (peer, address) = Peer::tcp(None, |_, _| listing(&[1], 1));
    let place = format!("http://{address}/prefix/");
    let variables = [
        ("CONSUL_HTTP_ADDR", place.as_str()),
        ("CONSUL_HTTP_TOKEN", "given"),
        ("CONSUL_HTTP_AUTH", "me:secret"),
        ("CONSUL_NAMESPACE", "team"),
        ("CONSUL_HTTP_TOKEN_FILE", file.to_str().unwrap()),
    ];
    let with_file = consul(&variables, Asking::Polling).unwrap();
    let without = consul(&variables[..4], Asking::Polling).unwrap();
    assert_eq!(look_up(with_file).await.unwrap(), ["n:1"]);
    assert_eq!(look_up(without).await.unwrap(), ["n:1"]);
    let [first, second] = &peer.heads()[..] else {
        panic!()
    };
    assert_eq!(
        first[0],
        "GET /prefix/v1/health/service/global?ns=team&passing=1 HTTP/1.1"
    );
    for head in [first, second] {
        assert!(
            head.contains(&"Authorization: Basic bWU6c2VjcmV0".to_owned()),
            "{head:?}"
        );
    }
    assert!(
        first.contains(&"X-Consul-Token: from-file".to_owned()),
        "{first:?}"
    );
    assert!(
        second.contains(&"X-Consul-Token: given".to_owned()),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_unix_socket_is_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("consul.sock");
    let _peer = Peer::unix(&path, |_, _| listing(&[1, 2], 1));
    let place = format!("unix://{}", path.display());
    let consul = consul(&[("CONSUL_HTTP_ADDR", &place)], Asking::Polling).unwrap();
    assert_eq!(look_up(consul).await.unwrap(), ["n:1", "n:2"]);
}

#[tokio::test]
async fn a_silent_server_runs_into_the_deadline_and_a_redirect_is_not_followed() {
    let (_peer, address) = Peer::tcp(None, |number, _| match number {
        0 => Reply::Silence,
        // Half an answer, and then silence, is no answer.
        1 => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[".to_vec()),
        _ => Reply::Bytes(
            b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        ),
    });
    let place = address.to_string();
    let source = consul(&[("CONSUL_HTTP_ADDR", &place)], Asking::Polling).unwrap();
    let plan = Plan {
        schedule: Schedule::OnRequest,
        deadline: Duration::from_millis(200),
        empty: Empty::Fails,
    };
    let tasks = Tasks::new();
    let discovery = Discovery::start(&tasks, &Metrics::new("test"), "c", plan, source, |_| {});
    let first = discovery.first().await.unwrap();
    assert!(matches!(*first.unwrap_err(), Error::Deadline(_)));
    let second = discovery.refresh().await.unwrap();
    assert!(matches!(*second.unwrap_err(), Error::Deadline(_)));
    let third = discovery.refresh().await.unwrap().unwrap_err();
    assert_eq!(third.to_string(), "Unexpected response code: 302 (no)");
}

#[tokio::test]
async fn a_long_poll_names_the_last_index_and_starts_over_when_it_goes_backwards() {
    let (peer, address) = Peer::tcp(None, |number, _| match number {
        0 => listing(&[1], 40),
        1 => listing(&[1, 2], 41),
        2 => listing(&[1], 7),
        _ => listing(&[3], 8),
    });
    let place = address.to_string();
    let asking = Asking::Blocking { wait: WAIT };
    let mut consul = consul(&[("CONSUL_HTTP_ADDR", &place)], asking).unwrap();
    for index in [40, 41, 7, 8] {
        let answer = timeout(PATIENCE, consul.look_up()).await.unwrap().unwrap();
        assert_eq!(answer.version, Some(index));
    }
    let targets: Vec<_> = peer.heads().iter().map(|head| head[0].clone()).collect();
    let target = |rest: &str| format!("GET /v1/health/service/global?{rest} HTTP/1.1");
    assert_eq!(
        targets,
        [
            target("passing=1"),
            target("index=40&passing=1&wait=300000ms"),
            target("index=41&passing=1&wait=300000ms"),
            target("passing=1"),
        ]
    );
}

/// An authority, a server with its certificate for `server.dc1.consul` alone, and a client's certificate, in a folder.
struct Pki {
    folder: tempfile::TempDir,
    address: SocketAddr,
    peer: Peer,
}

/// Whether the server wants to see a certificate.
#[derive(Clone, Copy)]
enum Clients {
    Anyone,
    Certified,
}

impl Pki {
    fn new(clients: Clients) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
            (params.signed_by(&key, &authority).unwrap(), key)
        };
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir(folder.path().join("authorities")).unwrap();
        write("ca.pem", &authority.pem());
        write("authorities/one.pem", &authority.pem());
        let (client, client_key) = issue("client");
        write("client.pem", &client.pem());
        write("client.key", &client_key.serialize_pem());
        write("empty.pem", "");
        let (server, server_key) = issue("server.dc1.consul");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            Clients::Anyone => builder.with_no_client_auth(),
            Clients::Certified => {
                let mut roots = RootCertStore::empty();
                roots
                    .add(CertificateDer::from(authority.der().to_vec()))
                    .unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
        let config = builder
            .with_single_cert(vec![server.der().clone()], key)
            .unwrap();
        let (peer, address) = Peer::tcp(Some(Arc::new(config)), |_, _| listing(&[1], 1));
        Self {
            folder,
            address,
            peer,
        }
    }

    fn path(&self, name: &str) -> String {
        let path: &Path = self.folder.path();
        path.join(name).display().to_string()
    }

    /// Asks with `variables`, whose values that end in `.pem` or `.key` are files of the folder.
    async fn ask(&self, variables: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let place = self.address.to_string();
        let is_file =
            |value: &str| value.contains('/') || value.contains(".pem") || value.contains(".key");
        let mut all = vec![
            ("CONSUL_HTTP_ADDR", place),
            ("CONSUL_HTTP_SSL", "true".to_owned()),
        ];
        for (name, value) in variables {
            let value = value.trim_end_matches('/');
            let file = is_file(value) || value == "authorities";
            all.push((
                name,
                if file {
                    self.path(value)
                } else {
                    value.to_owned()
                },
            ));
        }
        let all: Vec<_> = all
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let consul = consul(&all, Asking::Polling).map_err(|error| error.to_string())?;
        look_up(consul).await.map_err(|error| error.to_string())
    }
}

const NAME: (&str, &str) = ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul");
const AUTHORITY: (&str, &str) = ("CONSUL_CACERT", "ca.pem");

#[tokio::test]
async fn a_server_is_trusted_by_authority_and_name_or_without_verification() {
    let pki = Pki::new(Clients::Anyone);
    assert_eq!(pki.ask(&[AUTHORITY, NAME]).await.unwrap(), ["n:1"]);
    let host = format!("Host: {}", pki.address);
    assert!(
        pki.peer.heads()[0].contains(&host),
        "{:?}",
        pki.peer.heads()
    );
    assert_eq!(
        pki.ask(&[("CONSUL_CAPATH", "authorities"), NAME])
            .await
            .unwrap(),
        ["n:1"]
    );
    assert_eq!(
        pki.ask(&[("CONSUL_HTTP_SSL_VERIFY", "false")])
            .await
            .unwrap(),
        ["n:1"]
    );
    let refused = [
        // The address is not in the certificate.
        vec![AUTHORITY],
        // Another name.
        vec![AUTHORITY, ("CONSUL_TLS_SERVER_NAME", "server.dc2.consul")],
        // No authority of the system's.
        vec![NAME],
    ];
    for variables in refused {
        let text = pki.ask(&variables).await.unwrap_err();
        assert!(text.contains("certificate"), "{variables:?}: {text}");
    }
    assert_eq!(pki.peer.heads().len(), 3);
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_server_that_wants_one() {
    let pki = Pki::new(Clients::Certified);
    let certificate = ("CONSUL_CLIENT_CERT", "client.pem");
    let key = ("CONSUL_CLIENT_KEY", "client.key");
    assert_eq!(
        pki.ask(&[AUTHORITY, NAME, certificate, key]).await.unwrap(),
        ["n:1"]
    );
    assert!(pki.ask(&[AUTHORITY, NAME]).await.is_err());
    let half = pki.ask(&[AUTHORITY, certificate]).await.unwrap_err();
    assert_eq!(half, "both client cert and client key must be provided");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let pki = Pki::new(Clients::Anyone);
    let f = async |name: &str, file: &str, expected: &str| {
        let text = pki.ask(&[(name, file)]).await.unwrap_err();
        assert!(
            text.contains(&pki.path(file)) && text.contains(expected),
            "{text}"
        );
    };
    f("CONSUL_CACERT", "absent.pem", "cannot read").await;
    f("CONSUL_CACERT", "empty.pem", "no certificate in it").await;
    f("CONSUL_HTTP_TOKEN_FILE", "absent.key", "cannot read").await;
    let name = pki
        .ask(&[("CONSUL_TLS_SERVER_NAME", "10.0.0.1")])
        .await
        .unwrap_err();
    assert_eq!(name, "a TLS server name must be a host name: \"10.0.0.1\"");
}
