//! What clients and sources take from the environment, read once at the edge of the program.

use shared::{
    config::secret::Secret,
    discovery::{kubernetes::SERVICE_ACCOUNT, targets::kubernetes::ServiceAccount},
    http::client::proxy::Variables,
};

/// The variables that clients and sources look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Proxies, for `proxy_from_environment`.
    pub(super) proxies: Variables,
    pub(super) aws: Aws,
    /// Where a pod finds its cluster; `None` outside of one.
    pub(super) service_account: Option<ServiceAccount>,
}

/// What AWS' own tools put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aws {
    pub(super) region: Option<String>,
    /// The key's name, the key, and the token of a session.
    pub(super) key: Option<(String, Secret, Option<Secret>)>,
}

impl Environment {
    /// Takes the variables that `get` reads.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let key = set("AWS_ACCESS_KEY_ID").zip(set("AWS_SECRET_ACCESS_KEY"));
        let cluster = set("KUBERNETES_SERVICE_HOST").zip(set("KUBERNETES_SERVICE_PORT"));
        Self {
            service_account: cluster.map(|(host, port)| ServiceAccount {
                host,
                port,
                folder: SERVICE_ACCOUNT.into(),
            }),
            aws: Aws {
                region: set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION")),
                key: key.map(|(name, key)| {
                    let token = set("AWS_SESSION_TOKEN").map(Secret::new);
                    (name, Secret::new(key), token)
                }),
            },
            proxies: Variables::read(get),
        }
    }
}
