//! Where Consul is and how to show up there, as Consul's own tools take it from `CONSUL_*` variables.

use std::path::PathBuf;

use crate::config::secret::Secret;

/// Where Consul is when nothing says so.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8500";

/// How to reach Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// How it is trusted, and how it trusts us, with [`Address::Https`].
    pub tls: Tls,
    /// The token of an access list.
    pub token: Option<Secret>,
    /// A file with the token; read once. It wins over `token` unless it is empty.
    pub token_file: Option<PathBuf>,
    /// User and password, for a server in front of Consul.
    pub login: Option<Login>,
    /// The namespace that is asked about.
    pub namespace: Option<String>,
    /// The name that requests give as their sender's.
    pub user_agent: String,
}

/// Where a Consul agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// HTTP: `host:port`, and after it a path before all others, if there is one.
    Http(String),
    /// HTTP over TLS, likewise.
    Https(String),
    /// HTTP over a Unix socket.
    Unix(PathBuf),
}

/// How TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whose certificates are trusted.
    pub trust: Trust,
    /// The client's certificate chain and key, in PEM. One without the other is an error.
    pub certificate: Option<PathBuf>,
    /// See `certificate`.
    pub key: Option<PathBuf>,
    /// The name that Consul's certificate must have, instead of the address's.
    pub server_name: Option<String>,
    /// Whether Consul's certificate is looked at.
    pub verification: Verification,
}

/// Whose certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those of the system's authorities.
    System,
    /// Those of the authorities in a PEM file.
    File(PathBuf),
    /// Those of the authorities in all files of a folder.
    Folder(PathBuf),
}

/// Whether a server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// It is.
    On,
    /// Any certificate will do.
    Off,
}

/// Basic authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Option<Secret>,
}

/// What is wrong with the variables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The address has a scheme that Consul does not speak. Consul's client says it in these words.
    #[error("Unknown protocol scheme: {0}")]
    Scheme(String),
    /// A switch is neither on nor off. (Consul's own client would go on as if it were not there, without TLS.)
    #[error("{name}: not a boolean: {value:?}")]
    Switch {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl Settings {
    /// Takes the settings from `CONSUL_HTTP_ADDR` and its siblings, which `get` reads. An empty variable counts as absent.
    pub fn from_variables(
        user_agent: &str,
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let switch = |name: &'static str| match get(name) {
            None => Ok(None),
            Some(value) => parse_bool(&value)
                .map(Some)
                .ok_or(SettingsError::Switch { name, value }),
        };
        let secured = switch("CONSUL_HTTP_SSL")?.unwrap_or(false);
        let address = get("CONSUL_HTTP_ADDR");
        let address = address.as_deref().unwrap_or(DEFAULT_ADDRESS);
        let trust = match (get("CONSUL_CACERT"), get("CONSUL_CAPATH")) {
            (Some(file), _) => Trust::File(file.into()),
            (None, Some(folder)) => Trust::Folder(folder.into()),
            (None, None) => Trust::System,
        };
        let verification = match switch("CONSUL_HTTP_SSL_VERIFY")? {
            Some(false) => Verification::Off,
            _ => Verification::On,
        };
        Ok(Self {
            address: parse_address(address, secured)?,
            tls: Tls {
                trust,
                certificate: get("CONSUL_CLIENT_CERT").map(PathBuf::from),
                key: get("CONSUL_CLIENT_KEY").map(PathBuf::from),
                server_name: get("CONSUL_TLS_SERVER_NAME"),
                verification,
            },
            token: get("CONSUL_HTTP_TOKEN").map(Secret::new),
            token_file: get("CONSUL_HTTP_TOKEN_FILE").map(PathBuf::from),
            login: get("CONSUL_HTTP_AUTH").map(|text| parse_login(&text)),
            namespace: get("CONSUL_NAMESPACE"),
            user_agent: user_agent.to_owned(),
        })
    }
}

fn parse_address(text: &str, secured: bool) -> Result<Address, SettingsError> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    match scheme {
        // Never back to plain text where TLS was asked for.
        "http" if !secured => Ok(Address::Http(rest.to_owned())),
        "http" | "https" => Ok(Address::Https(rest.to_owned())),
        "unix" => Ok(Address::Unix(rest.into())),
        _ => Err(SettingsError::Scheme(scheme.to_owned())),
    }
}

