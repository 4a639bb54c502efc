//! The keys of `promxy` and its server groups.

use promql::parser::{Matcher, ParserOptions, parse_selector};

use crate::labels::metric_relabel::MetricRule;

use super::{
    discovery::DISCOVERY,
    http_client::SERVER_GROUP_CLIENT,
    relabel::RELABEL,
    schema::{Default, Field, Item, Kind, Schema, Section, Shown},
};

/// The section `promxy`.
pub(super) static PROMXY: Schema = Schema {
    go_type: "proxyconfig.PromxyConfig",
    fields: &[&[
        Field::new("server_groups", Kind::Sections(&SERVER_GROUP)).shown(Shown::Always),
        Field::new("groups", Kind::Text),
    ]],
    check: |promxy| match promxy.text("groups") {
        "" | "overlapping" | "disjoint" => Ok(()),
        other => Err(format!(
            "groups must be overlapping or disjoint, not {other}"
        )),
    },
    null: None,
    is_open: false,
};

static SERVER_GROUP: Schema = Schema {
    go_type: "servergroup.Config",
    fields: &[
        &[
            Field::new("name", Kind::Text),
            Field::new("remote_read", Kind::Bool).shown(Shown::Always),
            Field::new("remote_read_path", Kind::Text)
                .default(Default::Text("api/v1/read"))
                .shown(Shown::Always),
            Field::new("native_histogram", Kind::Section(&NATIVE_HISTOGRAM)),
            Field::new("http_client", Kind::Section(&SERVER_GROUP_CLIENT)).shown(Shown::Always),
            Field::new("scheme", Kind::Text)
                .default(Default::Text("http"))
                .shown(Shown::Always),
            Field::new("labels", Kind::Labels).shown(Shown::Always),
            Field::new("relabel_configs", Kind::Sections(&RELABEL)),
            Field::new("metrics_relabel_configs", Kind::Sections(&METRIC_RELABEL)),
            Field::new("path_prefix", Kind::Text).shown(Shown::Always),
            Field::new("query_params", Kind::SecretMap).shown(Shown::Always),
            Field::new("anti_affinity", Kind::GoDuration).default(Default::Nanos(10_000_000_000)),
            Field::new("anti_affinity_dynamic", Kind::Bool),
            Field::new("timeout", Kind::GoDuration),
            Field::new("max_idle_conns", Kind::Int).default(Default::Int(20_000)),
            Field::new("max_idle_conns_per_host", Kind::Int).default(Default::Int(1000)),
            Field::new("idle_conn_timeout", Kind::GoDuration)
                .default(Default::Nanos(300_000_000_000)),
            Field::new("ignore_error", Kind::Bool).shown(Shown::Always),
            Field::new("downgrade_error", Kind::Bool).shown(Shown::Always),
            Field::new("relative_time_range", Kind::Optional(&RELATIVE)).shown(Shown::Always),
            Field::new("absolute_time_range", Kind::Optional(&ABSOLUTE)).shown(Shown::Always),
            Field::new("label_filter", Kind::Optional(&LABEL_FILTER)).shown(Shown::Always),
            Field::new("inject_matchers", Kind::List(&Kind::Text)),
            Field::new("prefer_max", Kind::Bool),
            Field::new("http_headers", Kind::SecretMap).shown(Shown::Always),
            Field::new("align_query_range_with_step", Kind::Bool),
            Field::new("coverage_aware", Kind::Bool),
            Field::new("hedge_after", Kind::GoDuration),
        ],
        DISCOVERY,
    ],
    check: check_server_group,
    null: Some("empty or null section in server_groups"),
    is_open: false,
};

fn check_server_group(group: &Section) -> Result<(), String> {
    const ONE: &str = "at most one of basic_auth, authorization, bearer_token, bearer_token_file, sigv4 must be configured";
    let ways = [
        "basic_auth",
        "authorization",
        "bearer_token",
        "bearer_token_file",
        "sigv4",
    ];
    let used = |client: &Section| {
        let is_used = |way: &&str| client.section(way).is_some() || client.has(way);
        ways.iter().filter(|way| is_used(way)).count()
    };
    if group.section("http_client").map_or(0, used) > 1 {
        return Err(ONE.to_owned());
    }
    if group.nanos("hedge_after") < 0 {
        return Err("hedge_after must not be negative".to_owned());
    }
    if group.nanos("hedge_after") > 0 && group.flag("coverage_aware") {
        return Err(
            "at most one of hedge_after, coverage_aware must be configured: what replicas cover is only known of those that are asked"
                .to_owned(),
        );
    }
    inject_matchers(group).map(|_| ())
}

