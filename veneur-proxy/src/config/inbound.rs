//! Keys of ours about what is received. A dual file has them flat, a stream file where they belong:
//!
//! | dual | stream | unset means | meaning |
//! |---|---|---|---|
//! | `max_request_bytes` | `http.max_request_bytes` | 67108864 | bytes that the body of an `/import` request may have |
//! | `max_inflated_bytes` | `http.max_inflated_bytes` | 67108864 | bytes that it may inflate to |
//! | – | `http.enable_import` | false | whether `/import` is served |
//! | `grpc_tls_address`, `tls_cert_file`, `tls_key_file`, `tls_ca_file` | the original's | | gRPC over TLS |
//! | `tls_client_auth` | `tls.client_auth` | `none` | `none`, `verify_if_given` or `require`: certificates of clients, signed by `ca_file` |

use std::time::Duration;

use super::{
    ConfigError, Tls,
    document::{count, filled},
};

/// Limits of what is received by HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many bytes the body of a request may have.
    pub request_bytes: usize,
    /// How many bytes it may inflate to.
    pub inflated_bytes: usize,
    /// How long receiving it may take.
    pub request_timeout: Duration,
}

impl Limits {
    /// Returns how much room there is for all bodies that are under way at a time, in bytes: for one of the largest at least.
    pub(crate) fn room(&self) -> usize {
        self.request_bytes.max(LEAST_ROOM)
    }
}

/// How metrics are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbound {
    /// Whether `/import` is served.
    pub serve_import: bool,
    /// Limits of it.
    pub limits: Limits,
}

/// What is wanted of clients' certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    None,
    /// If one is shown, it must be good.
    VerifyIfGiven,
    /// A good one.
    Require,
}

const REQUEST_BYTES: usize = 64 << 20;
const LEAST_ROOM: usize = 64 << 20;
const INFLATED_BYTES: usize = 64 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads the limits.
pub(super) fn read(
    serve_import: bool,
    request_bytes: Option<i64>,
    inflated_bytes: Option<i64>,
) -> Result<Inbound, ConfigError> {
    Ok(Inbound {
        serve_import,
        limits: Limits {
            request_bytes: count("max_request_bytes", request_bytes)?.unwrap_or(REQUEST_BYTES),
            inflated_bytes: count("max_inflated_bytes", inflated_bytes)?.unwrap_or(INFLATED_BYTES),
            request_timeout: REQUEST_TIMEOUT,
        },
    })
}

/// The keys about TLS, word for word.
#[derive(Debug, Default)]
pub(super) struct WrittenTls {
    pub(super) address: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) server_name: Option<String>,
    pub(super) client_auth: Option<String>,
}

/// TLS is served if it has an address; files without an address are allowed, an address without files is not.
pub(super) fn tls(written: WrittenTls) -> Result<Option<Tls>, ConfigError> {
    let client_auth = match filled(written.client_auth).as_deref() {
        None | Some("none") => ClientAuth::None,
        Some("verify_if_given") => ClientAuth::VerifyIfGiven,
        Some("require") => ClientAuth::Require,
        Some(other) => {
            return Err(ConfigError::value(
                "tls.client_auth",
                format_args!("{other:?} is none of none, verify_if_given, require"),
            ));
        }
    };
    let Some(address) = filled(written.address) else {
        return Ok(None);
    };
    let file = |key, file| {
        filled(file).ok_or_else(|| ConfigError::value(key, "must be set with grpc_tls_address"))
    };
    Ok(Some(Tls {
        address,
        ca_file: file("tls.ca_file", written.ca_file)?,
        cert_file: file("tls.cert_file", written.cert_file)?,
        key_file: file("tls.key_file", written.key_file)?,
        server_name: filled(written.server_name),
        client_auth,
    }))
}
