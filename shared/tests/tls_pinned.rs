//! Pinned certificates: what Go's verifier accepts and rustls alone does not, and what must still be refused.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::net::Ipv4Addr;

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use shared::{
    config::secret::Secret,
    testing::{
        PATIENCE,
        pki::{
            Authority, Issued, named,
            rcgen::{
                BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
                date_time_ymd,
            },
        },
    },
    tls::{
        Pem,
        client::{self, Client, CommonName, Roots},
        server::{self, Server},
    },
};
use tokio::net::{TcpListener, TcpStream};

/// What a client makes of a server that shows `shown` (the PEM of a chain) and is reached as `host`, when `pinned` is the
/// file of its trusted certificates. Either "accepted" or the client's error.
async fn verdict(shown: &Issued, host: &str, pinned: &str, common_name: CommonName) -> String {
    let server = Server::new(server::Settings::new(shown.identity(), &[])).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client::new(&client::Settings {
        roots: Roots::Pinned {
            certificates: Pem::Text(Secret::new(pinned)),
            common_name,
        },
        ..client::Settings::SYSTEM
    });
    let client = client.unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        server.accept(stream, PATIENCE).await
    };
    let connect = async {
        let stream = TcpStream::connect(address).await.unwrap();
        client.connect(host, stream, PATIENCE).await
    };
    match tokio::join!(serve, connect).1 {
        Ok(_) => "accepted".to_owned(),
        Err(reason) => reason.to_string(),
    }
}

async fn is(expected: &str, shown: &Issued, host: &str, pinned: &str) {
    let found = verdict(shown, host, pinned, CommonName::Ignored).await;
    assert!(found.contains(expected), "{expected}: {found}");
}

