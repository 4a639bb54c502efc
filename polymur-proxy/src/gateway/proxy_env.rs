//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` (and in lower case), read as Go reads them. The original honours them only
//! without `-cert`.

use std::net::IpAddr;

use super::url::Target;

/// The proxies that the environment names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Target>,
    https: Option<Target>,
    exceptions: Vec<String>,
}

impl Proxies {
    /// Reads the environment through `variable`. An address that is none is left out, and named in the answer.
    pub(crate) fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> (Self, Vec<String>) {
        let mut ignored = Vec::new();
        let either = |name: &str| {
            let set = |name: &str| variable(name).filter(|value| !value.is_empty());
            set(name).or_else(|| set(&name.to_lowercase()))
        };
        let mut address = |name: &str| {
            let text = either(name)?;
            let with_scheme = if text.contains("://") {
                text
            } else {
                format!("http://{text}")
            };
            match Target::parse(&with_scheme, "") {
                Ok(target) if !target.https => Some(target),
                _ => {
                    ignored.push(format!(
                        "{name} is not the address of an HTTP proxy and is ignored"
                    ));
                    None
                }
            }
        };
        let (http, https) = (address("HTTP_PROXY"), address("HTTPS_PROXY"));
        let exceptions = either("NO_PROXY").unwrap_or_default();
        let exceptions = exceptions.split(',').map(|word| word.trim().to_lowercase());
        let proxies = Self {
            http,
            https,
            exceptions: exceptions.filter(|word| !word.is_empty()).collect(),
        };
        (proxies, ignored)
    }

    /// Returns the proxy on the way to `gateway`.
    pub(crate) fn on_the_way_to(&self, gateway: &Target) -> Option<&Target> {
        let proxy = if gateway.https {
            self.https.as_ref()
        } else {
            self.http.as_ref()
        };
        proxy.filter(|_| !self.is_direct(gateway))
    }

    fn is_direct(&self, gateway: &Target) -> bool {
        let host = gateway.host.to_lowercase();
        let ip: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
            return true;
        }
        self.exceptions.iter().any(|exception| {
            let (name, port) = match exception.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') => (name, port.parse::<u16>().ok()),
                _ => (exception.as_str(), None),
            };
            let fits = match (name.split_once('/'), ip) {
                _ if name == "*" => true,
                (Some((network, bits)), Some(ip)) => in_network(ip, network, bits),
                (None, Some(ip)) => name.parse() == Ok(ip),
                (_, None) => is_domain_of(name, &host),
            };
            fits && port.is_none_or(|port| port == gateway.port)
        })
    }
}

/// `a.b` means itself and all below it; `.a.b` and `*.a.b` only what is below it.
fn is_domain_of(exception: &str, host: &str) -> bool {
    let exception = exception.strip_prefix('*').unwrap_or(exception);
    match exception.strip_prefix('.') {
        Some(_) => host.ends_with(exception),
        None => {
            host == exception
                || host
                    .strip_suffix(exception)
                    .is_some_and(|head| head.ends_with('.'))
        }
    }
}

fn in_network(ip: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let (ip, network, width) = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => (
            u128::from(u32::from(ip)),
            u128::from(u32::from(network)),
            32,
        ),
        (IpAddr::V6(ip), IpAddr::V6(network)) => (u128::from(ip), u128::from(network), 128),
        _ => return false,
    };
    let shift = width - bits.min(width);
    ip.checked_shr(shift).unwrap_or(0) == network.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_those_of_go() {
        let f = |no_proxy: &str, gateway: &str, direct: bool| {
            let (proxies, _) = Proxies::from_environment(|name| match name {
                "HTTP_PROXY" => Some("proxy:3128".to_owned()),
                "https_proxy" => Some("http://u:p@proxy:3129".to_owned()),
                "NO_PROXY" => Some(no_proxy.to_owned()),
                _ => None,
            });
            let target = Target::parse(gateway, "").unwrap();
            let way = proxies.on_the_way_to(&target);
            assert_eq!(way.is_none(), direct, "{no_proxy} {gateway}");
        };
        f("", "http://gw.example", false);
        f("", "https://gw.example", false);
        f("", "https://localhost:1", true);
        f("", "http://127.0.0.9:1", true);
        f("*", "http://gw.example", true);
        f("example", "http://gw.example", true);
        f(".example", "http://gw.example", true);
        f(".gw.example", "http://gw.example", false);
        f("w.example", "http://gw.example", false);
        f("gw.example:81", "http://gw.example", false);
        f("gw.example:80", "http://gw.example", true);
        f("10.0.0.0/8", "http://10.1.2.3", true);
        f("10.0.0.0/8", "http://11.1.2.3", false);
        f("fd00::/8", "https://[fd00::1]", true);
    }
}
