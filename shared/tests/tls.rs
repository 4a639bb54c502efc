//! Servers and clients of `shared::tls` against each other, on real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::{fs, net::Ipv4Addr, sync::Arc, time::Duration};

use rustls::CipherSuite;
use shared::{
    config::secret::Secret,
    lifecycle::{Drained, Tasks},
    testing::{
        PATIENCE,
        pki::{Authority, Issued, named},
    },
    tls::{
        Error, H2, HTTP_1_1, Identity, Pem, Version, Versions,
        client::{self, Client, Roots, Verification},
        server::{self, Clients, Handshakes, Server, Trust},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

fn text(pem: &str) -> Pem {
    Pem::Text(Secret::new(pem))
}

fn trusting(authority: &Authority) -> client::Settings {
    client::Settings {
        roots: Roots::Authorities(text(&authority.pem())),
        ..client::Settings::SYSTEM
    }
}

/// Connects `client` to `server` as `localhost`, and sends a word there and back. Returns the versions of TLS and ALPN that
/// were agreed on, or why the client or the server refused.
async fn exchange(
    server: &Server,
    client: &client::Settings,
) -> Result<(String, Option<Vec<u8>>), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client::new(client).map_err(|reason| format!("settings: {reason}"))?;
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = server.accept(stream, PATIENCE).await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        stream.write_all(&word).await?;
        stream.shutdown().await
    };
    let ask = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = client.connect("localhost", stream, PATIENCE).await?;
        stream.write_all(b"word").await?;
        let mut answer = Vec::new();
        // A server that refuses a client's certificate says so only after a handshake of TLS 1.3.
        stream.read_to_end(&mut answer).await?;
        assert_eq!(answer, b"word");
        let session = stream.get_ref().1;
        let version = format!("{:?}", session.protocol_version().unwrap());
        std::io::Result::Ok((version, session.alpn_protocol().map(<[u8]>::to_vec)))
    };
    let (served, asked) = timeout(PATIENCE, async { tokio::join!(serve, ask) })
        .await
        .unwrap();
    match (served, asked) {
        (Ok(()), Ok(agreed)) => Ok(agreed),
        (served, asked) => Err(format!("client: {:?}; server: {served:?}", asked.map(drop))),
    }
}

fn server(identity: Identity) -> server::Settings {
    server::Settings::new(identity, &[])
}

#[tokio::test]
async fn a_server_is_trusted_by_authority_name_and_nothing_less() {
    let (authority, other) = (Authority::new("a"), Authority::new("a"));
    let good = authority.issue(&named(&["localhost"]));
    let good = Server::new(server(good.identity())).unwrap();
    let elsewhere = authority.issue(&named(&["other.example"]));
    let elsewhere = Server::new(server(elsewhere.identity())).unwrap();
    let settings = trusting(&authority);
    let (version, alpn) = exchange(&good, &settings).await.unwrap();
    assert_eq!((version.as_str(), alpn), ("TLSv1_3", None));
    let f = async |server: &Server, settings: client::Settings, expected: &str| match exchange(
        server, &settings,
    )
    .await
    {
        Ok(_) => assert_eq!(expected, "ok"),
        Err(text) => assert!(text.contains(expected), "{text}"),
    };
    f(&good, trusting(&other), "BadSignature").await;
    let nobody = client::Settings {
        roots: Roots::Nobody,
        ..settings.clone()
    };
    f(&good, nobody.clone(), "UnknownIssuer").await;
    f(&elsewhere, settings.clone(), "NotValidForName").await;
    let renamed = |name: &str| client::Settings {
        server_name: Some(name.to_owned()),
        ..settings.clone()
    };
    f(&elsewhere, renamed("other.example"), "ok").await;
    f(&good, renamed("other.example"), "NotValidForName").await;
    f(
        &good,
        renamed("not a name"),
        "settings: not a host name or address: \"not a name\"",
    )
    .await;
    let careless = |settings| client::Settings {
        verification: Verification::InsecureSkipVerify,
        ..settings
    };
    f(&elsewhere, careless(settings.clone()), "ok").await;
    f(&good, careless(nobody), "ok").await;
}

