//! Headers, edited in place: what a server is told about the client, and what is meant for the next hop only.
//!
//! Pinned by `tests/golden/mpp/http/routing-requests.json` and `routing-responses.json`.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE,
        TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

use crate::backend::Backend;

/// Who has forwarded a request.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_SERVER: HeaderName = HeaderName::from_static("x-forwarded-server");
/// Which server has answered.
const SERVED_BY: HeaderName = HeaderName::from_static("mpp.servedby");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// What the original strips instead of `Trailer`.
const TRAILERS: HeaderName = HeaderName::from_static("trailers");

/// What the next hop alone is to know, but for `Connection` itself.
const HOP_BY_HOP: [HeaderName; 9] = [
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRAILERS,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What servers are told about a client.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address.
    pub client: HeaderValue,
    /// `http` or `https`; `ws` or `wss` for a request to upgrade.
    pub scheme: HeaderValue,
    /// The host that the client asked for.
    pub host: Option<HeaderValue>,
    /// Our own host name.
    pub server: HeaderValue,
}

/// Removes what is meant for the next hop, with all headers that `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // A client must not be able to strip what frames the message or names the host.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Makes the headers of a client those of a server's request, all but `Host`.
pub fn forward(headers: &mut HeaderMap, origin: &Origin) {
    let chain = forwarded_for(headers, &origin.client);
    headers.insert(FORWARDED_FOR, chain);
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, origin.scheme.clone());
    }
    if !headers.contains_key(FORWARDED_HOST)
        && let Some(host) = &origin.host
    {
        headers.insert(FORWARDED_HOST, host.clone());
    }
    headers.insert(FORWARDED_SERVER, origin.server.clone());
}

/// All values of `X-Forwarded-For`, and the client's address behind them.
fn forwarded_for(headers: &HeaderMap, client: &HeaderValue) -> HeaderValue {
    let mut values = headers.get_all(FORWARDED_FOR).iter().peekable();
    if values.peek().is_none() {
        return client.clone();
    }
    let mut chain = Vec::new();
    for value in values {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(client.as_bytes());
    HeaderValue::from_bytes(&chain).expect("values of headers, joined by a comma, are one")
}

/// Says in an answer which server it is from, before what that server may have said itself.
pub fn served_by(headers: &mut HeaderMap, backend: &Backend) {
    let ours = backend.origin_value.clone();
    if !headers.contains_key(SERVED_BY) {
        headers.insert(SERVED_BY, ours);
        return;
    }
    let theirs: Vec<HeaderValue> = headers.get_all(SERVED_BY).iter().cloned().collect();
    headers.insert(SERVED_BY, ours);
    for value in theirs {
        headers.append(SERVED_BY, value);
    }
}

/// Sticks the client to the server.
pub fn set_cookie(headers: &mut HeaderMap, backend: &Backend) {
    headers.append(SET_COOKIE, backend.cookie_value.clone());
}

/// Says whether the client asks to leave HTTP on this connection.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect::<Vec<_>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn origin() -> Origin {
        Origin {
            client: HeaderValue::from_static("127.0.0.1"),
            scheme: HeaderValue::from_static("http"),
            host: Some(HeaderValue::from_static("mpp.example:9090")),
            server: HeaderValue::from_static("here"),
        }
    }

    #[test]
    fn forwarded_for_is_one_header_with_the_client_at_its_end() {
        let f = |lines: &[(&'static str, &'static str)], expected: &str| {
            let mut headers = map(lines);
            forward(&mut headers, &origin());
            let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
            assert_eq!(values, [expected]);
        };
        f(&[], "127.0.0.1");
        f(&[("x-forwarded-for", "10.1.2.3")], "10.1.2.3, 127.0.0.1");
        f(
            &[("x-forwarded-for", "a, b"), ("x-forwarded-for", "c")],
            "a, b, c, 127.0.0.1",
        );
    }

    #[test]
    fn what_a_proxy_before_us_said_stays_but_for_the_server() {
        let mut headers = map(&[
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "public.example"),
            ("x-forwarded-server", "edge"),
        ]);
        forward(&mut headers, &origin());
        assert_eq!(headers[FORWARDED_PROTO], "https");
        assert_eq!(headers[FORWARDED_HOST], "public.example");
        assert_eq!(headers[FORWARDED_SERVER], "here");
        let mut headers = HeaderMap::new();
        forward(&mut headers, &origin());
        assert_eq!(headers[FORWARDED_HOST], "mpp.example:9090");
    }

    #[test]
    fn hop_by_hop_headers_and_those_that_connection_names_are_stripped() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Hop, Host, content-length"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("host", "h"),
            ("content-length", "1"),
            ("x-stays", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "host", "x-stays"]);
    }
}
