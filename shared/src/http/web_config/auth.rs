//! Basic authentication against bcrypt hashes.
//!
//! bcrypt is slow on purpose: it runs on a thread for blocking work, one password at a time, and a password that was right
//! is remembered. One of a user that does not exist costs the same as a wrong one.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use parking_lot::Mutex;

use axum::http::{HeaderMap, header::AUTHORIZATION};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bcrypt::HashParts;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::config::secret::Secret;

/// Those who may.
#[derive(Clone)]
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// The dearest of the hashes, for users that do not exist. None if everybody may.
    dearest: Option<String>,
    state: Arc<State>,
}

struct State {
    /// The password of each user that has shown it. It lives as long as the file is as it was.
    verified: Mutex<BTreeMap<String, Secret>>,
    turn: Semaphore,
}

impl Users {
    /// Everybody may.
    pub(super) fn none() -> Self {
        Self {
            hashes: BTreeMap::new(),
            dearest: None,
            state: Arc::new(State {
                verified: Mutex::default(),
                turn: Semaphore::new(1),
            }),
        }
    }

    /// Takes names and hashes. Without any, everybody may.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Self, String> {
        let mut costs = Vec::new();
        for (user, hash) in &hashes {
            let parts: Result<HashParts, _> = hash.parse();
            let parts = parts.map_err(|reason| format!("basic_auth_users: {user}: {reason}"))?;
            costs.push((parts.get_cost(), hash.clone()));
        }
        let dearest = costs.into_iter().max().map(|(_, hash)| hash);
        Ok(Self {
            hashes,
            dearest,
            ..Self::none()
        })
    }

    /// Returns whether a request with these headers may pass.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> bool {
        let Some(dearest) = &self.dearest else {
            return true;
        };
        let Some((user, password)) = credentials(headers) else {
            return false;
        };
        if self.was_verified(&user, &password) {
            return true;
        }
        let known = self.hashes.get(&user);
        let hash = known.unwrap_or(dearest).clone();
        let Ok(_turn) = self.state.turn.acquire().await else {
            return false;
        };
        // Somebody may have been before us with the same.
        if self.was_verified(&user, &password) {
            return true;
        }
        let candidate = password.clone();
        let right = spawn_blocking(move || bcrypt::verify(candidate.reveal(), &hash));
        let right = matches!(right.await, Ok(Ok(true))) && known.is_some();
        if right {
            self.verified().insert(user, password);
        }
        right
    }

    fn was_verified(&self, user: &str, password: &Secret) -> bool {
        let verified = self.verified();
        let right = verified.get(user);
        right.is_some_and(|right| same(right.reveal().as_bytes(), password.reveal().as_bytes()))
    }

    fn verified(&self) -> parking_lot::MutexGuard<'_, BTreeMap<String, Secret>> {
        self.state.verified.lock()
    }
}

/// Reads user and password as Go does: the scheme in any case, the first colon ends the name.
fn credentials(headers: &HeaderMap) -> Option<(String, Secret)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), Secret::new(password)))
}

/// Compares in a time that tells nothing but whether the lengths differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    let difference = pairs.fold(0, |difference, (one, other)| {
        black_box(difference | (one ^ other))
    });
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(all: &[(&str, &str)]) -> Users {
        let hashed = |(user, password): &(&str, &str)| {
            let hash = bcrypt::hash(password, 4).unwrap();
            ((*user).to_owned(), hash)
        };
        Users::new(all.iter().map(hashed).collect()).unwrap()
    }

    async fn admits(users: &Users, header: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        users.admit(&headers).await
    }

    async fn knows(users: &Users, login: &str) -> bool {
        let encoded = STANDARD.encode(login);
        admits(users, &format!("Basic {encoded}")).await
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_user_that_exists_is_admitted() {
        let users = users(&[("alice", "secret"), ("bob", "a:b"), ("empty", "")]);
        for _ in 0..2 {
            assert!(knows(&users, "alice:secret").await);
            assert!(knows(&users, "bob:a:b").await);
            assert!(knows(&users, "empty:").await);
            for wrong in [
                "alice:Secret",
                "alice:",
                "alice",
                "bob:secret",
                "carol:secret",
                ":",
            ] {
                assert!(!knows(&users, wrong).await, "{wrong}");
            }
        }
        assert_eq!(users.verified().len(), 3);
    }

    #[tokio::test]
    async fn the_scheme_may_be_written_in_any_case_and_nonsense_is_refused() {
        let users = users(&[("alice", "secret")]);
        let login = STANDARD.encode("alice:secret");
        assert!(admits(&users, &format!("bAsIc {login}")).await);
        for wrong in ["", "Basic", "Basic ", "Basic ***", "Bearer x", &login] {
            assert!(!admits(&users, wrong).await, "{wrong}");
        }
        assert!(!users.admit(&HeaderMap::new()).await);
        assert!(Users::none().admit(&HeaderMap::new()).await);
    }

    #[test]
    fn what_is_no_hash_names_the_user() {
        for wrong in ["", "secret", "$2b$04$tooshort", "$1$abc"] {
            let all = BTreeMap::from([("alice".to_owned(), wrong.to_owned())]);
            let reason = Users::new(all).err().unwrap();
            assert!(reason.starts_with("basic_auth_users: alice: "), "{reason}");
        }
    }
}
