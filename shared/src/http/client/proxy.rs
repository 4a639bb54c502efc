//! Which proxy a request goes through. The rules for hosts are those of Go's `NO_PROXY`.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use url::Url;

use super::{
    credential::{basic, value},
    error::{ClientError, Kind},
};
use crate::config::secret::Secret;

/// Which proxy is used, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which.
    pub choice: Choice,
    /// Headers of `CONNECT` requests, each with its values.
    pub connect_headers: Vec<(String, Vec<Secret>)>,
}

impl Settings {
    /// No proxy.
    pub const NONE: Self = Self {
        choice: Choice::Direct,
        connect_headers: Vec::new(),
    };
}

/// Which proxy is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// None.
    Direct,
    /// One for all requests.
    Fixed {
        /// Its URL (`http`, `https`, `socks5`, `socks5h`), which may hold a name and a password.
        url: Secret,
        /// The hosts for which it is not used, with commas; when given, loopback addresses are among them.
        no_proxy: Option<String>,
    },
    /// Those that variables of the environment say.
    Variables(Variables),
}

/// The variables of the environment that say which proxy is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variables {
    /// `HTTP_PROXY` or `http_proxy`.
    pub http: Option<Secret>,
    /// `HTTPS_PROXY` or `https_proxy`.
    pub https: Option<Secret>,
    /// `NO_PROXY` or `no_proxy`.
    pub no_proxy: String,
}

impl Variables {
    /// Takes the variables that `get` reads. An empty one counts as absent.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            let get = |name: &str| get(name).filter(|value| !value.is_empty());
            get(name).or_else(|| get(&name.to_ascii_lowercase()))
        };
        // A server's CGI would take the header `Proxy` of any client for the first.
        let is_cgi = get("REQUEST_METHOD").is_some();
        Self {
            http: either("HTTP_PROXY").filter(|_| !is_cgi).map(Secret::new),
            https: either("HTTPS_PROXY").map(Secret::new),
            no_proxy: either("NO_PROXY").unwrap_or_default(),
        }
    }
}

/// A proxy.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    pub(super) language: Language,
    /// A name or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Name and password as a header, for HTTP.
    pub(super) authorization: Option<HeaderValue>,
    /// Name and password, for SOCKS.
    pub(super) credentials: Option<(String, Secret)>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Http,
    Https,
    /// The proxy looks names up. What is sent through it is not changed.
    Socks5,
}

/// The proxies of a client, ready to be asked about.
#[derive(Debug)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// `None`: the proxy is for all hosts, loopback ones too.
    exceptions: Option<Exceptions>,
    pub(super) connect_headers: HeaderMap,
}

impl Proxies {
    pub(super) fn new(settings: &Settings) -> Result<Self, ClientError> {
        let (http, https, exceptions) = match &settings.choice {
            Choice::Direct => (None, None, None),
            Choice::Fixed { url, no_proxy } => {
                let proxy = parse(url)?;
                let exceptions = no_proxy.as_deref().filter(|text| !text.is_empty());
                (
                    Some(proxy.clone()),
                    Some(proxy),
                    exceptions.map(Exceptions::parse),
                )
            }
            Choice::Variables(variables) => (
                variables.http.as_ref().map(parse).transpose()?,
                variables.https.as_ref().map(parse).transpose()?,
                Some(Exceptions::parse(&variables.no_proxy)),
            ),
        };
        let mut connect_headers = HeaderMap::new();
        for (name, values) in &settings.connect_headers {
            let parsed: HeaderName = name.parse().map_err(|_| {
                ClientError::new(
                    Kind::Settings,
                    format!("net/http: invalid header field name {name:?}"),
                )
            })?;
            for secret in values {
                connect_headers.append(parsed.clone(), value(secret.reveal(), name)?);
            }
        }
        Ok(Self {
            http,
            https,
            exceptions,
            connect_headers,
        })
    }

