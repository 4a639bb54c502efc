//! The keys of service discovery, per kind.
//!
//! A kind that Prometheus has and this proxy has not is refused: as an unknown key it would be a group without targets, which
//! answers every query with nothing.

use super::{
    go_url,
    http_client::{AUTHENTICATION, FOLLOWING, HEADERS, PROXY, check_client},
    schema::{Default, Field, Kind, Schema, Shown},
};

const SECOND: i64 = 1_000_000_000;

/// All kinds, in the page's order.
pub(crate) const DISCOVERY: &[Field] = &[
    Field::new("consul_sd_configs", Kind::Sections(&CONSUL)),
    Field::new("dns_sd_configs", Kind::Sections(&DNS)),
    Field::new("file_sd_configs", Kind::Sections(&FILE)),
    Field::new("http_sd_configs", Kind::Sections(&HTTP)),
    Field::new("kubernetes_sd_configs", Kind::Sections(&KUBERNETES)),
    Field::new("marathon_sd_configs", Kind::Sections(&MARATHON)),
    Field::new("static_configs", Kind::Sections(&STATIC)),
];

/// Prometheus' other kinds.
const NOT_HERE: [&str; 21] = [
    "azure",
    "digitalocean",
    "docker",
    "dockerswarm",
    "ec2",
    "eureka",
    "gce",
    "hetzner",
    "ionos",
    "kuma",
    "lightsail",
    "linode",
    "nerve",
    "nomad",
    "openstack",
    "ovhcloud",
    "puppetdb",
    "scaleway",
    "serverset",
    "stackit",
    "uyuni",
];

/// Says whether a key names a kind of discovery that Prometheus has and this proxy has not.
pub(crate) fn is_missing_kind(key: &str) -> bool {
    key.strip_suffix("_sd_configs")
        .is_some_and(|kind| NOT_HERE.contains(&kind) || matches!(kind, "triton" | "vultr"))
}

static STATIC: Schema = Schema {
    go_type: "targetgroup.Group",
    fields: &[&[
        Field::new("targets", Kind::List(&Kind::Text)).shown(Shown::Always),
        Field::new("labels", Kind::Labels),
    ]],
    check: |_| Ok(()),
    null: Some("empty or null section in static_configs"),
    is_open: false,
};

static FILE: Schema = Schema {
    go_type: "file.SDConfig",
    fields: &[&[
        Field::new("files", Kind::List(&Kind::Text)).shown(Shown::Always),
        refresh_interval(300),
    ]],
    check: |file| {
        if file.list("files").is_empty() {
            return Err(
                "file service discovery config must contain at least one path name".to_owned(),
            );
        }
        match file.words("files").find(|path| !is_file_pattern(path)) {
            Some(path) => {
                let path = promql::format::quote(path.as_bytes());
                Err(format!("path name {path} is not valid for file discovery"))
            }
            None => Ok(()),
        }
    },
    null: Some("empty or null section in file_sd_configs"),
    is_open: false,
};

/// Whether a path ends as YAML or JSON files do, with at most one `*`, in its last element.
fn is_file_pattern(path: &str) -> bool {
    let Some((stem, extension)) = path.rsplit_once('.') else {
        return false;
    };
    let extensions = ["json", "yml", "yaml", "JSON", "YML", "YAML"];
    let behind_star = stem.split_once('*').map_or("", |(_, behind)| behind);
    extensions.contains(&extension) && !behind_star.contains(['/', '*'])
}

static DNS: Schema = Schema {
    go_type: "dns.SDConfig",
    fields: &[&[
        Field::new("names", Kind::List(&Kind::Text)).shown(Shown::Always),
        refresh_interval(30),
        Field::new("type", Kind::Text)
            .default(Default::Text("SRV"))
            .shown(Shown::Always),
        Field::new("port", Kind::Int).shown(Shown::Always),
    ]],
    check: |dns| {
        if dns.list("names").is_empty() {
            return Err("DNS-SD config must contain at least one SRV record name".to_owned());
        }
        match dns.text("type").to_ascii_uppercase().as_str() {
            "SRV" => Ok(()),
            "A" | "AAAA" | "MX" | "NS" if dns.int("port") != 0 => Ok(()),
            "A" | "AAAA" | "MX" | "NS" => Err(
                "a port is required in DNS-SD configs for all record types except SRV".to_owned(),
            ),
            _ => Err(format!("invalid DNS-SD records type {}", dns.text("type"))),
        }
    },
    null: Some("empty or null section in dns_sd_configs"),
    is_open: false,
};

static HTTP: Schema = Schema {
    go_type: "http.SDConfig",
    fields: &[
        AUTHENTICATION,
        FOLLOWING,
        PROXY,
        HEADERS,
        &[
            refresh_interval(60),
            Field::new("url", Kind::Url).shown(Shown::Always),
        ],
    ],
    check: |http| {
        if !http.has("url") {
            return Err("URL is missing".to_owned());
        }
        let url = go_url::parse(http.text("url"))?;
        if !matches!(url.scheme, "http" | "https") {
            return Err("URL scheme must be 'http' or 'https'".to_owned());
        }
        if url.host.is_empty() {
            return Err("host is missing in URL".to_owned());
        }
        check_client(http)
    },
    null: Some("empty or null section in http_sd_configs"),
    is_open: false,
};