#[tokio::test]
async fn a_client_is_let_in_as_its_certificate_is_wanted() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let identity = ours.issue(&named(&["localhost"])).identity();
    let known = ours
        .issue(&named(&["client.example", "10.1.2.3"]))
        .identity();
    let stranger = theirs.issue(&named(&["client.example"])).identity();
    let trust = |names: &[&str]| Trust {
        authorities: text(&ours.pem()),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let f = async |clients: Clients, nothing: bool, stranger_in: bool, known_in: bool| {
        let server = Server::new(server::Settings {
            clients: clients.clone(),
            ..server(identity.clone())
        });
        let server = server.unwrap();
        for (identity, expected) in [
            (None, nothing),
            (Some(&stranger), stranger_in),
            (Some(&known), known_in),
        ] {
            let client = client::Settings {
                identity: identity.cloned(),
                ..trusting(&ours)
            };
            let result = exchange(&server, &client).await;
            assert_eq!(
                result.is_ok(),
                expected,
                "{clients:?} {identity:?} {result:?}"
            );
        }
    };
    f(Clients::Ignored, true, true, true).await;
    f(Clients::Asked, true, true, true).await;
    f(Clients::AnyCertificate, false, true, true).await;
    f(Clients::VerifiedIfGiven(trust(&[])), true, false, true).await;
    f(Clients::Verified(trust(&[])), false, false, true).await;
    f(
        Clients::Verified(trust(&["x", "client.example"])),
        false,
        false,
        true,
    )
    .await;
    f(Clients::Verified(trust(&["10.1.2.3"])), false, false, true).await;
    f(
        Clients::VerifiedIfGiven(trust(&["example"])),
        true,
        false,
        false,
    )
    .await;
}

#[tokio::test]
async fn versions_suites_and_protocols_are_those_of_both_sides() {
    let authority = Authority::new("a");
    let identity = authority.issue(&named(&["localhost"])).identity();
    let only = |version| Versions {
        least: version,
        most: version,
    };
    let (old, new) = (only(Version::Tls12), only(Version::Tls13));
    let f = async |served: Versions, asked: Versions, expected: Option<&str>| {
        let server = server::Settings {
            versions: served,
            ..server(identity.clone())
        };
        let client = client::Settings {
            versions: asked,
            ..trusting(&authority)
        };
        let agreed = exchange(&Server::new(server).unwrap(), &client).await;
        let agreed = agreed.ok().map(|(version, _)| version);
        assert_eq!(agreed.as_deref(), expected);
    };
    f(old, Versions::ALL, Some("TLSv1_2")).await;
    f(Versions::ALL, old, Some("TLSv1_2")).await;
    f(new, Versions::ALL, Some("TLSv1_3")).await;
    f(new, old, None).await;
    let g = async |served: &[&'static [u8]], asked: &[&'static [u8]], expected: Option<&[u8]>| {
        let server = server::Settings::new(identity.clone(), served);
        let client = client::Settings {
            alpn: asked.to_vec(),
            ..trusting(&authority)
        };
        let agreed = exchange(&Server::new(server).unwrap(), &client).await;
        assert_eq!(agreed.unwrap().1.as_deref(), expected);
    };
    g(&[H2, HTTP_1_1], &[HTTP_1_1, H2], Some(H2)).await;
    g(&[H2, HTTP_1_1], &[HTTP_1_1], Some(HTTP_1_1)).await;
    g(&[H2, HTTP_1_1], &[], None).await;
    let impossible = server::Settings {
        versions: Versions {
            least: Version::Tls13,
            most: Version::Tls12,
        },
        ..server(identity.clone())
    };
    let text = Server::new(impossible).unwrap_err().to_string();
    assert_eq!(text, "the highest TLS version is below the lowest");
    let suites = |suite| server::Settings {
        cipher_suites: Some(vec![suite]),
        versions: old,
        ..server(identity.clone())
    };
    let chosen = suites(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    assert!(
        exchange(&Server::new(chosen).unwrap(), &trusting(&authority))
            .await
            .is_ok()
    );
    // A suite of TLS 1.3 is none for TLS 1.2, and one that is not safe is none at all.
    for suite in [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS_RSA_WITH_AES_128_CBC_SHA,
    ] {
        let text = Server::new(suites(suite)).unwrap_err().to_string();
        assert_eq!(text, "none of the chosen cipher suites can be used");
    }
}

#[tokio::test]
async fn a_reload_shows_the_new_certificate_and_a_broken_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let identity = before
        .issue(&named(&["localhost"]))
        .write(folder.path(), "server");
    let server = Server::new(server(identity)).unwrap();
    assert!(exchange(&server, &trusting(&before)).await.is_ok());
    fs::write(folder.path().join("server.pem"), "nothing").unwrap();
    let text = server.reload().unwrap_err().to_string();
    let place = folder.path().join("server.pem").display().to_string();
    assert_eq!(text, format!("{place}: no certificate in it"));
    assert!(exchange(&server, &trusting(&before)).await.is_ok());
    after
        .issue(&named(&["localhost"]))
        .write(folder.path(), "server");
    assert!(exchange(&server, &trusting(&after)).await.is_err());
    server.reload().unwrap();
    assert!(exchange(&server, &trusting(&after)).await.is_ok());
    assert!(exchange(&server, &trusting(&before)).await.is_err());
}

