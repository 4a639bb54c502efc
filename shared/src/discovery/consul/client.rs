//! One HTTP client for one Consul agent.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use reqwest::{
    Certificate, ClientBuilder, Identity, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};

use super::{
    super::{Error, with_causes},
    settings::{Address, Login, Settings, Tls, Trust, Verification},
};
use crate::config::secret::Secret;

/// The largest body that is read, after it was unpacked.
const LARGEST_BODY: usize = 64 << 20;

/// How much of an error's body is kept.
const LARGEST_ERROR: usize = 1024;

const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {reason}")]
    Certificate {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A client certificate without a key, or a key without certificate. Consul's client says it in these words.
    #[error("both client cert and client key must be provided")]
    HalfIdentity,
    /// The server name cannot be one.
    #[error("a TLS server name must be a host name: {0:?}")]
    ServerName(String),
    /// The address is none.
    #[error("not an address of Consul: {0:?}")]
    Address(String),
    /// A token or password cannot be sent in a header.
    #[error("the {0} holds characters that no header can")]
    Header(&'static str),
    /// The HTTP client refuses.
    #[error("{0}")]
    Client(String),
}

/// A client of one agent.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    /// Scheme, host and prefix of every URL.
    base: String,
    namespace: Option<String>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, SetupError> {
        let mut headers = headers(settings)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(&settings.user_agent)
            .http1_only()
            .http1_title_case_headers()
            // Which proxies there are is the environment's to say, which this crate does not read.
            .no_proxy()
            // The agent does not redirect this endpoint, and nobody else is to see the token.
            .redirect(Policy::none());
        let base = match &settings.address {
            Address::Http(place) => format!("http://{place}"),
            Address::Https(place) => {
                builder = with_tls(builder, &settings.tls)?;
                match &settings.tls.server_name {
                    Some(name) => {
                        let (resolver, port, prefix) = disguise(place, name)?;
                        builder = builder.dns_resolver(resolver);
                        headers.insert(HOST, authority(place)?);
                        format!("https://{name}{port}{prefix}")
                    }
                    None => format!("https://{place}"),
                }
            }
            Address::Unix(path) => {
                builder = builder.unix_socket(path.clone());
                "http://localhost".to_owned()
            }
        };
        if reqwest::Url::parse(&base).is_err() {
            return Err(SetupError::Address(base));
        }
        let http = builder.default_headers(headers).build();
        Ok(Self {
            http: http.map_err(|reason| SetupError::Client(with_causes(&reason)))?,
            base: base.trim_end_matches('/').to_owned(),
            namespace: settings.namespace.clone(),
        })
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Gets `target` and returns the headers and body of a 200. The caller sets the deadline.
    pub(super) async fn get(&self, target: &str) -> Result<(HeaderMap, Vec<u8>), Error> {
        let request = self.http.get(format!("{}{target}", self.base));
        let response = request.send().await.map_err(|error| transport(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            // The status is the news, also where the body breaks off.
            let body = read(response, LARGEST_ERROR).await.unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            let status = status.as_u16();
            return Err(Error::Status { status, body });
        }
        let headers = response.headers().clone();
        let body = read(response, LARGEST_BODY + 1).await?;
        if body.len() > LARGEST_BODY {
            return Err(Error::Decode(format!("longer than {LARGEST_BODY} bytes")));
        }
        Ok((headers, body))
    }
}

/// Connects to one host, whichever name is asked for.
#[derive(Debug)]
struct Elsewhere {
    host: String,
}

impl Resolve for Elsewhere {
    fn resolve(&self, _name: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            // The port of the URL takes the place of 0.
            let found = tokio::net::lookup_host((host, 0)).await?;
            let found: Addrs = Box::new(found.collect::<Vec<_>>().into_iter());
            Ok(found)
        })
    }
}

