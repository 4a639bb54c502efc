//! Where answers are otherwise than recorded, and why; and which recorded replies have to be brought into another form first.
//!
//! Each row also says what is answered instead, so a row that is no longer true fails the test.

/// An answer that is otherwise than the original's.
pub(crate) struct Deviation {
    /// The file without its ending, a colon, and the case.
    pub(crate) case: &'static str,
    /// The row of the decision, or what else stands in the way.
    pub(crate) row: &'static str,
    /// The status that is answered instead.
    pub(crate) status: u16,
    /// What has to be in the answer, in its headers (one a line) or its body.
    pub(crate) has: &'static str,
}

const fn row(case: &'static str, row: &'static str, status: u16, has: &'static str) -> Deviation {
    Deviation {
        case,
        row,
        status,
        has,
    }
}

const TIMEOUT: &str = r#""errorType":"timeout""#;
const ONLY_ITS_METHODS: &str = "allow: GET, HEAD, OPTIONS, POST";
const IN_THEIR_PLACES: &str = r#""warnings":["w1 from ds"],"infos":["i1 from ds"]"#;

/// Otherwise on purpose.
#[rustfmt::skip]
pub(crate) const DECIDED: &[Deviation] = &[
    row("api_query:timeout_ms", "D17: out of time is 503", 503, TIMEOUT),
    row("api_query_range:timeout_1ms", "D17: out of time is 503", 503, TIMEOUT),
    row("api_query:post_multipart", "S23: forms in parts are read", 200, r#""resultType":"scalar""#),
    row("api_series_labels:labels_nonexist", "S14: no labels of groups where nothing matched", 200, r#""data":[]"#),
    row("api_misc:meta_limit1", "S13: the first names, not any", 200, r#"{"data":{"demo_latency_seconds":"#),
    row("api_misc:meta_limit_bad", "S13: an error as all others", 400, "limit must be a number"),
    row("api_misc:meta_limit_neg", "S13: below zero is all, as in Prometheus", 200, "demo_temp_celsius"),
    row("api_misc:meta_lpm_bad", "S13: limit_per_metric is read", 400, "limit_per_metric must be a number"),
    row("api_misc:meta_gzip", "S13: compressed", 200, "content-encoding: gzip"),
    row("api_misc:meta_cors", "S13: for other origins", 200, "access-control-allow-origin: http://x.example"),
    row("api_misc:meta_delete", "S13: only the methods that read", 405, ONLY_ITS_METHODS),
    row("api_misc:meta_put", "S13: only the methods that read", 405, ONLY_ITS_METHODS),
    row("api_misc:meta_options", "S13: answered as all others", 204, "vary: Origin"),
    row("api_misc:status_config_DELETE", "S13: only the methods that read", 405, ONLY_ITS_METHODS),
    row("api_misc:status_config_PUT", "S13: only the methods that read", 405, ONLY_ITS_METHODS),
    row("api_misc:status_config_OPTIONS", "S13: answered as all others", 204, "vary: Origin"),
    row("api_misc:ex_sg", "S2: labels of groups are not asked of servers", 200, r#""sg":"a","shard":"A"},"exemplars":[{"labels":{"trace_id":"t53"}"#),
    row("api_misc:st_status_flags", "S16: the flags by their names", 200, r#""bind-addr":"127.0.0.1:"#),
    row("api_misc:st_status_walreplay", "S19: one document", 200, r#"{"status":"success","data":{"min":0,"max":0,"current":0}}"#),
    row("api_misc:st_notifications", "S1: an empty list", 200, r#"{"status":"success","data":[]}"#),
    row("api_misc:st_notifications_live", "S1: a stream without events", 200, "content-type: text/event-stream"),
    row("faults:default/b_all/query/503_timeout", "D17: out of time is 503", 503, TIMEOUT),
    row("faults:default/all/query/503_timeout", "D17: out of time is 503", 503, TIMEOUT),
    row("faults:default/b_all/query/499_canceled", "D17: given up is 503", 503, "canceled: query was canceled"),
    row("faults:default/slow/timeout_param_1s", "a replica that is out of time has failed, and the other answers", 200, "success"),
    row("faults:default/slow/timeout_param_1s_scalar_fn", "a replica that is out of time has failed, and the other answers", 200, "success"),
    row("faults:timeout_1s/b_all/query/sleep3", "D17: out of time is 503", 503, TIMEOUT),
    row("faults:default/b_all/query/204", "D15: an answer without content is an error", 422, "bad_response: status 204"),
    row("faults:default/b_all/query/200_warnings", "S33: infos are infos", 200, IN_THEIR_PLACES),
    row("faults:default/b1/query/200_warnings", "S33: infos are infos", 200, IN_THEIR_PLACES),
    row("faults:downgrade_b/b_all/query/200_warnings", "S33: infos are infos", 200, IN_THEIR_PLACES),
    row("faults:ignore_b/b_all/query/200_warnings", "S33: infos are infos", 200, IN_THEIR_PLACES),
    row("faults:ignore_a_and_b/all/query/200_warnings", "S33: infos are infos", 200, IN_THEIR_PLACES),
    row("faults:ignore_and_downgrade_b/b_all/query/200_warnings", "S33: infos are infos", 200, IN_THEIR_PLACES),
    row("faults:dead_b/refused/metadata", "S13: an error has the status of one", 422, "connection refused"),
    row("faults:default/b_all/metadata/500_text", "S13: an error has the status of one", 422, "server_error: server error: 500"),
    row("faults:default/b_all/metadata/422_execution", "S13: an error has the status of one", 422, "execution: query processing would load"),
    row("faults:default/b_all/metadata/400_bad_data", "S13: an error has the status of one", 422, "bad_data: invalid parameter"),
    row("faults:default/b_all/metadata/close", "S13: an error has the status of one", 422, "EOF"),
    row("faults:default/b_all/metadata/404_text", "S13: an error has the status of one", 422, "client_error: client error: 404"),
    row("faults:default/b_all/metadata/200_html", "S13: an error has the status of one", 422, "bad_response: "),
];

/// What cannot be compared: the recording lacks the replies of the servers.
#[rustfmt::skip]
pub(crate) const NOT_RECORDED: &[Deviation] = &[
    row("api_series_labels:labels_all", "no replies were recorded", 422, "server error: 599"),
    row("api_misc:meta_all", "the recorded replies are cut off", 422, "bad_response: EOF while parsing a string"),
];

/// Returns the row of a case.
pub(crate) fn of(case: &str) -> Option<&'static Deviation> {
    all().find(|deviation| deviation.case == case)
}

/// Returns all rows.
pub(crate) fn all() -> impl Iterator<Item = &'static Deviation> {
    DECIDED.iter().chain(NOT_RECORDED)
}

/// Paths that answer with the headers for other origins here (S13), which the original leaves out.
pub(crate) const FOR_OTHER_ORIGINS: [&str; 2] = ["/api/v1/metadata", "/api/v1/status/config"];

/// Values of the machine and the build, of which only the kind is compared.
#[rustfmt::skip]
pub(crate) const OF_THE_MACHINE: &[(&str, &[&str])] = &[
    ("/status/runtimeinfo", &["startTime", "CWD", "hostname", "serverTime", "lastConfigTime", "goroutineCount", "GOMAXPROCS"]),
    ("/status/buildinfo", &["version", "goVersion"]),
];

/// Requests that are planned otherwise: the case, a part of the recorded request, and what stands there now. The recorded reply
/// is the right one for both.
#[rustfmt::skip]
pub(crate) const PLANNED_OTHERWISE: &[(&str, &str, &str)] = &[
    // Sorted here, so that not every group sorts in vain.
    ("api_query:sort", "query=sort_desc%28up%29", "query=up"),
    // S9: a lookback that the client asks for is passed on.
    ("api_query:lookback_ok", "time=", "lookback_delta=60&time="),
    ("api_query:lookback_tiny", "time=", "lookback_delta=1&time="),
    ("api_query_range:lookback", "step=", "lookback_delta=1&step="),
    // D31: no time at all instead of the ends of time.
    ("api_misc:ex_no_time", "end=9223309901257974&", ""),
    ("api_misc:ex_no_time", "&start=-9223309901257974", ""),
];

/// Cases whose recording lacks requests that are made here, by their beginning; with the case that has them.
#[rustfmt::skip]
pub(crate) const BORROWED: &[(&str, &str)] = &[
    // S2: asked without the label of the group.
    ("api_misc:ex_sg", "ex_post"),
    // D35: all is asked at once, so the second request comes although the first fails.
    ("faults:default/b_all/local_eval/", "default/b1/local_eval/500_text"),
];

/// Cases with a limit that only slow servers pass: the recorded ones took 50 ms, those of the test take one second.
pub(crate) const SLOW: [&str; 2] = ["api_query:timeout_ms", "api_query_range:timeout_1ms"];
