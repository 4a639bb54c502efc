//! One Kubernetes API server: where it is, what it trusts us by, and the few requests that are made.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use http_body_util::{BodyExt as _, Limited};
use kube::{
    Client, Config,
    client::{AuthError, Body},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::task::spawn_blocking;

use super::{
    super::{Error, with_causes},
    kubeconfig::{self, Fault},
};
use crate::{
    config::secret::Secret,
    tls::{self, Pem},
};

/// Where a pod finds the credentials of its service account.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The largest answer that is read.
const LARGEST_BODY: usize = 256 << 20;

/// How much of an answer that is no object of Kubernetes' is told.
const LARGEST_ERROR: usize = 1024;

/// Why a cluster cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// This is not a pod. The words are those of Kubernetes' Go client.
    #[error(
        "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
    )]
    NotInCluster,
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The certificates of the authority cannot be used.
    #[error(transparent)]
    Authority(#[from] tls::Error),
    /// A kubeconfig file does not say what is needed.
    #[error("{path}: {fault}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The address of the server is none.
    #[error("not the address of an API server: {0:?}")]
    Address(String),
}

/// An API server and how to show up there.
pub struct Cluster {
    config: Config,
    /// Read before each request: tokens are changed on disk before they expire.
    token_file: Option<PathBuf>,
    current: Option<(Option<Secret>, Client)>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("url", &self.config.cluster_url)
            .field("token_file", &self.token_file)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster that this process is a pod of: `get` reads `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`,
    /// `folder` holds `token` and `ca.crt` ([`SERVICE_ACCOUNT`], except in tests).
    pub fn in_cluster(
        get: impl Fn(&str) -> Option<String>,
        folder: &Path,
    ) -> Result<Self, SetupError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let host = get("KUBERNETES_SERVICE_HOST").ok_or(SetupError::NotInCluster)?;
        let port = get("KUBERNETES_SERVICE_PORT").ok_or(SetupError::NotInCluster)?;
        let url = if host.contains(':') {
            format!("https://[{host}]:{port}")
        } else {
            format!("https://{host}:{port}")
        };
        let mut config = Config::new(url.parse().map_err(|_| SetupError::Address(url))?);
        trust(&mut config, folder.join("ca.crt"))?;
        let token_file = folder.join("token");
        read_token(&token_file)?;
        Ok(Self::new(config, Some(token_file)))
    }

    /// The cluster of a kubeconfig file's current context, or of its only one.
    ///
    /// `tokenFile` comes before `token`, files before data; a relative file is looked for in the kubeconfig's folder, then
    /// in the working directory. Plugins (`exec`) are run.
    pub async fn from_kubeconfig(path: &Path) -> Result<Self, SetupError> {
        let fault = |fault| SetupError::Kubeconfig {
            path: path.to_owned(),
            fault,
        };
        let text = fs::read_to_string(path).map_err(|reason| SetupError::File {
            path: path.to_owned(),
            reason,
        })?;
        let read = Kubeconfig::from_yaml(&text);
        let read = read.map_err(|reason| fault(Fault::Unreadable(with_causes(&reason))))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let selected = kubeconfig::select(read, folder).map_err(fault)?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(selected.kubeconfig, &options).await;
        let mut config = config.map_err(|reason| fault(Fault::Unreadable(with_causes(&reason))))?;
        // The library would take it from the environment, which this crate does not read.
        config.proxy_url = match selected.proxy_url {
            None => None,
            Some(url) => Some(url.parse().map_err(|_| SetupError::Address(url))?),
        };
        if let Some(file) = selected.authority {
            trust(&mut config, file)?;
        }
        if let Some(file) = &selected.token_file {
            read_token(file)?;
        }
        Ok(Self::new(config, selected.token_file))
    }

    fn new(mut config: Config, token_file: Option<PathBuf>) -> Self {
        // Discovery asks again by itself.
        config.default_retry = false;
        Self {
            config,
            token_file,
            current: None,
        }
    }

    /// Returns the client, made anew when the token has changed.
    pub(crate) async fn client(&mut self) -> Result<Client, Error> {
        let token = match &self.token_file {
            None => None,
            // One that cannot be read now was there before, and may still be good.
            Some(file) => read_token(file).ok().or_else(|| self.last_token()),
        };
        if let Some((known, client)) = &self.current
            && *known == token
        {
            return Ok(client.clone());
        }
        let mut config = self.config.clone();
        if let Some(token) = &token {
            config.auth_info.token = Some(token.reveal().to_owned().into());
        }
        // A plugin that it may have to run takes its time.
        let made = spawn_blocking(move || Client::try_from(config)).await;
        let made = made.map_err(|ended| Error::Transport(ended.to_string()))?;
        let client = made.map_err(|error| api_error(&error))?;
        self.current = Some((token, client.clone()));
        Ok(client)
    }

    fn last_token(&self) -> Option<Secret> {
        self.current.as_ref().and_then(|(token, _)| token.clone())
    }

    /// Gets the objects of a list.
    pub(super) async fn list<K: DeserializeOwned>(
        &mut self,
        target: &str,
    ) -> Result<Vec<K>, Error> {
        let list: List<K> = self.get(target).await?;
        Ok(list.items.unwrap_or_default())
    }

    /// Gets an object.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, target: &str) -> Result<T, Error> {
        let client = self.client().await?;
        let request = http::Request::get(target).header(http::header::ACCEPT, "application/json");
        let request = request
            .body(Body::empty())
            .map_err(|reason| Error::Transport(reason.to_string()))?;
        let response = client
            .send(request)
            .await
            .map_err(|error| api_error(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LARGEST_BODY).collect().await;
        let body = body.map_err(|reason| Error::Transport(with_causes(&*reason)))?;
        let body = body.to_bytes();
        if !head.status.is_success() {
            return Err(refusal(head.status.as_u16(), &body));
        }
        serde_json::from_slice(&body).map_err(|reason| Error::Decode(reason.to_string()))
    }
}

/// A list of objects, of which Go's servers write an empty one as null.
#[derive(Deserialize)]
struct List<K> {
    items: Option<Vec<K>>,
}

/// Takes what the server says about itself, or the beginning of what somebody before it says.
fn refusal(status: u16, body: &[u8]) -> Error {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let said = serde_json::from_slice(body).map(|Status { message }| message);
    let body = said.unwrap_or_else(|_| {
        let beginning = body.get(..LARGEST_ERROR).unwrap_or(body);
        String::from_utf8_lossy(beginning).into_owned()
    });
    Error::Status { status, body }
}

pub(super) fn api_error(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => Error::Status {
            status: status.code,
            body: status.message.clone(),
        },
        // What the plugin wrote may be a token.
        kube::Error::Auth(AuthError::AuthExecRun { cmd, out }) => {
            let plugin = cmd.rsplit(' ').next().unwrap_or_default();
            Error::Transport(format!(
                "the credential plugin {plugin} failed: {}",
                out.status
            ))
        }
        error => Error::Transport(with_causes(error)),
    }
}

/// Trusts the authorities in `file` alone. The library reads it again once a minute.
fn trust(config: &mut Config, file: PathBuf) -> Result<(), SetupError> {
    let certificates = tls::certificates(&Pem::File(file.clone()))?;
    config.root_cert = Some(certificates.iter().map(|one| one.to_vec()).collect());
    config.root_cert_file = Some(file);
    Ok(())
}

fn read_token(file: &Path) -> Result<Secret, SetupError> {
    let text = fs::read_to_string(file).map_err(|reason| SetupError::File {
        path: file.to_owned(),
        reason,
    })?;
    Ok(Secret::new(text.trim()))
}