/// Splits `place` so that a URL can bear `name`, which TLS asks for and verifies, while connections go to `place`.
fn disguise<'p>(place: &'p str, name: &str) -> Result<(Elsewhere, String, &'p str), SetupError> {
    if name.parse::<IpAddr>().is_ok() || name.contains(['/', ':', '@', '?', '#']) {
        return Err(SetupError::ServerName(name.to_owned()));
    }
    let bad = || SetupError::Address(place.to_owned());
    let url = reqwest::Url::parse(&format!("https://{place}")).map_err(|_| bad())?;
    let host = url.host_str().ok_or_else(bad)?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let port = url.port().map(|port| format!(":{port}"));
    let prefix = place.find('/').and_then(|slash| place.get(slash..));
    Ok((
        Elsewhere { host },
        port.unwrap_or_default(),
        prefix.unwrap_or_default(),
    ))
}

fn authority(place: &str) -> Result<HeaderValue, SetupError> {
    let authority = place.split('/').next().unwrap_or_default();
    HeaderValue::from_str(authority).map_err(|_| SetupError::Address(place.to_owned()))
}

fn headers(settings: &Settings) -> Result<HeaderMap, SetupError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token(settings)? {
        headers.insert(TOKEN, hidden(token.reveal(), "token")?);
    }
    if let Some(login) = &settings.login {
        headers.insert(AUTHORIZATION, hidden(&basic(login), "login")?);
    }
    Ok(headers)
}

fn token(settings: &Settings) -> Result<Option<Secret>, SetupError> {
    if let Some(path) = &settings.token_file {
        let text = String::from_utf8_lossy(&read_file(path)?).trim().to_owned();
        if !text.is_empty() {
            return Ok(Some(Secret::new(text)));
        }
    }
    Ok(settings.token.clone())
}

fn basic(Login { user, password }: &Login) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let password = password.as_ref().map_or("", Secret::reveal);
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn hidden(text: &str, what: &'static str) -> Result<HeaderValue, SetupError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| SetupError::Header(what))?;
    value.set_sensitive(true);
    Ok(value)
}

fn with_tls(mut builder: ClientBuilder, tls: &Tls) -> Result<ClientBuilder, SetupError> {
    match &tls.trust {
        Trust::System => {}
        Trust::File(path) => builder = builder.tls_certs_only(authorities(path)?),
        Trust::Folder(path) => {
            let unreadable = |reason| file_error(path, reason);
            let mut trusted = Vec::new();
            for entry in fs::read_dir(path).map_err(unreadable)? {
                let file = entry.map_err(unreadable)?.path();
                if file.is_file() {
                    trusted.extend(authorities(&file)?);
                }
            }
            builder = builder.tls_certs_only(trusted);
        }
    }
    if tls.verification == Verification::Off {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    match (&tls.certificate, &tls.key) {
        (None, None) => Ok(builder),
        (Some(certificate), Some(key)) => {
            let mut pem = read_file(key)?;
            pem.push(b'\n');
            pem.extend(read_file(certificate)?);
            let identity = Identity::from_pem(&pem);
            let identity = identity.map_err(|reason| certificate_error(certificate, &reason))?;
            Ok(builder.identity(identity))
        }
        _ => Err(SetupError::HalfIdentity),
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let found = Certificate::from_pem_bundle(&read_file(path)?);
    let found = found.map_err(|reason| certificate_error(path, &reason))?;
    if found.is_empty() {
        let path = path.to_owned();
        let reason = "no certificate in it".to_owned();
        return Err(SetupError::Certificate { path, reason });
    }
    Ok(found)
}

fn read_file(path: &Path) -> Result<Vec<u8>, SetupError> {
    fs::read(path).map_err(|reason| file_error(path, reason))
}

fn file_error(path: &Path, reason: io::Error) -> SetupError {
    let path = path.to_owned();
    SetupError::File { path, reason }
}

fn certificate_error(path: &Path, reason: &reqwest::Error) -> SetupError {
    SetupError::Certificate {
        path: path.to_owned(),
        reason: with_causes(reason),
    }
}

/// Reads a body up to `limit` bytes.
async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
        let room = limit - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if body.len() == limit {
            break;
        }
    }
    Ok(body)
}

fn transport(error: &reqwest::Error) -> Error {
    Error::Transport(with_causes(error))
}