/// As `openssl req -x509` makes it: a self-signed certificate that says it is an authority's.
fn authoritative(names: &[&str]) -> CertificateParams {
    let mut params = named(names);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

#[tokio::test]
async fn all_that_go_accepts_as_root_is_accepted() {
    let authority = Authority::new("a");
    let names = ["localhost", "127.0.0.1"];
    let leaf = authority.issue(&named(&names));
    let own_authority = Issued::by_itself(&authoritative(&names));
    let own_leaf = Issued::by_itself(&named(&names));
    for host in names {
        // The authority; then what stands beside it in the file does not matter.
        is("accepted", &leaf, host, &authority.pem()).await;
        let crowded = format!(
            "text\n{}{}{}",
            leaf.key,
            own_leaf.certificate,
            authority.pem()
        );
        is("accepted", &leaf, host, &crowded).await;
        // Self-signed, as an authority or not.
        is("accepted", &own_authority, host, &own_authority.certificate).await;
        is("accepted", &own_leaf, host, &own_leaf.certificate).await;
        // Issued by an authority that the file does not hold.
        is("accepted", &leaf, host, &leaf.certificate).await;
    }
}

#[tokio::test]
async fn a_pinned_certificate_must_have_the_name_the_date_and_the_purpose() {
    let authority = Authority::new("a");
    let f = async |params: &CertificateParams, host: &str, expected: &str| {
        for shown in [authority.issue(params), Issued::by_itself(params)] {
            is(expected, &shown, host, &shown.certificate).await;
        }
    };
    for make in [named, authoritative] {
        let mut params = make(&["localhost", "127.0.0.1"]);
        f(&params, "localhost", "accepted").await;
        f(&params, "other.example", "not valid for name").await;
        f(&params, "127.0.0.2", "not valid for name").await;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        f(&params, "localhost", "InvalidPurpose").await;
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
        f(&params, "localhost", "accepted").await;
        params.not_after = date_time_ymd(2021, 1, 1);
        params.not_before = date_time_ymd(2020, 1, 1);
        f(&params, "localhost", "certificate expired").await;
        params.not_after = date_time_ymd(2990, 1, 1);
        params.not_before = date_time_ymd(2980, 1, 1);
        f(&params, "localhost", "certificate not valid yet").await;
    }
}

#[tokio::test]
async fn a_certificate_that_only_resembles_a_pinned_one_is_refused() {
    let (authority, twin) = (Authority::new("a"), Authority::new("a"));
    let params = named(&["localhost"]);
    let (leaf, sibling) = (authority.issue(&params), authority.issue(&params));
    is("UnknownIssuer", &leaf, "localhost", &sibling.certificate).await;
    is("BadSignature", &leaf, "localhost", &twin.pem()).await;
    let (one, two) = (
        Issued::by_itself(&authoritative(&["localhost"])),
        Issued::by_itself(&authoritative(&["localhost"])),
    );
    is(
        "invalid peer certificate",
        &one,
        "localhost",
        &two.certificate,
    )
    .await;
    // An authority's certificate that is not itself in the file is no server's, whoever issued it.
    let between = authority.issue(&authoritative(&["localhost"]));
    is("CaUsedAsEndEntity", &between, "localhost", &authority.pem()).await;
    // A pinned certificate vouches for nobody else: not for what it is shown with.
    let chain = Issued {
        certificate: format!("{}{}", sibling.certificate, leaf.certificate),
        key: sibling.key.clone(),
    };
    is("UnknownIssuer", &chain, "localhost", &leaf.certificate).await;
}

#[tokio::test]
async fn a_tampered_signature_is_refused_unless_the_very_bytes_are_pinned() {
    let authority = Authority::new("a");
    let leaf = authority.issue(&named(&["localhost"]));
    let mut der = CertificateDer::from_pem_slice(leaf.certificate.as_bytes())
        .unwrap()
        .to_vec();
    *der.last_mut().unwrap() ^= 1;
    let tampered = Issued {
        certificate: pem(&der),
        key: leaf.key.clone(),
    };
    is(
        "invalid peer certificate",
        &tampered,
        "localhost",
        &authority.pem(),
    )
    .await;
    is("UnknownIssuer", &tampered, "localhost", &leaf.certificate).await;
    // Who puts exactly these bytes into the file has vouched for them; nobody looks at the signature of a root.
    is("accepted", &tampered, "localhost", &tampered.certificate).await;
}

#[tokio::test]
async fn a_server_without_the_key_of_the_pinned_certificate_is_refused() {
    use rustls::{ServerConfig, server::ResolvesServerCertUsingSni, sign::CertifiedKey};
    let pinned = Issued::by_itself(&authoritative(&["localhost"]));
    let thief = Issued::by_itself(&authoritative(&["localhost"]));
    let certificate = CertificateDer::from_pem_slice(pinned.certificate.as_bytes()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(thief.key.as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let mut stolen = ResolvesServerCertUsingSni::new();
    stolen
        .add("localhost", CertifiedKey::new(vec![certificate], key))
        .unwrap();
    let config = ServerConfig::builder_with_provider(shared::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(std::sync::Arc::new(stolen));
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client::new(&client::Settings {
        roots: Roots::Pinned {
            certificates: Pem::Text(Secret::new(&pinned.certificate)),
            common_name: CommonName::CountsWhenPinned,
        },
        ..client::Settings::SYSTEM
    });
    let client = client.unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await
    };
    let connect = async {
        let stream = TcpStream::connect(address).await.unwrap();
        client.connect("localhost", stream, PATIENCE).await
    };
    let refused = tokio::join!(serve, connect).1.unwrap_err().to_string();
    assert!(refused.contains("BadSignature"), "{refused}");
}

#[tokio::test]
async fn a_common_name_counts_only_on_wish_only_alone_and_only_for_a_pinned_certificate() {
    let authority = Authority::new("a");
    let only_common = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let f = async |shown: &Issued, host: &str, pinned: &str, ignored: &str, counted: &str| {
        for (common_name, expected) in [
            (CommonName::Ignored, ignored),
            (CommonName::CountsWhenPinned, counted),
        ] {
            let found = verdict(shown, host, pinned, common_name).await;
            assert!(
                found.contains(expected),
                "{common_name:?} {expected}: {found}"
            );
        }
    };
    let invalid = "not valid for name";
    for name in ["localhost", "127.0.0.1"] {
        let shown = Issued::by_itself(&only_common(name));
        f(&shown, name, &shown.certificate, invalid, "accepted").await;
        f(
            &shown,
            "other.example",
            &shown.certificate,
            invalid,
            invalid,
        )
        .await;
    }
    let loud = Issued::by_itself(&only_common("LocalHost"));
    f(&loud, "localhost", &loud.certificate, invalid, "accepted").await;
    // Alternative names replace it.
    let mut both = named(&["other.example"]);
    both.distinguished_name
        .push(DnType::CommonName, "localhost");
    let both = Issued::by_itself(&both);
    f(&both, "localhost", &both.certificate, invalid, invalid).await;
    // One that a trusted authority has issued needs a real name.
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name
        .push(DnType::CommonName, "localhost");
    let leaf = authority.issue(&leaf);
    f(&leaf, "localhost", &authority.pem(), invalid, invalid).await;
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        STANDARD.encode(der)
    )
}