fn parse_login(text: &str) -> Login {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(Secret::new(password))),
        None => (text, None),
    };
    Login {
        user: user.to_owned(),
        password,
    }
}

/// Reads a boolean as Go's `strconv.ParseBool` does.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_variables("test", |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_is_the_local_agent_without_tls() {
        for variables in [
            &[][..],
            &[("CONSUL_HTTP_ADDR", ""), ("CONSUL_HTTP_TOKEN", "")],
        ] {
            let settings = settings(variables).unwrap();
            assert_eq!(settings.address, Address::Http("127.0.0.1:8500".to_owned()));
            assert_eq!(settings.token, None);
            assert_eq!(settings.tls.trust, Trust::System);
            assert_eq!(settings.tls.verification, Verification::On);
        }
    }

    #[test]
    fn consul_http_addr_and_consul_http_ssl_say_where_and_how() {
        let f = |address: &str, ssl: &str, expected: Result<Address, SettingsError>| {
            let found = settings(&[("CONSUL_HTTP_ADDR", address), ("CONSUL_HTTP_SSL", ssl)]);
            assert_eq!(
                found.map(|settings| settings.address),
                expected,
                "{address} {ssl}"
            );
        };
        let http = |text: &str| Ok(Address::Http(text.to_owned()));
        let https = |text: &str| Ok(Address::Https(text.to_owned()));
        f("consul:8500", "", http("consul:8500"));
        f("http://consul:8500", "false", http("consul:8500"));
        f(
            "https://consul:8501/prefix",
            "",
            https("consul:8501/prefix"),
        );
        f("consul:8501", "true", https("consul:8501"));
        // A scheme does not undo the switch, and the switch does not undo a scheme.
        f("http://consul:8501", "1", https("consul:8501"));
        f("https://consul:8501", "0", https("consul:8501"));
        f(
            "unix:///run/consul.sock",
            "",
            Ok(Address::Unix("/run/consul.sock".into())),
        );
        f(
            "tcp://consul:1",
            "",
            Err(SettingsError::Scheme("tcp".to_owned())),
        );
        let name = "CONSUL_HTTP_SSL";
        let value = "yes".to_owned();
        f(
            "consul:1",
            "yes",
            Err(SettingsError::Switch { name, value }),
        );
    }

    #[test]
    fn every_other_variable_has_its_place() {
        let found = settings(&[
            ("CONSUL_HTTP_TOKEN", "t0ken"),
            ("CONSUL_HTTP_TOKEN_FILE", "/t"),
            ("CONSUL_HTTP_AUTH", "me:pass:word"),
            ("CONSUL_HTTP_SSL_VERIFY", "False"),
            ("CONSUL_CACERT", "/ca"),
            ("CONSUL_CAPATH", "/cas"),
            ("CONSUL_CLIENT_CERT", "/cert"),
            ("CONSUL_CLIENT_KEY", "/key"),
            ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
            ("CONSUL_NAMESPACE", "team"),
        ]);
        let found = found.unwrap();
        assert_eq!(found.token, Some(Secret::new("t0ken")));
        assert_eq!(found.token_file, Some("/t".into()));
        assert_eq!(found.tls.trust, Trust::File("/ca".into()));
        assert_eq!(found.tls.certificate, Some("/cert".into()));
        assert_eq!(found.tls.key, Some("/key".into()));
        assert_eq!(found.tls.server_name.as_deref(), Some("server.dc1.consul"));
        assert_eq!(found.tls.verification, Verification::Off);
        assert_eq!(found.namespace.as_deref(), Some("team"));
        let shown = format!("{found:?}");
        assert!(
            !shown.contains("t0ken") && !shown.contains("pass:word"),
            "{shown}"
        );
        let login = found.login.unwrap();
        assert_eq!(login.user, "me");
        assert_eq!(login.password, Some(Secret::new("pass:word")));
        let folder = settings(&[("CONSUL_CAPATH", "/cas")]).unwrap();
        assert_eq!(folder.tls.trust, Trust::Folder("/cas".into()));
        let nobody = settings(&[("CONSUL_HTTP_AUTH", "me")])
            .unwrap()
            .login
            .unwrap();
        assert_eq!(nobody.password, None);
    }
}
