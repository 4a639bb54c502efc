//! Which path and method is what.
//!
//! The table is Prometheus' with its method tables; unknown paths that are nearly right (a slash more or less, two slashes, dots,
//! another letter case) are sent to the right ones, as the original's router does.

use http::{Method, StatusCode};

use crate::api::Endpoint as Api;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The way to the first page.
    Root,
    /// The old name of the first page.
    Graph,
    /// A page of the user interface.
    Page,
    /// The picture of the user interface.
    Icon,
    /// A path of the user interface that has nothing behind it.
    Absent,
    /// Files for consoles, of which there are none.
    Consoles,
    /// The version.
    Version,
    /// Whether the process lives.
    Healthy,
    /// Whether queries are answered.
    Ready,
    /// Read the configuration again.
    Reload,
    /// End.
    Quit,
    /// A lifecycle path by a method that changes nothing.
    LifecycleRead,
    /// The proxy's own metrics.
    Metrics,
    /// Samples for another Prometheus.
    Federate,
    /// Profiles.
    Debug,
    /// What browsers ask before they ask.
    Preflight,
    /// The API.
    Api(Api),
}

/// A path with its methods.
#[derive(Debug)]
pub struct Route {
    /// The whole pattern: segments, `:name` for any one segment, `*rest` at the end for any number of them.
    pattern: String,
    /// The name in metrics; empty if the route is not counted.
    pub handler: &'static str,
    methods: &'static [&'static str],
    /// What it is.
    pub endpoint: Endpoint,
}

/// What becomes of a path.
#[derive(Debug, PartialEq)]
pub enum Found<'a> {
    /// It is there; with what stands for `:name` or `*rest`.
    Here(&'a Route, Vec<u8>),
    /// It is there under another name.
    Elsewhere(StatusCode, Vec<u8>),
    /// It is there for other methods.
    OtherMethods(String),
    /// It is not there.
    Nowhere,
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern && self.endpoint == other.endpoint
    }
}

const GET: &[&str] = &["GET"];
const GET_POST: &[&str] = &["GET", "POST"];
const GET_HEAD: &[&str] = &["GET", "HEAD"];
const GET_HEAD_POST: &[&str] = &["GET", "HEAD", "POST"];
const POST: &[&str] = &["POST"];
const POST_PUT: &[&str] = &["POST", "PUT"];

