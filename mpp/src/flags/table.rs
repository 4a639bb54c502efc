//! The flags: the original's, with all names it ever had, then ours.

/// How a flag is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Takes a text.
    Text,
    /// Takes an integer.
    Integer,
    /// A boolean; takes a value only behind `=`.
    Switch,
    /// Prints the help.
    Help,
    /// Prints the version.
    Version,
}

/// A flag.
#[derive(Debug)]
pub struct Flag {
    /// Its names without dashes; the first is its own.
    pub names: &'static [&'static str],
    /// The variables that set it, the first that is set wins.
    pub environment: &'static [&'static str],
    /// Its text if nothing sets it.
    pub default: Option<&'static str>,
    /// How it is read.
    pub kind: Kind,
    /// What it does, in one line.
    pub help: &'static str,
}

const fn text(
    names: &'static [&'static str],
    environment: &'static [&'static str],
    default: Option<&'static str>,
    help: &'static str,
) -> Flag {
    Flag {
        names,
        environment,
        default,
        kind: Kind::Text,
        help,
    }
}

/// All flags, in the order of the help text.
pub const FLAGS: &[Flag] = &[
    text(
        &["endpoints-file"],
        &["MPP_ENDPOINTS_FILE"],
        None,
        "Path of a file with the URL of one Prometheus server per line",
    ),
    text(
        &["kubeconfig"],
        &["MPP_KUBECONFIG"],
        None,
        "Path of a kubeconfig file; without it the configuration inside a cluster is used",
    ),
    text(
        &["kube-service-name"],
        &["MPP_KUBE_SERVICE_NAME", "MPP_SERVICE_NAME"],
        None,
        "Name of the Kubernetes service whose endpoints are used",
    ),
    text(
        &["kube-pod-label-selector"],
        &["MPP_KUBE_POD_LABEL_SELECTOR"],
        None,
        "Label selector of the Kubernetes pods that are used",
    ),
    text(
        &["kube-namespace"],
        &["MPP_KUBE_NAMESPACE"],
        Some("default"),
        "Kubernetes namespace of the service or the pods",
    ),
    text(
        &["kube-port"],
        &["MPP_KUBE_PORT"],
        None,
        "Name or number of the port of the service or the pods; without it the first",
    ),
    text(
        &["kube-service-account-folder"],
        &["MPP_KUBE_SERVICE_ACCOUNT_FOLDER"],
        Some("/var/run/secrets/kubernetes.io/serviceaccount"),
        "Where a pod finds its token and the authority of its cluster",
    ),
    text(
        &["marathon-url"],
        &["MPP_MARATHON_URL"],
        None,
        "URLs of Marathon, separated by commas",
    ),
    text(
        &["marathon-apps"],
        &["MPP_MARATHON_APPS"],
        None,
        "Ids of the Marathon applications that are Prometheus servers, separated by commas",
    ),
    text(
        &["marathon-principal-secret"],
        &["MPP_MARATHON_PRINCIPAL_SECRET"],
        None,
        "Secret of a DC/OS principal, as JSON",
    ),
    text(
        &["marathon-auth-endpoint"],
        &["MPP_MARATHON_AUTH_ENDPOINT"],
        None,
        "URL of the DC/OS login, over that of the secret",
    ),
    text(
        &["insecure-certs", "k", "insecure"],
        &["MPP_INSECURE_CERTS"],
        None,
        "true: certificates of Marathon, its login and of Prometheus servers are not checked",
    ),
    text(
        &["routing-strategy"],
        &["MPP_ROUTING_STRATEGY"],
        Some("single-most-data"),
        "single-most-data, random, minimum-history:DURATION, most-history, round-robin or least-requests",
    ),
    text(
        &["selection-interval"],
        &["MPP_SELECTION_INTERVAL"],
        Some("10s"),
        "Time between two rounds of selection",
    ),
    text(
        &["affinity-options"],
        &["MPP_AFFINITY_OPTIONS"],
        Some("cookies"),
        "cookies, sourceip, both separated by a comma, or none",
    ),
    Flag {
        names: &["port"],
        environment: &["MPP_PORT"],
        default: Some("9090"),
        kind: Kind::Integer,
        help: "Port to listen on",
    },
    text(
        &["listen-address"],
        &["MPP_LISTEN_ADDRESS"],
        None,
        "Address to listen on; without it all",
    ),
    text(
        &["web-config-file"],
        &["MPP_WEB_CONFIG_FILE"],
        None,
        "Path of a web configuration file as Prometheus has it: TLS, basic auth, headers",
    ),
    text(
        &["request-timeout"],
        &["MPP_REQUEST_TIMEOUT"],
        Some("0"),
        "Longest wait for the first byte of an answer before another server is tried; 0: no limit, but hangs are noticed",
    ),
    text(
        &["connect-timeout"],
        &["MPP_CONNECT_TIMEOUT"],
        Some("5s"),
        "Longest wait for a connection to a server",
    ),
    text(
        &["retry-budget"],
        &["MPP_RETRY_BUDGET"],
        Some("2"),
        "How many times one request may be tried again, each time on another server",
    ),
    text(
        &["eject-after"],
        &["MPP_EJECT_AFTER"],
        Some("3"),
        "Failures in a row after which a server gets no requests until it answers a background probe; 0: never",
    ),
    text(
        &["replay-limit"],
        &["MPP_REPLAY_LIMIT"],
        Some("1048576"),
        "Bytes of a request body that are kept for another try; a longer body is streamed, without one",
    ),
    text(
        &["max-request-bytes"],
        &["MPP_MAX_REQUEST_BYTES"],
        Some("268435456"),
        "Longest request body; 0: no limit",
    ),
    text(
        &["max-connections"],
        &["MPP_MAX_CONNECTIONS"],
        Some("16384"),
        "Client connections at a time; more wait",
    ),
    text(
        &["affinity-cache-size"],
        &["MPP_AFFINITY_CACHE_SIZE"],
        Some("256"),
        "How many client addresses are remembered for sourceip",
    ),
    text(
        &["drain-delay"],
        &["MPP_DRAIN_DELAY"],
        Some("0"),
        "How long after SIGTERM requests are still taken while /mpp/health answers 503",
    ),
    text(
        &["drain-timeout"],
        &["MPP_DRAIN_TIMEOUT"],
        Some("30s"),
        "How long requests under way may take once the listener is closed",
    ),
    Flag {
        names: &["verbose", "V"],
        environment: &["MPP_VERBOSE"],
        default: Some("false"),
        kind: Kind::Switch,
        help: "Log debug lines",
    },
    Flag {
        names: &["help", "h"],
        environment: &[],
        default: None,
        kind: Kind::Help,
        help: "Print this help",
    },
    Flag {
        names: &["version", "v"],
        environment: &[],
        default: None,
        kind: Kind::Version,
        help: "Print the version",
    },
];