#[test]
fn an_error_names_the_file_and_debug_hides_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let authority = Authority::new("a");
    let (one, two) = (
        authority.issue(&named(&["one"])),
        authority.issue(&named(&["two"])),
    );
    one.write(folder.path(), "one");
    two.write(folder.path(), "two");
    fs::write(place("empty"), "").unwrap();
    fs::write(
        place("cut"),
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----BEGIN",
    )
    .unwrap();
    fs::write(
        place("odd"),
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let f = |certificates: &str, key: &str, blamed: &str, expected: &str| {
        let result = Server::new(server(Identity {
            certificates: Pem::File(place(certificates)),
            key: Pem::File(place(key)),
        }));
        let text = result.unwrap_err().to_string();
        let blamed = place(blamed).display().to_string();
        assert!(text.contains(&blamed) && text.contains(expected), "{text}");
    };
    f("absent", "one.key", "absent", "cannot read");
    f("one.pem", "absent", "absent", "cannot read");
    f("empty", "one.key", "empty", "no certificate in it");
    f("one.key", "one.key", "one.key", "no certificate in it");
    f("cut", "one.key", "cut", "missing");
    f("odd", "one.key", "odd", "certificate");
    f("one.pem", "empty", "empty", "no private key in it");
    f("one.pem", "one.pem", "one.pem", "no private key in it");
    f(
        "one.pem",
        "two.key",
        "two.key",
        "is not for the private key",
    );
    let roots = Client::new(&client::Settings {
        roots: Roots::Authorities(Pem::File(place("odd"))),
        ..client::Settings::SYSTEM
    });
    assert!(matches!(roots, Err(Error::Unusable { place: blamed, .. }) if blamed.ends_with("odd")));
    let settings = server(one.identity());
    let shown = format!(
        "{:?} {:?}",
        settings,
        Server::new(settings.clone()).unwrap()
    );
    assert!(
        shown.contains("<secret>") && !shown.contains("PRIVATE"),
        "{shown}"
    );
}

#[tokio::test]
async fn incoming_connections_wait_for_no_silent_client_and_end_with_the_tasks() {
    let authority = Authority::new("a");
    let identity = authority.issue(&named(&["localhost"])).identity();
    let server = Arc::new(Server::new(server(identity)).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new();
    let handshakes = Handshakes {
        at_a_time: 2,
        limit: PATIENCE,
    };
    let mut connections = server.incoming(&tasks, listener, handshakes);
    let silent = TcpStream::connect(address).await.unwrap();
    let client = Client::new(&trusting(&authority)).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let own = stream.local_addr().unwrap();
    let mut asking = client.connect("localhost", stream, PATIENCE).await.unwrap();
    let mut taken = timeout(PATIENCE, connections.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(taken.peer, own);
    taken.stream.write_all(b"word").await.unwrap();
    taken.stream.flush().await.unwrap();
    let mut word = [0; 4];
    asking.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"word");
    tasks.stop();
    assert_eq!(tasks.drain(PATIENCE).await, Drained::Completely);
    assert!(connections.recv().await.is_none());
    drop(silent);
}

#[tokio::test]
async fn a_client_that_says_nothing_runs_into_the_limit() {
    let identity = Issued::by_itself(&named(&["localhost"])).identity();
    let server = Server::new(server(identity)).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (stream, _) = listener.accept().await.unwrap();
    let refused = server.accept(stream, Duration::from_millis(20)).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}