type Row = (&'static str, &'static [&'static str], Endpoint);

/// Paths below the prefix.
const PAGES: [Row; 29] = [
    ("/", GET, Endpoint::Root),
    ("/graph", GET, Endpoint::Graph),
    ("/query", GET, Endpoint::Page),
    ("/alerts", GET, Endpoint::Page),
    ("/rules", GET, Endpoint::Page),
    ("/targets", GET, Endpoint::Page),
    ("/config", GET, Endpoint::Page),
    ("/flags", GET, Endpoint::Page),
    ("/status", GET, Endpoint::Page),
    ("/tsdb-status", GET, Endpoint::Page),
    ("/service-discovery", GET, Endpoint::Page),
    ("/alertmanager-discovery", GET, Endpoint::Page),
    ("/favicon.svg", GET, Endpoint::Icon),
    ("/favicon.ico", GET, Endpoint::Absent),
    ("/manifest.json", GET, Endpoint::Absent),
    ("/assets/*filepath", GET, Endpoint::Absent),
    ("/classic/static/*filepath", GET, Endpoint::Absent),
    ("/consoles/*filepath", GET, Endpoint::Consoles),
    ("/version", GET, Endpoint::Version),
    ("/-/healthy", GET_HEAD, Endpoint::Healthy),
    ("/-/ready", GET_HEAD, Endpoint::Ready),
    ("/-/reload", POST_PUT, Endpoint::Reload),
    ("/-/reload", GET, Endpoint::LifecycleRead),
    ("/-/quit", POST_PUT, Endpoint::Quit),
    ("/-/quit", GET, Endpoint::LifecycleRead),
    ("/metrics", GET, Endpoint::Metrics),
    ("/federate", GET, Endpoint::Federate),
    ("/debug/*subpath", GET, Endpoint::Debug),
    ("/debug/*subpath", POST, Endpoint::Debug),
];

/// Paths below the prefix and `/api/v1`.
const API: [Row; 31] = [
    ("/query", GET_POST, Endpoint::Api(Api::Query)),
    ("/query_range", GET_POST, Endpoint::Api(Api::QueryRange)),
    ("/query_exemplars", GET_POST, Endpoint::Api(Api::Exemplars)),
    ("/format_query", GET_POST, Endpoint::Api(Api::FormatQuery)),
    ("/parse_query", GET_POST, Endpoint::Api(Api::ParseQuery)),
    ("/labels", GET_POST, Endpoint::Api(Api::Labels)),
    ("/label/:name/values", GET, Endpoint::Api(Api::LabelValues)),
    ("/series", GET_POST, Endpoint::Api(Api::Series)),
    ("/series", &["DELETE"], Endpoint::Api(Api::DropSeries)),
    ("/metadata", GET_HEAD_POST, Endpoint::Api(Api::Metadata)),
    ("/scrape_pools", GET, Endpoint::Api(Api::ScrapePools)),
    ("/targets", GET, Endpoint::Api(Api::Targets)),
    (
        "/targets/metadata",
        GET,
        Endpoint::Api(Api::TargetsMetadata),
    ),
    ("/alertmanagers", GET, Endpoint::Api(Api::Alertmanagers)),
    ("/alerts", GET, Endpoint::Api(Api::Alerts)),
    ("/rules", GET, Endpoint::Api(Api::Rules)),
    ("/status/config", GET_HEAD_POST, Endpoint::Api(Api::Config)),
    ("/status/runtimeinfo", GET, Endpoint::Api(Api::RuntimeInfo)),
    ("/status/buildinfo", GET, Endpoint::Api(Api::BuildInfo)),
    ("/status/flags", GET, Endpoint::Api(Api::Flags)),
    ("/status/tsdb", GET, Endpoint::Api(Api::Tsdb)),
    ("/status/walreplay", GET, Endpoint::Api(Api::WalReplay)),
    ("/notifications", GET, Endpoint::Api(Api::Notifications)),
    (
        "/notifications/live",
        GET,
        Endpoint::Api(Api::NotificationsLive),
    ),
    ("/read", POST, Endpoint::Api(Api::RemoteRead)),
    ("/write", POST, Endpoint::Api(Api::RemoteWrite)),
    ("/otlp/v1/metrics", POST, Endpoint::Api(Api::Otlp)),
    (
        "/admin/tsdb/delete_series",
        POST_PUT,
        Endpoint::Api(Api::Admin),
    ),
    (
        "/admin/tsdb/clean_tombstones",
        POST_PUT,
        Endpoint::Api(Api::Admin),
    ),
    ("/admin/tsdb/snapshot", POST_PUT, Endpoint::Api(Api::Admin)),
    ("/*path", &["OPTIONS"], Endpoint::Preflight),
];

/// The table for one prefix.
#[derive(Debug)]
pub struct Routes {
    table: Vec<Route>,
    prefix: String,
    metrics: Route,
}

impl Routes {
    /// Makes the table. `prefix` is empty or begins with a slash and does not end with one; `metrics` is a path without the prefix.
    pub fn new(prefix: &str, metrics: &str) -> Self {
        let route = |(path, methods, endpoint): Row, parent: &str| Route {
            pattern: format!("{prefix}{parent}{path}"),
            handler: path,
            methods,
            endpoint,
        };
        let pages = PAGES.into_iter().map(|row| route(row, ""));
        let api = API.into_iter().map(|row| route(row, "/api/v1"));
        let table = pages.chain(api).collect();
        let metrics = Route {
            pattern: metrics.to_owned(),
            handler: "",
            methods: GET,
            endpoint: Endpoint::Metrics,
        };
        Self {
            table,
            prefix: prefix.to_owned(),
            metrics,
        }
    }

    /// Returns the names of all routes that are counted.
    pub fn handlers(&self) -> impl Iterator<Item = &'static str> {
        self.table.iter().map(|route| route.handler)
    }

    /// Finds a path, without its escapes.
    pub fn find(&self, method: &Method, path: &[u8]) -> Found<'_> {
        let all = || self.table.iter().chain([&self.metrics]);
        let of_method = || all().filter(|route| route.methods.contains(&method.as_str()));
        let here = of_method().find_map(|route| Some((route, matches(&route.pattern, path)?)));
        if let Some((route, rest)) = here {
            return Found::Here(route, rest.to_vec());
        }
        let status = if *method == Method::GET {
            StatusCode::MOVED_PERMANENTLY
        } else {
            StatusCode::TEMPORARY_REDIRECT
        };
        if path == b"/" && !self.prefix.is_empty() && *method == Method::GET {
            return Found::Elsewhere(StatusCode::FOUND, self.prefix.clone().into_bytes());
        }
        if *method != Method::CONNECT && path != b"/" {
            let elsewhere = [toggled(path), clean(path), toggled(&clean(path))]
                .into_iter()
                .find_map(|path| of_method().find_map(|route| canonical(&route.pattern, &path)));
            if let Some(path) = elsewhere {
                return Found::Elsewhere(status, path);
            }
        }
        let known = all().filter(|route| route.endpoint != Endpoint::Preflight);
        let known = known.filter(|route| matches(&route.pattern, path).is_some());
        let mut methods: Vec<&str> = known.flat_map(|route| route.methods).copied().collect();
        if methods.is_empty() {
            return Found::Nowhere;
        }
        methods.push("OPTIONS");
        methods.sort_unstable();
        methods.dedup();
        Found::OtherMethods(methods.join(", "))
    }
}

/// Returns what stands for the open part of a pattern, empty if there is none; `None` if the path is another one.
fn matches<'p>(pattern: &str, path: &'p [u8]) -> Option<&'p [u8]> {
    compare(pattern, path, |a, b| a == b)
}

