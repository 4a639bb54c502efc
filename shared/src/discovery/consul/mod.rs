//! Members from Consul: the passing instances of a service.
//!
//! A thin client of one endpoint, `/v1/health/service/<name>?passing=1`, as veneur-proxy asks it: Consul keeps instances
//! out whose node or service has a check that does not pass. By default it is polled; a long poll waits on the server for
//! the next change (Consul calls it a blocking query).

mod client;
mod health;
mod settings;

use std::time::Duration;

use reqwest::header::HeaderMap;

use self::client::Client;
pub use self::{
    client::SetupError,
    settings::{Address, Login, Settings, SettingsError, Tls, Trust, Verification},
};
use super::{Answer, Error, Lookup, escape};

/// The header with the version of what Consul answers about.
const INDEX: &str = "x-consul-index";

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The service's name.
    pub name: String,
    /// The datacenter; the agent's own if there is none.
    pub datacenter: Option<String>,
}

/// How Consul is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// For what is so now. Goes with [`Schedule::Every`](super::Schedule::Every).
    Polling,
    /// For the next change, which Consul waits for. Goes with [`Schedule::LongPoll`](super::Schedule::LongPoll).
    Blocking {
        /// How long Consul waits before it answers that nothing has changed.
        wait: Duration,
    },
}

/// A service in Consul, as a source of members.
#[derive(Debug)]
pub struct Consul {
    client: Client,
    service: Service,
    asking: Asking,
    /// The version of the last answer; 0 asks for what is so now.
    index: u64,
}

impl Consul {
    /// Prepares to ask about `service`. Reads the files that `settings` name, and connects to nothing yet.
    pub fn new(settings: &Settings, service: Service, asking: Asking) -> Result<Self, SetupError> {
        Ok(Self {
            client: Client::new(settings)?,
            service,
            asking,
            index: 0,
        })
    }

    /// Returns the path with the parameters in alphabetical order, as Consul's own client writes them.
    fn target(&self) -> String {
        let mut target = format!(
            "/v1/health/service/{}?",
            escape(&self.service.name, b"$&+,/:;=@")
        );
        let mut parameter = |name: &str, value: &str| {
            if !target.ends_with('?') {
                target.push('&');
            }
            target.push_str(name);
            target.push('=');
            target.push_str(&escape(value, b""));
        };
        if let Some(datacenter) = &self.service.datacenter {
            parameter("dc", datacenter);
        }
        let wait = self.wait();
        if wait.is_some() {
            parameter("index", &self.index.to_string());
        }
        if let Some(namespace) = self.client.namespace() {
            parameter("ns", namespace);
        }
        parameter("passing", "1");
        if let Some(wait) = wait {
            parameter("wait", &format!("{}ms", wait.as_millis()));
        }
        target
    }

    /// Returns how long Consul is asked to wait, if the next request does ask it to.
    fn wait(&self) -> Option<Duration> {
        match self.asking {
            Asking::Blocking { wait } if self.index > 0 => Some(wait),
            _ => None,
        }
    }
}

impl Lookup for Consul {
    async fn look_up(&mut self) -> Result<Answer, Error> {
        let (headers, body) = self.client.get(&self.target()).await?;
        let found = health::members(&body)?;
        let index = index(&headers);
        self.index = next_index(self.index, index);
        Ok(Answer {
            members: found.members,
            version: index,
            skipped: found.skipped,
        })
    }

    fn forget(&mut self) {
        self.index = 0;
    }

    fn waits(&self) -> Duration {
        // Consul adds up to a sixteenth, so that its clients do not all come back at once.
        self.wait().map_or(Duration::ZERO, |wait| wait + wait / 16)
    }
}

fn index(headers: &HeaderMap) -> Option<u64> {
    headers.get(INDEX)?.to_str().ok()?.parse().ok()
}

/// Returns the index to wait on, by the rules that Consul documents for its clients: an index that went backwards (the
/// state was restored, or is another server's) is forgotten, and 0, which would not wait, is taken as 1.
fn next_index(last: u64, answered: Option<u64>) -> u64 {
    match answered {
        None => 0,
        Some(answered) if answered < last => 0,
        Some(answered) => answered.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consul(name: &str, datacenter: Option<&str>, namespace: Option<&str>) -> Consul {
        let set = |name: &str| {
            (name == "CONSUL_NAMESPACE").then(|| namespace.unwrap_or_default().to_owned())
        };
        let settings = Settings::from_variables("test", set).unwrap();
        let service = Service {
            name: name.to_owned(),
            datacenter: datacenter.map(str::to_owned),
        };
        let wait = Duration::from_secs(300);
        Consul::new(&settings, service, Asking::Blocking { wait }).unwrap()
    }

    #[test]
    fn the_target_is_escaped_like_gos_and_has_sorted_parameters() {
        let f = |consul: Consul, target: &str| assert_eq!(consul.target(), target);
        f(
            consul("veneur-global", None, None),
            "/v1/health/service/veneur-global?passing=1",
        );
        f(
            consul("a b?c/d%", None, None),
            "/v1/health/service/a%20b%3Fc/d%25?passing=1",
        );
        f(
            consul("x", Some("dc 1"), Some("n&m")),
            "/v1/health/service/x?dc=dc%201&ns=n%26m&passing=1",
        );
        let mut waiting = consul("x", Some("dc1"), None);
        waiting.index = 7;
        f(
            waiting,
            "/v1/health/service/x?dc=dc1&index=7&passing=1&wait=300000ms",
        );
    }

    #[test]
    fn an_index_that_goes_backwards_is_forgotten_and_zero_counts_as_one() {
        let f = |last, answered, next| assert_eq!(next_index(last, answered), next);
        f(0, Some(41), 41);
        f(41, Some(41), 41);
        f(41, Some(42), 42);
        f(42, Some(41), 0);
        f(0, Some(0), 1);
        f(1, Some(0), 0);
        f(42, None, 0);
    }

    #[test]
    fn only_a_request_that_names_an_index_may_take_the_waiting_time_longer() {
        let mut consul = consul("x", None, None);
        assert_eq!(consul.waits(), Duration::ZERO);
        consul.index = 1;
        assert_eq!(consul.waits(), Duration::from_millis(318_750));
        consul.forget();
        assert_eq!(consul.waits(), Duration::ZERO);
    }
}