static CONSUL: Schema = Schema {
    go_type: "consul.SDConfig",
    fields: &[
        &[
            Field::new("server", Kind::Text).default(Default::Text("localhost:8500")),
            Field::new("path_prefix", Kind::Text),
            Field::new("token", Kind::Secret),
            Field::new("datacenter", Kind::Text),
            Field::new("namespace", Kind::Text),
            Field::new("partition", Kind::Text),
            Field::new("tag_separator", Kind::Text).default(Default::Text(",")),
            Field::new("scheme", Kind::Text).default(Default::Text("http")),
            Field::new("username", Kind::Text),
            Field::new("password", Kind::Secret),
            Field::new("allow_stale", Kind::Bool)
                .default(Default::Bool(true))
                .shown(Shown::Always),
            refresh_interval(30),
            Field::new("services", Kind::List(&Kind::Text)),
            Field::new("tags", Kind::List(&Kind::Text)),
            Field::new("node_meta", Kind::Map),
            Field::new("filter", Kind::Text),
        ],
        AUTHENTICATION,
        FOLLOWING,
        PROXY,
        HEADERS,
    ],
    check: |consul| {
        if consul.text("server").trim().is_empty() {
            return Err("consul SD configuration requires a server address".to_owned());
        }
        if (consul.has("username") || consul.has("password"))
            && consul.section("basic_auth").is_some()
        {
            return Err("at most one of consul SD configuration username and password and basic auth can be configured".to_owned());
        }
        check_client(consul)
    },
    null: Some("empty or null section in consul_sd_configs"),
    is_open: false,
};

static KUBERNETES: Schema = Schema {
    go_type: "kubernetes.SDConfig",
    fields: &[
        &[
            Field::new("api_server", Kind::Url),
            Field::new("role", Kind::Text).shown(Shown::Always),
            Field::new("kubeconfig_file", Kind::Text),
        ],
        AUTHENTICATION,
        FOLLOWING,
        PROXY,
        HEADERS,
        &[
            Field::new("namespaces", Kind::Section(&NAMESPACES)),
            Field::new("selectors", Kind::Sections(&SELECTOR)),
            Field::new("attach_metadata", Kind::Section(&ATTACH_METADATA)),
        ],
    ],
    check: |kubernetes| {
        const ROLES: &str = "pod, service, endpoints, endpointslice, node, ingress";
        let role = kubernetes.text("role");
        if role.is_empty() {
            return Err(format!("role missing (one of: {ROLES})"));
        }
        if !ROLES.split(", ").any(|known| known == role) {
            let role = promql::format::quote(role.as_bytes());
            return Err(format!("unknown Kubernetes SD role {role}"));
        }
        if kubernetes.has("kubeconfig_file") && kubernetes.has("api_server") {
            return Err("cannot use 'kubeconfig_file' and 'api_server' simultaneously".to_owned());
        }
        if kubernetes
            .section("namespaces")
            .is_some_and(|n| n.flag("own_namespace"))
            && kubernetes.has("api_server")
        {
            return Err(
                "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously".to_owned(),
            );
        }
        check_client(kubernetes)
    },
    null: Some("empty or null section in kubernetes_sd_configs"),
    is_open: false,
};

static NAMESPACES: Schema = Schema {
    go_type: "kubernetes.NamespaceDiscovery",
    fields: &[&[
        Field::new("own_namespace", Kind::Bool).shown(Shown::Always),
        Field::new("names", Kind::List(&Kind::Text)).shown(Shown::Always),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static SELECTOR: Schema = Schema {
    go_type: "kubernetes.SelectorConfig",
    fields: &[&[
        Field::new("role", Kind::Text),
        Field::new("label", Kind::Text),
        Field::new("field", Kind::Text),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static ATTACH_METADATA: Schema = Schema {
    go_type: "kubernetes.AttachMetadataConfig",
    fields: &[&[
        Field::new("node", Kind::Bool).shown(Shown::Always),
        Field::new("namespace", Kind::Bool).shown(Shown::Always),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static MARATHON: Schema = Schema {
    go_type: "marathon.SDConfig",
    fields: &[
        &[
            Field::new("servers", Kind::List(&Kind::Text)),
            refresh_interval(30),
            Field::new("auth_token", Kind::Secret),
            Field::new("auth_token_file", Kind::Text),
        ],
        AUTHENTICATION,
        FOLLOWING,
        PROXY,
        HEADERS,
    ],
    check: |marathon| {
        if marathon.list("servers").is_empty() {
            return Err("marathon_sd: must contain at least one Marathon server".to_owned());
        }
        if marathon.has("auth_token") && marathon.has("auth_token_file") {
            return Err(
                "marathon_sd: at most one of auth_token & auth_token_file must be configured"
                    .to_owned(),
            );
        }
        check_client(marathon)
    },
    null: Some("empty or null section in marathon_sd_configs"),
    is_open: false,
};

const fn refresh_interval(seconds: i64) -> Field {
    Field::new("refresh_interval", Kind::Duration).default(Default::Nanos(seconds * SECOND))
}
