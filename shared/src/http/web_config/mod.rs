//! TLS, basic authentication and headers of a listener, by a file in Prometheus' form (`--web.config.file`), as its
//! exporter-toolkit 0.14 takes it. Feature `web-config`.
//!
//! The file and those that it names are looked at for every connection and request, and read again when they have changed:
//! certificates and users rotate without a restart. A change that is broken is logged once, and what was good stays.
//!
//! [`serve_web`] does all of it for a router. An accept loop of one's own asks [`WebConfig::acceptor`] for each connection and
//! [`WebConfig::admit`] for each request.

mod auth;
mod document;
mod settings;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        self, HeaderMap, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{error, warn};

use self::{auth::Users, document::Document};
use super::{Limits, secured, serve};
use crate::{
    lifecycle::Tasks,
    tls::{self, server::Server},
};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// It says something that it must not. The text names the line where it can.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificates that it names cannot be used.
    #[error("{path}: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong; names the certificate's file.
        reason: tls::Error,
    },
}

/// A web configuration file and what it said last.
pub struct WebConfig {
    /// None without a file: plain HTTP, for everybody.
    path: Option<PathBuf>,
    current: RwLock<Arc<Loaded>>,
}

impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What the file says.
struct Loaded {
    /// The files that it comes from, as they were.
    stamps: Vec<Stamp>,
    tls: Option<Arc<ServerConfig>>,
    headers: HeaderMap,
    users: Users,
}

/// One of the files, and what tells that it has changed: its time and size, if it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    file: PathBuf,
    seen: Option<(SystemTime, u64)>,
}

impl Stamp {
    fn take(file: &Path) -> Self {
        let seen = fs::metadata(file).and_then(|it| Ok((it.modified()?, it.len())));
        Self {
            file: file.to_owned(),
            seen: seen.ok(),
        }
    }
}

impl WebConfig {
    /// No file: plain HTTP, for everybody.
    pub fn plain() -> Self {
        Self {
            path: None,
            current: RwLock::new(Arc::new(Loaded {
                stamps: Vec::new(),
                tls: None,
                headers: HeaderMap::new(),
                users: Users::none(),
            })),
        }
    }

    /// Reads and checks the file and those that it names, relative to its folder. An empty file asks for nothing.
    ///
    /// What rustls does not have (old versions, suites and curves that are not safe) is logged as a warning and left out.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let current = RwLock::new(Arc::new(load(&path)?));
        let path = Some(path);
        Ok(Self { path, current })
    }

    /// Returns whether TLS is spoken. That does not change while the process lives.
    pub fn is_secured(&self) -> bool {
        self.last().tls.is_some()
    }

    /// Reads the files again, whether they have changed or not. What is broken changes nothing.
    pub fn reload(&self) -> Result<(), Error> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let loaded = load(path)?;
        if loaded.tls.is_some() != self.is_secured() {
            return Err(Error::Invalid {
                path: path.clone(),
                reason: "TLS is switched on and off by a restart only".to_owned(),
            });
        }
        *self.current.write() = Arc::new(loaded);
        Ok(())
    }

    /// Returns what makes a new connection one over TLS, by the certificates of now. `None`: plain HTTP is spoken.
    pub fn acceptor(&self) -> Option<Acceptor> {
        let first = self.last().tls.clone()?;
        let config = self.now().tls.clone().unwrap_or(first);
        Some(Acceptor(TlsAcceptor::from(config)))
    }

    /// Decides on a request by its headers. A password that was not seen before takes as long as its hash is dear.
    pub async fn admit(&self, request: &HeaderMap) -> Admission {
        let loaded = self.now();
        let granted = loaded.users.admit(request).await;
        Admission { loaded, granted }
    }

    fn last(&self) -> Arc<Loaded> {
        let current = self.current.read();
        Arc::clone(&current)
    }

    /// Returns what the file says now, or said before it was broken.
    fn now(&self) -> Arc<Loaded> {
        let last = self.last();
        let stamps: Vec<_> = last
            .stamps
            .iter()
            .map(|old| Stamp::take(&old.file))
            .collect();
        if stamps == last.stamps {
            return last;
        }
        if let Err(reason) = self.reload() {
            error!(%reason, "the web configuration has changed and cannot be used");
            self.keep(&last, stamps);
        }
        self.last()
    }

    /// Keeps what was said, for files that are as `stamps` tell: so each change is looked at once.
    fn keep(&self, last: &Loaded, stamps: Vec<Stamp>) {
        let kept = Loaded {
            stamps,
            tls: last.tls.clone(),
            headers: last.headers.clone(),
            users: last.users.clone(),
        };
        *self.current.write() = Arc::new(kept);
    }
}

