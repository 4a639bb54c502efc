//! What clients and sources take from the environment, read once at the edge of the program.

use shared::{config::secret::Secret, http::client::proxy::Variables};

/// The variables that clients and sources look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Proxies, for `proxy_from_environment`.
    pub(super) proxies: Variables,
    pub(super) aws: Aws,
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
        Self {
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
