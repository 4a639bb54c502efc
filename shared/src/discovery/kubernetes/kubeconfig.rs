//! Which cluster and user of a kubeconfig file are meant.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedContext};

/// What is wrong with a kubeconfig file. The words are those that mpp's users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not YAML or JSON of the right form.
    #[error("unmarshal kubeconfig: {0}")]
    Unreadable(String),
    /// The current context does not exist.
    #[error("no config named {0:?}")]
    NoContext(String),
    /// There is no current context, but several to choose from.
    #[error("multiple contexts but no current context")]
    ManyContexts,
    /// The context names no cluster.
    #[error("context doesn't have a cluster")]
    ContextWithoutCluster,
    /// The context names no user.
    #[error("context doesn't have a user")]
    ContextWithoutUser,
    /// The context's cluster does not exist.
    #[error("no cluster named {0:?}")]
    NoCluster(String),
    /// The context's user does not exist.
    #[error("no user named {0:?}")]
    NoUser(String),
    /// There is no cluster.
    #[error("no clusters provided")]
    NoClusters,
    /// There is no context, but several clusters to choose from.
    #[error("multiple clusters but no current context")]
    ManyClusters,
    /// There is no user.
    #[error("no users provided")]
    NoUsers,
    /// There is no context, but several users to choose from.
    #[error("multiple users but no current context")]
    ManyUsers,
    /// The cluster has no address.
    #[error("no cluster endpoint provided")]
    NoServer,
}

/// What was meant.
pub(super) struct Selected {
    /// Only that, as the one context of a kubeconfig.
    pub(super) kubeconfig: Kubeconfig,
    /// The file with the token.
    pub(super) token_file: Option<PathBuf>,
    /// The file with the authorities' certificates.
    pub(super) authority: Option<PathBuf>,
    pub(super) proxy_url: Option<String>,
}

/// Finds what `all` means. `folder` is where its relative files are looked for first.
pub(super) fn select(all: Kubeconfig, folder: &Path) -> Result<Selected, Fault> {
    let (cluster, user) = names(&all)?;
    let mut named_cluster = all
        .clusters
        .into_iter()
        .find(|one| one.name == cluster)
        .ok_or(Fault::NoCluster(cluster.clone()))?;
    let mut named_user = all
        .auth_infos
        .into_iter()
        .find(|one| one.name == user)
        .ok_or(Fault::NoUser(user.clone()))?;
    let of_cluster = named_cluster.cluster.get_or_insert_with(Cluster::default);
    if of_cluster.server.as_ref().is_none_or(String::is_empty) {
        return Err(Fault::NoServer);
    }
    let of_user = named_user.auth_info.get_or_insert_with(AuthInfo::default);
    let place = |file: String| locate(folder, &file);
    let given = |file: &mut Option<String>| file.take().filter(|file| !file.is_empty());
    let authority = given(&mut of_cluster.certificate_authority).map(place);
    if authority.is_some() {
        of_cluster.certificate_authority_data = None;
    }
    let token_file = given(&mut of_user.token_file).map(place);
    if token_file.is_some() {
        of_user.token = None;
    }
    if let Some(file) = given(&mut of_user.client_certificate).map(place) {
        of_user.client_certificate = Some(file.display().to_string());
        of_user.client_certificate_data = None;
    }
    if let Some(file) = given(&mut of_user.client_key).map(place) {
        of_user.client_key = Some(file.display().to_string());
        of_user.client_key_data = None;
    }
    let proxy_url = given(&mut of_cluster.proxy_url);
    Ok(Selected {
        kubeconfig: Kubeconfig {
            clusters: vec![named_cluster],
            auth_infos: vec![named_user],
            contexts: vec![NamedContext {
                name: "selected".to_owned(),
                context: Some(Context {
                    cluster,
                    user: Some(user),
                    ..Context::default()
                }),
                other: BTreeMap::new(),
            }],
            current_context: Some("selected".to_owned()),
            ..Kubeconfig::default()
        },
        token_file,
        authority,
        proxy_url,
    })
}

/// Finds the names of cluster and user.
fn names(all: &Kubeconfig) -> Result<(String, String), Fault> {
    let current = all.current_context.as_deref().unwrap_or_default();
    if all.contexts.is_empty() && current.is_empty() {
        let cluster = match &all.clusters[..] {
            [] => return Err(Fault::NoClusters),
            [one] => one.name.clone(),
            _ => return Err(Fault::ManyClusters),
        };
        return match &all.auth_infos[..] {
            [] => Err(Fault::NoUsers),
            [one] => Ok((cluster, one.name.clone())),
            _ => Err(Fault::ManyUsers),
        };
    }
    let context = match &all.contexts[..] {
        [one] if current.is_empty() => one,
        _ if current.is_empty() => return Err(Fault::ManyContexts),
        contexts => contexts
            .iter()
            .find(|one| one.name == current)
            .ok_or_else(|| Fault::NoContext(current.to_owned()))?,
    };
    let context = context.context.clone().unwrap_or_default();
    if context.cluster.is_empty() {
        return Err(Fault::ContextWithoutCluster);
    }
    match context.user {
        Some(user) if !user.is_empty() => Ok((context.cluster, user)),
        _ => Err(Fault::ContextWithoutUser),
    }
}

fn locate(folder: &Path, file: &str) -> PathBuf {
    let beside = folder.join(file);
    if beside.exists() { beside } else { file.into() }
}
