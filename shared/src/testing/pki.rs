//! Certificates made on the spot: an authority, what it issues, and what signs itself.

use std::{fs, path::Path};

pub use rcgen;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

use crate::{
    config::secret::Secret,
    tls::{Identity, Pem},
};

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// Makes an authority with `name`. Two with the same name have different keys.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the authority is sound");
        Self { issuer }
    }

    /// Returns its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate.
    pub fn issue(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer);
        Issued {
            certificate: certificate.expect("the certificate is sound").pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Issued {
    /// Makes a certificate that signs itself.
    pub fn by_itself(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key);
        Self {
            certificate: certificate.expect("the certificate is sound").pem(),
            key: key.serialize_pem(),
        }
    }

    /// Returns it as text, for settings that are not to read files.
    pub fn identity(&self) -> Identity {
        Identity {
            certificates: Pem::Text(Secret::new(&self.certificate)),
            key: Pem::Text(Secret::new(&self.key)),
        }
    }

    /// Writes it to `name.pem` and `name.key` in `folder`, over what was there.
    pub fn write(&self, folder: &Path, name: &str) -> Identity {
        let (certificates, key) = (
            folder.join(format!("{name}.pem")),
            folder.join(format!("{name}.key")),
        );
        fs::write(&certificates, &self.certificate).expect("a certificate can be written");
        fs::write(&key, &self.key).expect("a key can be written");
        Identity {
            certificates: Pem::File(certificates),
            key: Pem::File(key),
        }
    }
}

/// Describes a certificate for `names`, which are host names or addresses, valid now and no authority's.
pub fn named(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().expect("a host name is ASCII")),
        })
        .collect();
    params
}