    /// Returns the proxy for `uri`, if it is not to be asked directly.
    pub(super) fn of(&self, uri: &Uri) -> Option<&Proxy> {
        let is_tls = uri.scheme_str() == Some("https");
        let proxy = if is_tls { &self.https } else { &self.http };
        let proxy = proxy.as_ref()?;
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let is_direct = self
            .exceptions
            .as_ref()
            .is_some_and(|exceptions| exceptions.hold(bare(uri.host().unwrap_or_default()), port));
        (!is_direct).then_some(proxy)
    }
}

/// Takes the brackets from an address.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn parse(secret: &Secret) -> Result<Proxy, ClientError> {
    let refused = |reason: &str| {
        // The URL may hold a password.
        ClientError::new(Kind::Settings, format!("invalid proxy URL: {reason}"))
    };
    let text = secret.reveal();
    let url = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("http://{text}"))
    };
    let url = url.map_err(|error| refused(&error.to_string()))?;
    let (language, usual_port) = match url.scheme() {
        "http" => (Language::Http, 80),
        "https" => (Language::Https, 443),
        "socks5" | "socks5h" => (Language::Socks5, 1080),
        other => return Err(refused(&format!("unsupported scheme {other:?}"))),
    };
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| refused("no host in it"))?;
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        (name, password) => Some((unescape(name), unescape(password.unwrap_or_default()))),
    };
    let mut proxy = Proxy {
        language,
        host: bare(host).to_owned(),
        port: url.port().unwrap_or(usual_port),
        authorization: None,
        credentials: None,
    };
    match credentials {
        Some((name, password)) if language == Language::Socks5 => {
            // SOCKS has one byte for their lengths.
            if name.len() > 255 || password.len() > 255 {
                return Err(refused("the name or the password is too long"));
            }
            proxy.credentials = Some((name, Secret::new(password)));
        }
        Some((name, password)) => proxy.authorization = Some(basic(&name, &password)?),
        None => {}
    }
    Ok(proxy)
}

/// Undoes percent-encoding.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        if let (b'%', Some(byte)) = (first, code) {
            bytes.push(byte);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The hosts that are asked directly.
#[derive(Debug, Default)]
struct Exceptions {
    all: bool,
    rules: Vec<(Rule, Option<u16>)>,
}

#[derive(Debug)]
enum Rule {
    Address(IpAddr),
    Network(IpAddr, u32),
    /// A domain with all below it; of `.domain`, only those below.
    Domain {
        name: String,
        itself: bool,
    },
}

impl Exceptions {
    fn parse(text: &str) -> Self {
        let mut exceptions = Self::default();
        for word in text.split(',') {
            let word = word.trim().to_ascii_lowercase();
            if word.is_empty() {
                continue;
            }
            if word == "*" {
                exceptions.all = true;
                continue;
            }
            if let Some((address, bits)) = word.split_once('/')
                && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse())
            {
                exceptions.rules.push((Rule::Network(address, bits), None));
                continue;
            }
            let (host, port) = split_port(&word);
            if let Ok(address) = bare(host).parse() {
                exceptions.rules.push((Rule::Address(address), port));
                continue;
            }
            let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
            let rule = Rule::Domain {
                name: below.unwrap_or(host).to_owned(),
                itself: below.is_none(),
            };
            exceptions.rules.push((rule, port));
        }
        exceptions
    }

    fn hold(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        if self.all || host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.rules.iter().any(|(rule, only)| {
            only.is_none_or(|only| only == port)
                && match rule {
                    Rule::Address(excepted) => address == Some(*excepted),
                    Rule::Network(network, bits) => {
                        address.is_some_and(|address| is_within(address, *network, *bits))
                    }
                    Rule::Domain { name, itself } => {
                        (*itself && host == *name)
                            || host
                                .strip_suffix(name.as_str())
                                .is_some_and(|before| before.ends_with('.'))
                    }
                }
        })
    }
}

