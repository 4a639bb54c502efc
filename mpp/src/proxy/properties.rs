//! Properties of what reads text from outside: whatever comes, nothing panics, and what must hold does.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, header::CONNECTION};
use proptest::prelude::*;

use super::{
    affinity::Affinity,
    headers::{self, FORWARDED_FOR, Origin},
};
use crate::{backend::Backend, config, endpoint::Endpoint, locate::file};

fn origin() -> Origin {
    Origin {
        client: HeaderValue::from_static("192.0.2.1"),
        scheme: HeaderValue::from_static("http"),
        host: Some(HeaderValue::from_static("mpp:9090")),
        server: HeaderValue::from_static("here"),
    }
}

fn any_value() -> impl Strategy<Value = HeaderValue> {
    proptest::collection::vec(any::<u8>(), 0..40)
        .prop_filter_map("a value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

fn any_name() -> impl Strategy<Value = HeaderName> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,12}".prop_filter_map("a name", |name| name.parse().ok()),
        Just(FORWARDED_FOR),
        Just(CONNECTION),
        Just(HeaderName::from_static("te")),
        Just(HeaderName::from_static("upgrade")),
        Just(HeaderName::from_static("cookie")),
        Just(HeaderName::from_static("content-length")),
    ]
}

fn any_headers() -> impl Strategy<Value = HeaderMap> {
    proptest::collection::vec((any_name(), any_value()), 0..20).prop_map(|pairs| {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    })
}

fn backend(address: &str) -> Arc<Backend> {
    Arc::new(Backend::new(Endpoint::parse(address).unwrap(), 1))
}

proptest! {
    #[test]
    fn any_text_is_an_endpoints_file(text in "\\PC{0,200}|([a-z:/.#@\\[\\]0-9 \\t\\r\\n]{0,200})") {
        let found = file::parse(&text);
        let lines = text.split(['\n', '\r']).count();
        prop_assert!(found.endpoints.len() + found.skipped.len() <= lines);
    }

    #[test]
    fn an_address_that_is_read_reads_the_same_again(text in "(https?://)?[a-z0-9.\\[\\]:@%-]{1,30}(/[a-z]{0,5})?") {
        if let Ok(endpoint) = Endpoint::parse(&text) {
            let again = Endpoint::parse(endpoint.address()).unwrap();
            prop_assert_eq!(again.address(), endpoint.address());
            prop_assert_eq!(again.origin(), endpoint.origin());
            prop_assert!(HeaderValue::from_str(endpoint.origin()).is_ok());
        }
    }

    #[test]
    fn stripped_headers_have_nothing_for_the_next_hop(mut headers in any_headers()) {
        let lengths = headers.get_all("content-length").iter().count();
        let named: Vec<String> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| name != "content-length" && name != "host")
            .collect();
        headers::strip_hop_by_hop(&mut headers);
        for name in ["connection", "te", "upgrade", "keep-alive", "transfer-encoding"] {
            prop_assert!(!headers.contains_key(name));
        }
        for name in named {
            if let Ok(name) = name.parse::<HeaderName>() {
                prop_assert!(!headers.contains_key(name));
            }
        }
        // A client cannot take away what frames the message.
        prop_assert_eq!(headers.get_all("content-length").iter().count(), lengths);
    }

    #[test]
    fn forwarded_for_ends_with_the_client_and_keeps_what_came_before(mut headers in any_headers()) {
        let before: Vec<Vec<u8>> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .map(|value| value.as_bytes().to_vec())
            .collect();
        headers::forward(&mut headers, &origin());
        let values: Vec<&HeaderValue> = headers.get_all(FORWARDED_FOR).iter().collect();
        prop_assert_eq!(values.len(), 1);
        let mut expected = before;
        expected.push(b"192.0.2.1".to_vec());
        prop_assert_eq!(values[0].as_bytes(), expected.join(&b", "[..]));
    }

    #[test]
    fn no_cookie_leads_to_a_server_that_it_does_not_name(value in any_value(), quoted in any::<bool>()) {
        let targets = [backend("http://a:1"), backend("https://b:2/x")];
        let mut headers = HeaderMap::new();
        let mut line = b"x=1; MPP.Route=".to_vec();
        if quoted {
            line.push(b'"');
        }
        line.extend_from_slice(value.as_bytes());
        if quoted {
            line.push(b'"');
        }
        let Ok(line) = HeaderValue::from_bytes(&line) else {
            return Ok(());
        };
        headers.insert("cookie", line);
        let affinity = Affinity::new(&config::Affinity {
            cookies: true,
            source_ip: true,
            shown: String::new(),
            remembered: 4,
        });
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        if let Some((found, _)) = affinity.find(&headers, peer, targets.iter()) {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            prop_assert!(text.contains(found.endpoint.authority()), "{}", text);
        }
    }
}
