//! The top of the file and the sections that come from Prometheus.
//!
//! What has no effect here is read all the same: the original refuses wrong values there, and its configuration page shows it.

use promql::SignedDuration;

use super::{
    discovery::DISCOVERY,
    http_client::{
        AUTHENTICATION, FOLLOWING, FOLLOWING_HTTP1, HEADERS, PROXY, SIGV4, check_client,
        check_tls_version,
    },
    relabel::RELABEL,
    schema::{Default, Field, Item, Kind, Schema, Section, Shown},
    server_group::PROMXY,
};

const SECOND: i64 = 1_000_000_000;
const MILLI: i64 = 1_000_000;

/// Top-level sections that are read and have no effect.
pub(super) const WITHOUT_EFFECT: [&str; 8] = [
    "scrape_config_files",
    "scrape_configs",
    "storage",
    "tracing",
    "remote_read",
    "otlp",
    "runtime",
    "tls_server_config",
];

/// The whole file.
pub(super) static FILE: Schema = Schema {
    go_type: "proxyconfig.Config",
    fields: &[&[
        Field::new("global", Kind::Section(&GLOBAL)).shown(Shown::Always),
        Field::new("runtime", Kind::Section(&RUNTIME)),
        Field::new("alerting", Kind::Section(&ALERTING)),
        Field::new("rule_files", Kind::List(&Kind::Text)),
        Field::new("scrape_config_files", Kind::List(&Kind::Text)),
        Field::new("scrape_configs", Kind::Sections(&SCRAPE)),
        Field::new("storage", Kind::Optional(&ANYTHING)),
        Field::new("tracing", Kind::Optional(&ANYTHING)),
        Field::new("remote_write", Kind::Sections(&REMOTE_WRITE)),
        Field::new("remote_read", Kind::Sections(&REMOTE_READ)),
        Field::new("otlp", Kind::Section(&OTLP)),
        Field::new("promxy", Kind::Section(&PROMXY)).shown(Shown::Always),
        Field::new("tls_server_config", Kind::Section(&LISTENER)).shown(Shown::Always),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static GLOBAL: Schema = Schema {
    go_type: "config.plain",
    fields: &[&[
        Field::new("scrape_interval", Kind::Duration).default(Default::Nanos(60 * SECOND)),
        // What stands for "left out"; see `fill_global`.
        Field::new("scrape_timeout", Kind::Duration),
        Field::new("scrape_protocols", Kind::List(&Kind::Text)).default(Default::Words(&[
            "OpenMetricsText1.0.0",
            "OpenMetricsText0.0.1",
            "PrometheusText1.0.0",
            "PrometheusText0.0.4",
        ])),
        Field::new("evaluation_interval", Kind::Duration).default(Default::Nanos(60 * SECOND)),
        Field::new("rule_query_offset", Kind::Duration),
        Field::new("query_log_file", Kind::Text),
        Field::new("scrape_failure_log_file", Kind::Text),
        Field::new("external_labels", Kind::Labels),
        Field::new("body_size_limit", Kind::Text),
        Field::new("sample_limit", Kind::Int),
        Field::new("target_limit", Kind::Int),
        Field::new("label_limit", Kind::Int),
        Field::new("label_name_length_limit", Kind::Int),
        Field::new("label_value_length_limit", Kind::Int),
        Field::new("keep_dropped_targets", Kind::Int),
        Field::new("metric_name_validation_scheme", Kind::Text),
        Field::new("metric_name_escaping_scheme", Kind::Text),
        Field::new("convert_classic_histograms_to_nhcb", Kind::Bool),
        Field::new("always_scrape_classic_histograms", Kind::Bool),
    ]],
    check: |global| {
        let (interval, timeout) = (
            global.nanos("scrape_interval"),
            global.nanos("scrape_timeout"),
        );
        if interval != 0 && timeout > interval {
            return Err("global scrape timeout greater than scrape interval".to_owned());
        }
        Ok(())
    },
    null: None,
    is_open: false,
};

/// Fills what is zero in `global` with the defaults, of which that of the timeout depends on the interval.
pub(super) fn fill_global(global: &mut Section) {
    let or = |nanos: i64, default: i64| if nanos == 0 { default } else { nanos };
    let interval = or(global.nanos("scrape_interval"), 60 * SECOND);
    let filled = [
        ("scrape_interval", interval),
        (
            "scrape_timeout",
            or(global.nanos("scrape_timeout"), interval.min(10 * SECOND)),
        ),
        (
            "evaluation_interval",
            or(global.nanos("evaluation_interval"), 60 * SECOND),
        ),
    ];
    for (key, nanos) in filled {
        global.set(key, Item::Duration(SignedDuration::from_nanos(nanos)));
    }
}

static RUNTIME: Schema = Schema {
    go_type: "config.RuntimeConfig",
    fields: &[&[Field::new("gogc", Kind::Int).default(Default::Int(75))]],
    check: |_| Ok(()),
    null: None,
    is_open: true,
};

static OTLP: Schema = Schema {
    go_type: "config.OTLPConfig",
    fields: &[&[
        Field::new("promote_resource_attributes", Kind::List(&Kind::Text)),
        Field::new("translation_strategy", Kind::Text)
            .default(Default::Text("UnderscoreEscapingWithSuffixes")),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: true,
};

static ANYTHING: Schema = Schema {
    go_type: "a section",
    fields: &[],
    check: |_| Ok(()),
    null: None,
    is_open: true,
};

static SCRAPE: Schema = Schema {
    go_type: "config.ScrapeConfig",
    fields: &[&[
        Field::new("job_name", Kind::Text),
        Field::new("scrape_interval", Kind::Duration),
        Field::new("scrape_timeout", Kind::Duration),
        Field::new("metrics_path", Kind::Text),
        Field::new("scheme", Kind::Text),
        Field::new("relabel_configs", Kind::Sections(&RELABEL)),
        Field::new("metric_relabel_configs", Kind::Sections(&RELABEL)),
    ]],
    check: |scrape| {
        if scrape.has("job_name") {
            Ok(())
        } else {
            Err("job_name is empty".to_owned())
        }
    },
    null: Some("empty or null scrape config section"),
    is_open: true,
};

static REMOTE_READ: Schema = Schema {
    go_type: "config.RemoteReadConfig",
    fields: &[&[Field::new("url", Kind::Url)]],
    check: |read| {
        if read.has("url") {
            Ok(())
        } else {
            Err("url for remote_read is empty".to_owned())
        }
    },
    null: Some("empty or null remote read config section"),
    is_open: true,
};

static ALERTING: Schema = Schema {
    go_type: "config.AlertingConfig",
    fields: &[&[
        Field::new("alert_relabel_configs", Kind::Sections(&RELABEL)),
        Field::new("alertmanagers", Kind::Sections(&ALERTMANAGER)),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static ALERTMANAGER: Schema = Schema {
    go_type: "config.AlertmanagerConfig",
    fields: &[
        AUTHENTICATION,
        FOLLOWING,
        PROXY,
        HEADERS,
        &[
            Field::new("sigv4", Kind::Optional(&SIGV4)),
            Field::new("scheme", Kind::Text).default(Default::Text("http")),
            Field::new("path_prefix", Kind::Text),
            Field::new("timeout", Kind::Duration).default(Default::Nanos(10 * SECOND)),
            Field::new("api_version", Kind::Text).default(Default::Text("v2")),
            Field::new("relabel_configs", Kind::Sections(&RELABEL)),
            Field::new("alert_relabel_configs", Kind::Sections(&RELABEL)),
        ],
        DISCOVERY,
    ],
    check: |alertmanager| {
        let version = alertmanager.text("api_version");
        if version != "v2" {
            return Err(format!(
                "expected Alertmanager api version to be one of [v2] but got {version}"
            ));
        }
        check_client(alertmanager)
    },
    null: Some("empty or null section in alertmanagers"),
    is_open: false,
};

static REMOTE_WRITE: Schema = Schema {
    go_type: "config.RemoteWriteConfig",
    fields: &[
        &[
            Field::new("url", Kind::Url).shown(Shown::Always),
            Field::new("remote_timeout", Kind::Duration).default(Default::Nanos(30 * SECOND)),
            Field::new("headers", Kind::SecretMap),
            Field::new("write_relabel_configs", Kind::Sections(&RELABEL)),
            Field::new("name", Kind::Text),
            Field::new("send_exemplars", Kind::Bool),
            Field::new("send_native_histograms", Kind::Bool),
            Field::new("round_robin_dns", Kind::Bool),
            Field::new("protobuf_message", Kind::Text)
                .default(Default::Text("prometheus.WriteRequest")),
        ],
        AUTHENTICATION,
        FOLLOWING_HTTP1,
        PROXY,
        HEADERS,
        &[
            Field::new("queue_config", Kind::Section(&QUEUE)),
            Field::new("metadata_config", Kind::Section(&METADATA)),
            Field::new("sigv4", Kind::Optional(&SIGV4)),
            Field::new("azuread", Kind::Optional(&ANYTHING)),
            Field::new("google_iam", Kind::Optional(&ANYTHING)),
        ],
    ],
    check: check_remote_write,
    null: Some("empty or null remote write config section"),
    is_open: false,
};

fn check_remote_write(write: &Section) -> Result<(), String> {
    if !write.has("url") {
        return Err("url for remote_write is empty".to_owned());
    }
    for (name, _) in write.map("headers") {
        let name = name.to_ascii_lowercase();
        if name == "authorization" {
            return Err("authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter".to_owned());
        }
        if RESERVED_HEADERS.contains(&name.as_str()) {
            return Err(format!(
                "{name} is a reserved header. It must not be changed"
            ));
        }
    }
    let message = write.text("protobuf_message");
    if !matches!(
        message,
        "prometheus.WriteRequest" | "io.prometheus.write.v2.Request"
    ) {
        return Err(format!(
            "invalid protobuf_message value: unknown remote write protobuf message {message}, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request"
        ));
    }
    check_client(write)
}

/// Headers that remote write sets itself.
const RESERVED_HEADERS: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "x-prometheus-remote-write-version",
    "www-authenticate",
    "host",
];

static QUEUE: Schema = Schema {
    go_type: "config.QueueConfig",
    fields: &[&[
        Field::new("capacity", Kind::Int).default(Default::Int(10_000)),
        Field::new("max_shards", Kind::Int).default(Default::Int(50)),
        Field::new("min_shards", Kind::Int).default(Default::Int(1)),
        // Prometheus' default is 2000; the original's is this.
        Field::new("max_samples_per_send", Kind::Int).default(Default::Int(100)),
        Field::new("batch_send_deadline", Kind::Duration).default(Default::Nanos(5 * SECOND)),
        Field::new("min_backoff", Kind::Duration).default(Default::Nanos(30 * MILLI)),
        Field::new("max_backoff", Kind::Duration).default(Default::Nanos(5 * SECOND)),
        Field::new("retry_on_http_429", Kind::Bool),
        Field::new("sample_age_limit", Kind::Duration),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static METADATA: Schema = Schema {
    go_type: "config.MetadataConfig",
    fields: &[&[
        Field::new("send", Kind::Bool)
            .default(Default::Bool(true))
            .shown(Shown::Always),
        Field::new("send_interval", Kind::Duration)
            .default(Default::Nanos(60 * SECOND))
            .shown(Shown::Always),
        Field::new("max_samples_per_send", Kind::Int).default(Default::Int(2000)),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

/// TLS of a listener, as the original reads it and never uses it.
static LISTENER: Schema = Schema {
    go_type: "web.TLSConfig",
    fields: &[&[
        Field::new("cert", Kind::Text).shown(Shown::Always),
        Field::new("key", Kind::Secret).shown(Shown::Always),
        Field::new("client_ca", Kind::Text).shown(Shown::Always),
        Field::new("cert_file", Kind::Text).shown(Shown::Always),
        Field::new("key_file", Kind::Text).shown(Shown::Always),
        Field::new("client_auth_type", Kind::Text).shown(Shown::Always),
        Field::new("client_ca_file", Kind::Text).shown(Shown::Always),
        Field::new("cipher_suites", Kind::List(&Kind::Text)).shown(Shown::Always),
        Field::new("curve_preferences", Kind::List(&Kind::Text)).shown(Shown::Always),
        Field::new("min_version", Kind::Any)
            .default(Default::Int(0))
            .shown(Shown::Always),
        Field::new("max_version", Kind::Any)
            .default(Default::Int(0))
            .shown(Shown::Always),
        Field::new("prefer_server_cipher_suites", Kind::Bool).shown(Shown::Always),
        Field::new("client_allowed_sans", Kind::List(&Kind::Text)).shown(Shown::Always),
    ]],
    check: |listener| {
        check_tls_version(listener.text("min_version"))?;
        check_tls_version(listener.text("max_version"))
    },
    null: None,
    is_open: false,
};
