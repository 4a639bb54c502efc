//! What the words of a file mean to a server.

use std::path::Path;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rustls::{CipherSuite, NamedGroup};

use super::document::{HttpSection, TlsSection};
use crate::{
    config::secret::Secret,
    tls::{
        H2, HTTP_1_1, Identity, Pem, Version, Versions, provider,
        server::{Clients, Settings, Trust},
    },
};

/// The headers that may be set, and the values that they may have; any if there are none.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// Go's names of suites that rustls does not have: of TLS 1.2, without forward secrecy or authenticated encryption.
const UNSAFE_SUITES: [&str; 17] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_FALLBACK_SCSV",
];

/// What a server is to do.
pub(super) struct Asked {
    pub(super) settings: Settings,
    /// What was asked for and is left out.
    pub(super) warnings: Vec<String>,
}

/// Returns the application protocols.
pub(super) fn protocols(http: &HttpSection) -> &'static [&'static [u8]] {
    if http.http2.unwrap_or(true) {
        &[H2, HTTP_1_1]
    } else {
        &[HTTP_1_1]
    }
}

/// Reads what is said about TLS. Files are relative to `folder`.
pub(super) fn of_server(
    section: &TlsSection,
    folder: &Path,
    protocols: &[&'static [u8]],
) -> Result<Asked, String> {
    let mut warnings = Vec::new();
    let one = |text: &Option<String>, file: &Option<String>, name: &str| {
        let found = either(text.as_ref(), file.as_ref(), folder, name)?;
        found.ok_or_else(|| format!("missing one of {name} or {name}_file"))
    };
    let identity = Identity {
        certificates: one(&section.cert, &section.cert_file, "cert")?,
        key: one(&section.key, &section.key_file, "key")?,
    };
    let mut settings = Settings::new(identity, protocols);
    settings.clients = clients(section, folder)?;
    settings.versions = versions(section, &mut warnings)?;
    if let Some(names) = &section.cipher_suites {
        settings.cipher_suites = suites(names, &mut warnings)?;
    }
    if let Some(names) = &section.curve_preferences {
        settings.groups = groups(names, &mut warnings)?;
    }
    Ok(Asked { settings, warnings })
}

fn either(
    text: Option<&String>,
    file: Option<&String>,
    folder: &Path,
    name: &str,
) -> Result<Option<Pem>, String> {
    let given = |value: Option<&String>| value.filter(|value| !value.is_empty()).cloned();
    match (given(text), given(file)) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(Pem::Text(Secret::new(text)))),
        (None, Some(file)) => Ok(Some(Pem::File(folder.join(file)))),
        (Some(_), Some(_)) => Err(format!("both {name} and {name}_file are given")),
    }
}

fn clients(section: &TlsSection, folder: &Path) -> Result<Clients, String> {
    let authorities = either(
        section.client_ca.as_ref(),
        section.client_ca_file.as_ref(),
        folder,
        "client_ca",
    )?;
    let word = section.client_auth_type.as_deref().unwrap_or_default();
    let names = section.client_allowed_sans.clone().unwrap_or_default();
    let verified = |authorities: Option<Pem>| {
        let authorities = authorities
            .ok_or_else(|| format!("client_auth_type {word} needs client_ca or client_ca_file"))?;
        Ok(Trust { authorities, names })
    };
    match word {
        "" | "NoClientCert" if authorities.is_some() => {
            Err("client CA's have been configured without a Client Auth Policy".to_owned())
        }
        "" | "NoClientCert" => Ok(Clients::Ignored),
        "RequestClientCert" => Ok(Clients::Asked),
        "RequireAnyClientCert" | "RequireClientCert" => Ok(Clients::AnyCertificate),
        "VerifyClientCertIfGiven" => verified(authorities).map(Clients::VerifiedIfGiven),
        "RequireAndVerifyClientCert" => verified(authorities).map(Clients::Verified),
        other => Err(format!("Invalid ClientAuth: {other}")),
    }
}

