//! How certificates of peers are verified. Chains, names and signatures are always rustls' work; what is added here is said
//! at each type.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use tracing::warn;

use super::{certificate::Certificate, client::CommonName, provider};

/// The half of a verifier that never differs: whether a peer has the key of its certificate.
macro_rules! signatures_by_rustls {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &algorithms())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            algorithms().supported_schemes()
        }
    };
}

/// Verifies servers as rustls does, with two additions.
///
/// * A leaf that equals one of `pins`, byte by byte, needs no chain, but still the right name, time and purpose. This is
///   what Go's verifier does with a leaf that is among its roots. rustls alone refuses it when it is an authority's
///   (`CaUsedAsEndEntity`), or when its issuer is not among the roots (`UnknownIssuer`).
/// * The certificate must be for `name`, if there is one, instead of the name that the connection was made for.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) roots: RootCertStore,
    pub(super) pins: Vec<CertificateDer<'static>>,
    pub(super) common_name: CommonName,
    pub(super) name: Option<ServerName<'static>>,
    /// Whether a common name has been accepted, and warned about.
    pub(super) warned: AtomicBool,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let name = self.name.as_ref().unwrap_or(server_name);
        if self.pins.iter().any(|pin| pin == end_entity) {
            let certificate = Certificate::read(end_entity).ok_or(CertificateError::BadEncoding)?;
            fit(&certificate, now)?;
            self.verify_pinned_name(&leaf, &certificate, name)?;
        } else {
            let algorithms = algorithms().all;
            verify_server_cert_signed_by_trust_anchor(
                &leaf,
                &self.roots,
                intermediates,
                now,
                algorithms,
            )?;
            verify_server_name(&leaf, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    signatures_by_rustls!();
}

impl Servers {
    fn verify_pinned_name(
        &self,
        leaf: &ParsedCertificate<'_>,
        certificate: &Certificate,
        name: &ServerName<'_>,
    ) -> Result<(), Error> {
        let counts = self.common_name == CommonName::CountsWhenPinned;
        match &certificate.common_name {
            Some(common) if counts && certificate.alternative_names.is_none() => {
                if !common.eq_ignore_ascii_case(&name.to_str()) {
                    let wrong = CertificateError::NotValidForNameContext {
                        expected: name.to_owned(),
                        presented: vec![format!("CommonName({common:?})")],
                    };
                    return Err(wrong.into());
                }
                if !self.warned.swap(true, Ordering::Relaxed) {
                    warn!(
                        name = common,
                        "the server's certificate has its name only as common name, which is deprecated: \
                         accepted because the certificate itself is trusted"
                    );
                }
                Ok(())
            }
            _ => verify_server_name(leaf, name),
        }
    }
}

/// Checks what a chain would be checked for beside signatures.
fn fit(certificate: &Certificate, now: UnixTime) -> Result<(), CertificateError> {
    let second = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let moment = |second: i64| {
        let since_1970 = u64::try_from(second).unwrap_or(0);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(since_1970))
    };
    if second < certificate.not_before {
        return Err(CertificateError::NotValidYetContext {
            time: now,
            not_before: moment(certificate.not_before),
        });
    }
    if second > certificate.not_after {
        return Err(CertificateError::ExpiredContext {
            time: now,
            not_after: moment(certificate.not_after),
        });
    }
    if !certificate.serves {
        return Err(CertificateError::InvalidPurpose);
    }
    if certificate.puzzling {
        return Err(CertificateError::UnhandledCriticalExtension);
    }
    Ok(())
}

/// Trusts every server: only that it has the key of the certificate that it shows is verified.
#[derive(Debug)]
pub(super) struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures_by_rustls!();
}

/// Asks clients for a certificate, and does not verify its chain.
#[derive(Debug)]
pub(super) struct AnyClient {
    /// Whether one must come.
    pub(super) mandatory: bool,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures_by_rustls!();
}

/// Accepts of the certificates that `inner` accepts only those with one of these alternative names.
#[derive(Debug)]
pub(super) struct NamedClients {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    /// DNS names, mail addresses, URIs and IP addresses, compared as text.
    pub(super) names: Vec<String>,
}

impl ClientCertVerifier for NamedClients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        let certificate = Certificate::read(end_entity).ok_or(CertificateError::BadEncoding)?;
        let names = certificate.alternative_names.unwrap_or_default();
        if names.iter().any(|name| self.names.contains(name)) {
            Ok(verified)
        } else {
            let reason = OtherError(Arc::new(NameNotAllowed));
            Err(CertificateError::Other(reason).into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("none of the certificate's alternative names is allowed")]
struct NameNotAllowed;

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}