fn load(path: &Path) -> Result<Loaded, Error> {
    // Taken before the files are read: what changes meanwhile is read again.
    let mut stamps = vec![Stamp::take(path)];
    let text = fs::read_to_string(path).map_err(|reason| Error::File {
        path: path.to_owned(),
        reason,
    })?;
    let invalid = |reason| Error::Invalid {
        path: path.to_owned(),
        reason,
    };
    let document = Document::read(&text).map_err(invalid)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let http = document.http_server_config.unwrap_or_default();
    let tls = match document.tls_server_config {
        None => None,
        Some(section) => {
            stamps.extend(section.files(folder).map(|file| Stamp::take(&file)));
            let protocols = settings::protocols(&http);
            let asked = settings::of_server(&section, folder, protocols).map_err(invalid)?;
            for warning in &asked.warnings {
                warn!(file = %path.display(), "{warning}");
            }
            let server = Server::new(asked.settings).map_err(|reason| Error::Tls {
                path: path.to_owned(),
                reason,
            })?;
            Some(server.config())
        }
    };
    if document.is_legacy {
        warn!(
            file = %path.display(),
            "the form of this file is deprecated: its keys belong under tls_server_config"
        );
    }
    Ok(Loaded {
        stamps,
        tls,
        headers: settings::headers(&http).map_err(invalid)?,
        users: Users::new(document.basic_auth_users.unwrap_or_default()).map_err(invalid)?,
    })
}

/// Serves `router` on `listener` as [`serve`] does, as `web` has it: over TLS or not, to those who may, with its headers.
///
/// Everything is guarded, what the router does not know, too. A client that may not is answered before any other layer of
/// the router sees it.
pub fn serve_web(
    tasks: &Tasks,
    listener: TcpListener,
    web: Arc<WebConfig>,
    router: Router,
    limits: Limits,
) {
    let router = router.layer(from_fn_with_state(Arc::clone(&web), guard));
    match web.last().tls.clone() {
        None => serve(tasks, listener, router, limits),
        Some(first) => {
            let config = move || web.now().tls.clone().unwrap_or_else(|| Arc::clone(&first));
            secured::run_secured(tasks, listener, config, router, limits);
        }
    }
}

/// The server's side of handshakes. Which protocol the client has chosen is in the connection.
pub struct Acceptor(TlsAcceptor);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// Shakes hands, within `limit`. A client that speaks plain HTTP hears so in plain HTTP, and is an error.
    pub async fn accept(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        secured::shake_hands(&self.0, stream, limit).await
    }
}

/// The decision on a request.
pub struct Admission {
    loaded: Arc<Loaded>,
    granted: bool,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("granted", &self.granted)
            .finish_non_exhaustive()
    }
}

impl Admission {
    /// Returns whether the request may pass. If not, [`unauthorized`] is the answer.
    pub fn is_granted(&self) -> bool {
        self.granted
    }

    /// Adds the headers of the file to an answer, whether the request may pass or not. What the answer has already, counts.
    pub fn complete(&self, answer: &mut HeaderMap) {
        for (name, value) in &self.loaded.headers {
            answer.entry(name).or_insert_with(|| value.clone());
        }
    }
}

/// The answer to a request that may not pass: 401, as Go's toolkit words it.
pub fn unauthorized() -> http::Response<&'static str> {
    let mut response = http::Response::new("Unauthorized\n");
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let text = HeaderValue::from_static;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, text("text/plain; charset=utf-8"));
    headers.insert(WWW_AUTHENTICATE, text("Basic"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, text("nosniff"));
    response
}

async fn guard(State(web): State<Arc<WebConfig>>, request: Request, next: Next) -> Response {
    let admission = web.admit(request.headers()).await;
    let mut response = if admission.is_granted() {
        next.run(request).await
    } else {
        unauthorized().map(Body::from)
    };
    admission.complete(response.headers_mut());
    response
}