/// Reads the injected matchers as one selector, as the original does, so that positions in errors are the same.
pub(super) fn inject_matchers(group: &Section) -> Result<Vec<Matcher>, String> {
    let matchers: Vec<&str> = group.words("inject_matchers").collect();
    if matchers.is_empty() {
        return Ok(Vec::new());
    }
    parse_selector(
        &format!("{{{}}}", matchers.join(",")),
        &ParserOptions::v3_5(),
    )
    .map_err(|e| format!("error parsing inject_matchers: {e}"))
}

static NATIVE_HISTOGRAM: Schema = Schema {
    go_type: "servergroup.NativeHistogramConfig",
    fields: &[&[
        Field::new("metadata_refresh", Kind::GoDuration),
        Field::new("allow_lossy", Kind::Bool),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static RELATIVE: Schema = Schema {
    go_type: "servergroup.RelativeTimeRangeConfig",
    fields: &[&[
        Field::new("start", Kind::MaybeGoDuration).shown(Shown::Always),
        Field::new("end", Kind::MaybeGoDuration).shown(Shown::Always),
        Field::new("truncate", Kind::Bool).shown(Shown::Always),
    ]],
    check: |range| match relative_bounds(range) {
        (Some(start), Some(end)) if end < start => {
            Err("RelativeTimeRangeConfig: End must be after start".to_owned())
        }
        _ => Ok(()),
    },
    null: None,
    is_open: false,
};

static ABSOLUTE: Schema = Schema {
    go_type: "servergroup.AbsoluteTimeRangeConfig",
    fields: &[&[
        Field::new("start", Kind::Time).shown(Shown::Always),
        Field::new("end", Kind::Time).shown(Shown::Always),
        Field::new("truncate", Kind::Bool).shown(Shown::Always),
    ]],
    check: |range| match (time(range, "start"), time(range, "end")) {
        (Some(start), Some(end)) if end < start => {
            Err("AbsoluteTimeRangeConfig: End must be after start".to_owned())
        }
        _ => Ok(()),
    },
    null: None,
    is_open: false,
};

static LABEL_FILTER: Schema = Schema {
    go_type: "promclient.LabelFilterConfig",
    fields: &[&[
        Field::new("dynamic_labels", Kind::List(&Kind::Text)).shown(Shown::Always),
        Field::new("sync_interval", Kind::GoDuration),
        Field::new("static_labels_include", Kind::Lists).shown(Shown::Always),
        Field::new("static_labels_exclude", Kind::Lists).shown(Shown::Always),
    ]],
    check: |filter| {
        let names = filter.words("dynamic_labels");
        let included = filter
            .map("static_labels_include")
            .iter()
            .map(|(name, _)| name.as_str());
        let excluded = filter
            .map("static_labels_exclude")
            .iter()
            .map(|(name, _)| name.as_str());
        if names.chain(included).chain(excluded).any(str::is_empty) {
            return Err("\"\" is not a valid label name".to_owned());
        }
        if filter.nanos("sync_interval") != 0 && filter.list("dynamic_labels").is_empty() {
            return Err("sync_interval requires `dynamic_labels_include` to be set".to_owned());
        }
        Ok(())
    },
    null: None,
    is_open: false,
};

static METRIC_RELABEL: Schema = Schema {
    go_type: "promclient.MetricRelabelConfig",
    fields: &[&[
        Field::new("source_label", Kind::Text),
        Field::new("target_label", Kind::Text),
        Field::new("action", Kind::Text).shown(Shown::Always),
    ]],
    check: |rule| metric_rule(rule).map(|_| ()),
    null: Some("empty or null section in metrics_relabel_configs"),
    is_open: false,
};

pub(super) fn metric_rule(rule: &Section) -> Result<MetricRule, String> {
    MetricRule::new(
        rule.text("action"),
        rule.text("source_label"),
        rule.text("target_label"),
    )
}

/// Returns the ends of a relative time range in nanoseconds from now.
pub(super) fn relative_bounds(range: &Section) -> (Option<i64>, Option<i64>) {
    let bound = |key| match range.item(key) {
        Item::GoDuration(nanos) => Some(*nanos),
        _ => None,
    };
    (bound("start"), bound("end"))
}

/// Returns an end of an absolute time range in milliseconds since 1970.
pub(super) fn time(range: &Section, key: &str) -> Option<i64> {
    match range.item(key) {
        Item::Time(millis) => Some(*millis),
        _ => None,
    }
}
