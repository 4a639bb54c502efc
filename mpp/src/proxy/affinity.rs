//! How clients stick to servers: by a cookie that names the server, or by the client's address.
//!
//! Only asked while more than one server is selected; the cookie comes first. Pinned by `tests/golden/mpp/http/affinity.json`.

use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::{HeaderMap, HeaderValue, Uri, header::COOKIE};
use lru::LruCache;
use parking_lot::Mutex;

use super::headers::FORWARDED_FOR;
use crate::{backend::Backend, config};

/// The cookie's name; case counts.
const NAME: &str = "MPP.Route";

/// The affinities of all clients.
#[derive(Debug)]
pub struct Affinity {
    /// Whether cookies are read and set.
    pub(crate) cookies: bool,
    by_address: Option<Mutex<LruCache<IpAddr, Arc<Backend>>>>,
    /// Requests that a cookie has placed.
    pub cookie_hits: AtomicU64,
    /// Requests that the client's address has placed.
    pub source_ip_hits: AtomicU64,
}

/// How a server was found for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// By the cookie that names the server.
    Cookie,
    /// By the client's address.
    SourceIp,
}

impl Affinity {
    /// Knows no client yet.
    pub fn new(config: &config::Affinity) -> Self {
        let size = NonZeroUsize::new(config.remembered).unwrap_or(NonZeroUsize::MIN);
        Self {
            cookies: config.cookies,
            by_address: config.source_ip.then(|| Mutex::new(LruCache::new(size))),
            cookie_hits: AtomicU64::new(0),
            source_ip_hits: AtomicU64::new(0),
        }
    }

    /// Returns the one of `targets` that the client sticks to.
    pub fn find<'a>(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        targets: impl Iterator<Item = &'a Arc<Backend>> + Clone,
    ) -> Option<(&'a Arc<Backend>, Match)> {
        if self.cookies
            && let Some(target) = by_cookie(headers, &targets)
        {
            self.cookie_hits.fetch_add(1, Relaxed);
            return Some((target, Match::Cookie));
        }
        let by_address = self.by_address.as_ref()?;
        let known = Arc::clone(by_address.lock().get(&source(headers, peer))?);
        // A server that is not among the targets any more has lost its clients.
        let target = targets
            .into_iter()
            .find(|target| Arc::ptr_eq(target, &known))?;
        self.source_ip_hits.fetch_add(1, Relaxed);
        Some((target, Match::SourceIp))
    }

    /// Remembers which server has answered an address.
    pub fn remember(&self, source: Option<IpAddr>, backend: &Arc<Backend>) {
        if let (Some(by_address), Some(source)) = (&self.by_address, source) {
            by_address.lock().put(source, Arc::clone(backend));
        }
    }

    /// Returns the client's address if addresses are remembered.
    pub fn source(&self, headers: &HeaderMap, peer: IpAddr) -> Option<IpAddr> {
        self.by_address.as_ref().map(|_| source(headers, peer))
    }
}

/// Says whether the client has the cookie of this server already.
pub(crate) fn has_cookie(headers: &HeaderMap, backend: &Backend) -> bool {
    values(headers).any(|value| value == backend.endpoint.origin())
}

fn by_cookie<'a>(
    headers: &HeaderMap,
    targets: &(impl Iterator<Item = &'a Arc<Backend>> + Clone),
) -> Option<&'a Arc<Backend>> {
    values(headers).find_map(|value| {
        let uri: Uri = value.parse().ok()?;
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?.as_str());
        let host = authority.rsplit('@').next()?;
        targets.clone().find(|target| {
            let endpoint = &target.endpoint;
            endpoint.authority() == host && (scheme == "https") == endpoint.is_tls()
        })
    })
}

/// The values of all cookies of our name, without quotes.
fn values(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| HeaderValue::to_str(line).ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == NAME)
        .map(|(_, value)| {
            value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .unwrap_or(value)
        })
}

/// The first address of `X-Forwarded-For`, or else the peer's.
fn source(headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let named = headers
        .get(FORWARDED_FOR)
        .and_then(|value| value.to_str().ok())
        .and_then(|list| list.split(',').next())
        .and_then(address);
    named.unwrap_or(peer).to_canonical()
}

/// An address, with or without a port or the brackets of IPv6.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    text.parse()
        .ok()
        .or_else(|| {
            text.parse()
                .ok()
                .map(|socket: std::net::SocketAddr| socket.ip())
        })
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;

    fn targets() -> Vec<Arc<Backend>> {
        [
            "http://127.0.0.1:1",
            "http://127.0.0.1:2/prom/",
            "https://127.0.0.1:2",
        ]
        .iter()
        .map(|text| Arc::new(Backend::new(Endpoint::parse(text).unwrap(), 1)))
        .collect()
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn a_cookie_names_a_server_by_scheme_host_and_port() {
        let targets = targets();
        let f = |cookie: &str, expected: Option<usize>| {
            let found = by_cookie(&headers("cookie", cookie), &targets.iter());
            let place = found.and_then(|found| targets.iter().position(|t| Arc::ptr_eq(t, found)));
            assert_eq!(place, expected, "{cookie}");
        };
        f("MPP.Route=http://127.0.0.1:2", Some(1));
        f("a=b; MPP.Route=\"https://127.0.0.1:2\"; c=d", Some(2));
        f("MPP.Route=HTTP://127.0.0.1:1/", Some(0));
        f(
            "MPP.Route=http://gone:1; MPP.Route=http://127.0.0.1:1",
            Some(0),
        );
        f("mpp.route=http://127.0.0.1:1", None);
        f("MPP.Route=http%3A%2F%2F127.0.0.1%3A1", None);
        f("MPP.Route=", None);
        f("MPP.Route=127.0.0.1:1", None);
    }

    #[test]
    fn a_client_is_known_by_its_first_address() {
        let peer: IpAddr = "192.0.2.7".parse().unwrap();
        let f = |forwarded: &str, expected: &str| {
            let got = source(&headers("x-forwarded-for", forwarded), peer);
            assert_eq!(got.to_string(), expected, "{forwarded}");
        };
        f("10.0.0.1", "10.0.0.1");
        f(" 10.0.0.1 , 10.0.0.2", "10.0.0.1");
        f("::ffff:10.0.0.1", "10.0.0.1");
        f("2001:db8::1", "2001:db8::1");
        f("[2001:db8::1]:80", "2001:db8::1");
        f("10.0.0.1:1234", "10.0.0.1");
        f("unknown", "192.0.2.7");
        f("", "192.0.2.7");
    }

    #[test]
    fn an_address_sticks_only_to_a_target() {
        let affinity = Affinity::new(&config::Affinity {
            cookies: false,
            source_ip: true,
            shown: String::new(),
            remembered: 2,
        });
        let targets = targets();
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let none = HeaderMap::new();
        assert!(affinity.find(&none, peer, targets.iter()).is_none());
        affinity.remember(affinity.source(&none, peer), &targets[1]);
        let found = affinity.find(&none, peer, targets.iter()).unwrap();
        assert!(Arc::ptr_eq(found.0, &targets[1]));
        assert!(affinity.find(&none, peer, targets[..1].iter()).is_none());
        assert_eq!(affinity.source_ip_hits.load(Relaxed), 1);
    }
}
