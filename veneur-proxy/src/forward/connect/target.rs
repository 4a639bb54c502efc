//! Where a ring member is reached.

use super::Security;

/// Where a ring member is reached. The name stays what is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As the header `Host` has it; an IPv6 address in brackets.
    pub(crate) authority: String,
    /// The path before `/import`, as the original makes it by appending text.
    pub(crate) path: String,
    /// If the name has a scheme.
    pub(crate) security: Option<Security>,
}

impl Target {
    /// Reads a member's name: `host:port`, `http://host:port/path`, and also Consul's `fd00::1:8128`, which the original
    /// hashes but cannot dial.
    pub(crate) fn read(name: &str) -> Result<Self, String> {
        let (security, rest) = match name.split_once("://") {
            Some(("http", rest)) => (Some(Security::Plain), rest),
            Some(("https", rest)) => (Some(Security::Tls), rest),
            Some((scheme, _)) => return Err(format!("unsupported protocol scheme {scheme:?}")),
            None => (None, name),
        };
        let (address, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = split_port(address);
        let port = match (port, security) {
            (Some(port), _) => port.parse().map_err(|_| format!("invalid port {port:?}"))?,
            (None, Some(Security::Tls)) => 443,
            (None, _) => 80,
        };
        if host.is_empty() {
            return Err("no host".to_owned());
        }
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            address.to_owned()
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            authority,
            path: path.to_owned(),
            security,
        })
    }
}

fn split_port(address: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = address
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return (host, rest.strip_prefix(':'));
    }
    match address.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ring_members_are_addresses() {
        let f = |name: &str, host: &str, port: u16, authority: &str, path: &str| {
            let target = Target::read(name).unwrap();
            let found = (
                &*target.host,
                target.port,
                &*target.authority,
                &*target.path,
            );
            assert_eq!(found, (host, port, authority, path), "{name}");
        };
        f("10.0.0.1:8127", "10.0.0.1", 8127, "10.0.0.1:8127", "");
        f("http://veneur", "veneur", 80, "veneur", "");
        f("https://v:1/a/", "v", 1, "v:1", "/a/");
        // Consul's form of an IPv6 address, and the proper one.
        f("fd00::1:8128", "fd00::1", 8128, "[fd00::1]:8128", "");
        f("http://[::1]:8128", "::1", 8128, "[::1]:8128", "");
        assert!(Target::read("tcp://x:1").is_err());
        assert!(Target::read("x:port").is_err());
        assert!(Target::read("").is_err());
    }
}