/// Returns the path as the pattern has it, if it differs in letter case only.
fn canonical(pattern: &str, path: &[u8]) -> Option<Vec<u8>> {
    compare(pattern, path, <[u8]>::eq_ignore_ascii_case)?;
    let mut whole = path.to_vec();
    let mut rest = whole.as_mut_slice();
    for segment in pattern.split('/') {
        if segment.starts_with('*') {
            break;
        }
        let end = rest.iter().position(|byte| *byte == b'/');
        let end = end.unwrap_or(rest.len());
        if !segment.starts_with(':') {
            rest[..end].copy_from_slice(segment.as_bytes());
        }
        rest = rest.get_mut(end + 1..).unwrap_or_default();
    }
    Some(whole)
}

/// Compares by segments, and returns what stands for the open part.
fn compare<'p>(
    pattern: &str,
    path: &'p [u8],
    is_equal: impl Fn(&[u8], &[u8]) -> bool,
) -> Option<&'p [u8]> {
    let mut open: &[u8] = b"";
    let mut rest = path.strip_prefix(b"/")?;
    let mut segments = pattern.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.starts_with('*') {
            return Some(rest);
        }
        let end = rest.iter().position(|byte| *byte == b'/');
        let (found, behind) = match end {
            Some(end) => (&rest[..end], Some(&rest[end + 1..])),
            None => (rest, None),
        };
        if segment.starts_with(':') {
            open = found;
        } else if !is_equal(segment.as_bytes(), found) {
            return None;
        }
        match (segments.peek(), behind) {
            (None, None) => return Some(open),
            (Some(_), Some(behind)) => rest = behind,
            _ => return None,
        }
    }
    None
}

/// Returns a path with a slash at its end if it had none, and the other way round.
fn toggled(path: &[u8]) -> Vec<u8> {
    match path.strip_suffix(b"/") {
        Some(path) if !path.is_empty() => path.to_vec(),
        _ => [path, b"/"].concat(),
    }
}

/// Returns a path without empty segments and dots.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut clean: Vec<u8> = segments
        .iter()
        .flat_map(|segment| b"/".iter().chain(segment.iter()))
        .copied()
        .collect();
    if path.ends_with(b"/") || clean.is_empty() {
        clean.push(b'/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_sent_to_the_right_path() {
        let routes = Routes::new("", "/metrics");
        let f = |method: Method, path: &str, expected: &str| {
            let found = match routes.find(&method, path.as_bytes()) {
                Found::Here(route, rest) => {
                    format!("{} {}", route.handler, String::from_utf8_lossy(&rest))
                }
                Found::Elsewhere(status, path) => {
                    format!("{} {}", status.as_u16(), String::from_utf8_lossy(&path))
                }
                Found::OtherMethods(methods) => methods,
                Found::Nowhere => "nowhere".to_owned(),
            };
            assert_eq!(found, expected, "{method} {path}");
        };
        f(Method::GET, "/api/v1/query", "/query ");
        f(Method::GET, "/api/v1/query/", "301 /api/v1/query");
        f(Method::POST, "/api/v1/query/", "307 /api/v1/query");
        f(Method::GET, "//api/v1/query", "301 /api/v1/query");
        f(Method::GET, "/API/v1/query", "301 /api/v1/query");
        f(Method::GET, "/api/v1/../v1/query", "301 /api/v1/query");
        f(
            Method::GET,
            "/api/v1/label/a/values",
            "/label/:name/values a",
        );
        f(Method::GET, "/api/v1/label//values", "/label/:name/values ");
        f(Method::GET, "/federate/", "301 /federate");
        f(Method::PUT, "/api/v1/query", "GET, OPTIONS, POST");
        f(Method::DELETE, "/-/reload", "GET, OPTIONS, POST, PUT");
        f(Method::PUT, "/api/v1/series", "DELETE, GET, OPTIONS, POST");
        f(Method::OPTIONS, "/federate", "GET, OPTIONS");
        f(Method::OPTIONS, "/api/v1/nope", "/*path nope");
        f(Method::GET, "/api/v1/nope", "nowhere");
        f(Method::GET, "/api/v1", "nowhere");
        f(Method::GET, "/", "/ ");
        f(Method::HEAD, "/", "GET, OPTIONS");
    }

    #[test]
    fn a_prefix_stands_before_all_but_the_metrics() {
        let routes = Routes::new("/px", "/metrics");
        let found = |path: &str| match routes.find(&Method::GET, path.as_bytes()) {
            Found::Here(route, _) => format!("{:?}", route.endpoint),
            Found::Elsewhere(status, path) => {
                format!("{} {}", status.as_u16(), String::from_utf8_lossy(&path))
            }
            other => format!("{other:?}"),
        };
        assert_eq!(found("/"), "302 /px");
        assert_eq!(found("/px"), "301 /px/");
        assert_eq!(found("/px/"), "Root");
        assert_eq!(found("/query"), "Nowhere");
        assert_eq!(found("/metrics"), "Metrics");
        assert_eq!(found("/px/metrics"), "Metrics");
    }
}
