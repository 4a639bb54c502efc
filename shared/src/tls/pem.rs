//! Reading certificates and keys. What else stands in a file is skipped, as Go's reader skips it.

use std::fs;

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};
use tracing::warn;

use super::{Error, Identity, Pem};

/// Returns all certificates of `source`, of which there is at least one.
pub(crate) fn certificates(source: &Pem) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(source)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Error::unusable(source, "no certificate in it")),
        Ok(found) => Ok(found),
        Err(reason) => Err(Error::unusable(source, reason)),
    }
}

/// Returns the first private key of `source`.
pub(super) fn key(source: &Pem) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(source)?).map_err(|reason| match reason {
        pem::Error::NoItemsFound => {
            Error::unusable(source, "no private key in it that is not encrypted")
        }
        reason => Error::unusable(source, reason),
    })
}

/// Returns the certificates of `source` as authorities. One that cannot be an authority is logged and skipped, as long as
/// another can.
pub(super) fn roots(source: &Pem) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let mut refused = None;
    for (index, certificate) in certificates(source)?.into_iter().enumerate() {
        if let Err(reason) = roots.add(certificate) {
            let number = index + 1;
            warn!(%source, number, %reason, "certificate cannot be an authority");
            refused.get_or_insert(reason);
        }
    }
    match refused {
        Some(reason) if roots.is_empty() => Err(Error::unusable(source, reason)),
        _ => Ok(roots),
    }
}

fn read(source: &Pem) -> Result<Vec<u8>, Error> {
    match source {
        Pem::Text(text) => Ok(text.reveal().as_bytes().to_vec()),
        Pem::File(path) => fs::read(path).map_err(|reason| Error::File {
            path: path.clone(),
            reason,
        }),
    }
}

/// Says which files of an identity do not go together.
pub(super) fn mismatch(identity: &Identity, reason: &rustls::Error) -> Error {
    let Identity { certificates, key } = identity;
    match reason {
        rustls::Error::InconsistentKeys(_) => {
            let reason = format_args!("the first certificate is not for the private key of {key}");
            Error::unusable(certificates, reason)
        }
        rustls::Error::InvalidCertificate(_) => Error::unusable(certificates, reason),
        _ => Error::unusable(key, reason),
    }
}
