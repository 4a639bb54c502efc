//! TLS towards servers: Prometheus itself, Marathon and its login.

use std::{io, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

#[derive(Debug, Clone)]
pub(crate) struct Tls(Arc<rustls::ClientConfig>);

impl Tls {
    pub(crate) fn new(_insecure: bool) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn config(&self) -> rustls::ClientConfig {
        self.0.as_ref().clone()
    }

    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
        limit: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = rustls::pki_types::ServerName::try_from(host.to_owned())
            .map_err(io::Error::other)?;
        timeout(limit, TlsConnector::from(Arc::clone(&self.0)).connect(name, stream)).await?
    }
}