fn versions(section: &TlsSection, warnings: &mut Vec<String>) -> Result<Versions, String> {
    let read = |word: &Option<String>| match word.as_deref() {
        None | Some("") => Ok(None),
        Some("TLS13") => Ok(Some(Some(Version::Tls13))),
        Some("TLS12") => Ok(Some(Some(Version::Tls12))),
        Some("TLS11" | "TLS10") => Ok(Some(None)),
        Some(other) => Err(format!("unknown TLS version: {other}")),
    };
    let least = match read(&section.min_version)? {
        Some(Some(version)) => version,
        Some(None) => {
            warnings.push("min_version is TLS12: there are no older versions here".to_owned());
            Version::Tls12
        }
        None => Version::Tls12,
    };
    let most = match read(&section.max_version)? {
        Some(Some(version)) => version,
        Some(None) => return Err("max_version must be TLS12 or TLS13".to_owned()),
        None => Version::Tls13,
    };
    Ok(Versions { least, most })
}

/// Reads the names of suites. As in Go, they choose among those of TLS 1.2; those of TLS 1.3 are always there.
fn suites(
    names: &[String],
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<CipherSuite>>, String> {
    let (mut chosen, mut modern) = (Vec::new(), Vec::new());
    let all = provider();
    for suite in &all.cipher_suites {
        let name = suite.suite().as_str().unwrap_or_default();
        match name.strip_prefix("TLS13_") {
            Some(_) => modern.push(suite.suite()),
            None if names.iter().any(|wanted| is_suite(name, wanted)) => {
                chosen.push(suite.suite());
            }
            None => {}
        }
    }
    for wanted in names {
        let known = all.cipher_suites.iter().any(|suite| {
            let name = suite.suite().as_str().unwrap_or_default();
            is_suite(name, wanted) || is_suite(&name.replacen("TLS13_", "TLS_", 1), wanted)
        });
        if UNSAFE_SUITES.contains(&wanted.as_str()) {
            warnings.push(format!("cipher suite {wanted} is left out: it is not safe"));
        } else if !known {
            return Err(format!("unknown cipher: {wanted}"));
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    chosen.extend(modern);
    Ok(Some(chosen))
}

/// Go has two names for some suites, one without the hash at the end.
fn is_suite(name: &str, wanted: &str) -> bool {
    name == wanted || name.strip_suffix("_SHA256") == Some(wanted)
}

fn groups(names: &[String], warnings: &mut Vec<String>) -> Result<Option<Vec<NamedGroup>>, String> {
    let mut chosen = Vec::new();
    for name in names {
        match name.as_str() {
            "CurveP256" => chosen.push(NamedGroup::secp256r1),
            "CurveP384" => chosen.push(NamedGroup::secp384r1),
            "X25519" => chosen.push(NamedGroup::X25519),
            "X25519MLKEM768" => chosen.push(NamedGroup::X25519MLKEM768),
            "CurveP521" => warnings.push(format!("curve {name} is left out: it is not there")),
            other => return Err(format!("unknown curve: {other}")),
        }
    }
    Ok((!names.is_empty()).then_some(chosen))
}

/// Reads the headers.
pub(super) fn headers(http: &HttpSection) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in http.headers.iter().flatten() {
        let allowed = HEADERS.iter().find(|(known, _)| known == name);
        let (_, values) =
            allowed.ok_or_else(|| format!("HTTP header {name:?} can not be configured"))?;
        if !values.is_empty() && !values.contains(&value.as_str()) {
            return Err(format!(
                "invalid value for {name}. Expected one of: {values:?}, but got: {value:?}"
            ));
        }
        let wrong = |_| format!("{name}: not the value of a header: {value:?}");
        let value = HeaderValue::from_str(value).map_err(wrong)?;
        let name = name.parse::<HeaderName>();
        headers.insert(name.expect("all that are allowed are names"), value);
    }
    Ok(headers)
}
