//! TLS towards servers: Prometheus itself, Marathon and its login.

use shared::tls::{
    Error, HTTP_1_1,
    client::{Client, Settings, Verification},
};

/// Makes the settings of connections to servers: their certificates checked against the authorities that the system trusts (or
/// those of `SSL_CERT_FILE`), or taken unseen.
fn settings(insecure: bool) -> Settings {
    Settings {
        verification: if insecure {
            Verification::InsecureSkipVerify
        } else {
            Verification::Full
        },
        ..Settings::SYSTEM
    }
}

/// For HTTP/1.1 that we speak ourselves.
pub(crate) fn for_requests(insecure: bool) -> Result<Client, Error> {
    Client::new(&Settings {
        alpn: vec![HTTP_1_1],
        ..settings(insecure)
    })
}

/// For an HTTP client that chooses its protocol itself.
pub(crate) fn for_client(insecure: bool) -> Result<rustls::ClientConfig, Error> {
    Ok(Client::new(&settings(insecure))?.config().as_ref().clone())
}