fn split_port(word: &str) -> (&str, Option<u16>) {
    match word.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            port.parse().map_or((word, None), |port| (host, Some(port)))
        }
        _ => (word, None),
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let shift = |width: u32| width.checked_sub(bits);
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => shift(32).is_some_and(|shift| {
            (address.to_bits() ^ network.to_bits())
                .checked_shr(shift)
                .unwrap_or(0)
                == 0
        }),
        (IpAddr::V6(address), IpAddr::V6(network)) => shift(128).is_some_and(|shift| {
            (address.to_bits() ^ network.to_bits())
                .checked_shr(shift)
                .unwrap_or(0)
                == 0
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_domains_addresses_networks_and_ports() {
        let f = |no_proxy: &str, url: &str, is_proxied: bool| {
            let choice = Choice::Fixed {
                url: Secret::new("http://proxy:3128"),
                no_proxy: Some(no_proxy.to_owned()),
            };
            let proxies = Proxies::new(&Settings {
                choice,
                connect_headers: Vec::new(),
            });
            let found = proxies.unwrap().of(&url.parse().unwrap()).is_some();
            assert_eq!(found, is_proxied, "{no_proxy} {url}");
        };
        // A domain holds itself and all below it, and no other that ends alike.
        f("a.example", "http://a.example", false);
        f("a.example", "http://x.A.example", false);
        f("a.example", "http://ba.example", true);
        // One with a dot in front only those below.
        f(".a.example", "http://a.example", true);
        f(".a.example", "http://x.a.example", false);
        f("*.a.example", "http://x.a.example", false);
        // Addresses and networks.
        f("192.0.2.1", "http://192.0.2.1:9", false);
        f("192.0.2.1", "http://192.0.2.2:9", true);
        f("192.0.2.0/25", "http://192.0.2.127", false);
        f("192.0.2.0/25", "http://192.0.2.128", true);
        f("0.0.0.0/0", "http://8.8.8.8", false);
        f("2001:db8::/32", "http://[2001:db8::1]:1", false);
        // A port.
        f("h:81", "http://h:81", false);
        f("h:81", "http://h", true);
        f("h:443", "https://h", false);
        f("*", "http://h", false);
        // With a list, loopback is never proxied.
        f("x", "http://127.0.0.1:1", false);
        f("x", "http://localhost", false);
        // An empty list is none.
        f("", "http://127.0.0.1:1", true);
    }

    #[test]
    fn a_proxy_is_named_by_the_scheme_of_what_it_speaks() {
        let f = |url: &str, expected: Result<(Language, &str, u16), &str>| {
            let proxy = parse(&Secret::new(url));
            let proxy = proxy.as_ref().map_err(ToString::to_string);
            let found = proxy.map(|proxy| (proxy.language, proxy.host.as_str(), proxy.port));
            assert_eq!(found, expected.map_err(str::to_owned), "{url}");
        };
        f("p:1", Ok((Language::Http, "p", 1)));
        f("https://p", Ok((Language::Https, "p", 443)));
        f("socks5://p", Ok((Language::Socks5, "p", 1080)));
        f("socks5h://u:s@[::1]:9", Ok((Language::Socks5, "::1", 9)));
        f(
            "socks4://p",
            Err("invalid proxy URL: unsupported scheme \"socks4\""),
        );
        f("socks5://", Err("invalid proxy URL: no host in it"));
        let shown = format!("{:?}", parse(&Secret::new("socks5://u:s3cret@p")));
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn variables_say_a_proxy_for_each_scheme() {
        let get = |name: &str| match name {
            "http_proxy" => Some("plain:1".to_owned()),
            "HTTPS_PROXY" => Some("https://me:p%40ss@secure".to_owned()),
            "NO_PROXY" => Some("b".to_owned()),
            _ => None,
        };
        let choice = Choice::Variables(Variables::read(get));
        assert!(!format!("{choice:?}").contains("ss"), "{choice:?}");
        let proxies = Proxies::new(&Settings {
            choice,
            connect_headers: Vec::new(),
        })
        .unwrap();
        let plain = proxies.of(&"http://a".parse().unwrap()).unwrap();
        assert_eq!(
            (plain.host.as_str(), plain.port, plain.language),
            ("plain", 1, Language::Http)
        );
        let secure = proxies.of(&"https://a".parse().unwrap()).unwrap();
        assert_eq!(
            (secure.host.as_str(), secure.port, secure.language),
            ("secure", 443, Language::Https)
        );
        let header = secure.authorization.as_ref().unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic bWU6cEBzcw==");
        assert!(proxies.of(&"http://b".parse().unwrap()).is_none());
    }
}
