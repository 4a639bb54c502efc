//! The signed token of a DC/OS login.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use shared::testing::pki::rcgen::KeyPair;

/// The token is the recorded one, byte for byte but for the key that signs it.
pub(crate) fn check(token: &str, key: &KeyPair) {
    let parts: Vec<&str> = token.split('.').collect();
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    assert_eq!(decoded(parts[0]), br#"{"alg":"RS256","typ":"JWT"}"#);
    assert_eq!(decoded(parts[1]), br#"{"uid": "mpp-svc"}"#);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let message = format!("{}.{}", parts[0], parts[1]);
    let signature = decoded(parts[2]);
    let mut verifiers = provider.signature_verification_algorithms.mapping.iter();
    let (_, verifiers) = verifiers
        .find(|(scheme, _)| *scheme == rustls::SignatureScheme::RSA_PKCS1_SHA256)
        .unwrap();
    let verified = verifiers.iter().any(|verifier| {
        verifier
            .verify_signature(key.public_key_raw(), message.as_bytes(), &signature)
            .is_ok()
    });
    assert!(verified, "the signature is good");
}
