//! What is different on purpose.

/// A deliberate deviation: which captures, which row of the table of fixes, and what is different.
pub(crate) struct Deviation {
    pub(crate) row: &'static str,
    pub(crate) cases: &'static [&'static str],
    pub(crate) change: Change,
}

pub(crate) enum Change {
    /// More words on the command line, which give the original's behaviour back where ours is a matter of time.
    Words(&'static [&'static str]),
    /// The batch of each request that failed arrives once more.
    Again,
    /// No batch arrives more or less, but these log lines come instead of those.
    Log {
        not: &'static [&'static str],
        but: &'static [&'static str],
    },
    /// Ends with this status.
    Exit(i64),
    /// Requests to the first path go to the second, or not at all.
    Path(&'static str, Option<&'static str>),
    /// What follows a line that is too long arrives too.
    TooLong,
    /// Redirected requests are repeated as they were.
    SameMethod,
    /// Batches are not sent at all any more: they were empty.
    NoBatches,
    /// All that was sent arrives, and what the gateway hung on once more.
    Hung,
    /// All that was sent is printed.
    Printed,
    /// The same requests in HTTP/1.1.
    Http1,
    /// The test of its kind says what.
    Elsewhere,
}

use Change::{
    Again, Elsewhere, Exit, Http1, Hung, Log, NoBatches, Path, Printed, SameMethod, TooLong, Words,
};

/// Everywhere besides: batches without lines are not posted (row 11), what was kept in an outage is posted as separate
/// requests (row 6), and the last line of the log says what became of all lines (row 15).
pub(crate) const DEVIATIONS: &[Deviation] = &[
    Deviation {
        row: "7: batches that the gateway cannot take now are sent again",
        cases: &[
            "failure/ingest_408",
            "failure/ingest_429",
            "failure/ingest_500",
            "failure/ingest_502",
            "failure/ingest_503",
            "failure/ingest_503_retry_after",
            "failure/ingest_504",
            "failure/ingest_close",
            "failure/ingest_rst",
            "failure/ingest_truncated_reply",
            "failure/quiet_mode",
            "failure/rst_mid_body",
        ],
        change: Again,
    },
    Deviation {
        row: "7: with Retry-After, after that time",
        cases: &["failure/ingest_503_retry_after"],
        change: Words(&["-http-timeout=20s"]),
    },
    Deviation {
        row: "8: 401 is held; here for no time",
        cases: &[
            "failure/ingest_401",
            "failure/ingest_401_all",
            "e2e/key_revoked",
        ],
        change: Words(&["-key-hold=0s"]),
    },
    Deviation {
        row: "9: no garbage in front of the next batch after a reset",
        cases: &["failure/rst_mid_body"],
        change: Log {
            not: &[
                "[worker #N] gateway]: Post \"http://localhost:P/ingest\": readfrom tcp A->A: write tcp A->A: write: connection reset by peer",
            ],
            but: &[
                "[worker #N] gateway]: Post \"http://localhost:P/ingest\": write tcp A->A: write: connection reset by peer",
                "[worker #N] gateway]: Post \"http://localhost:P/ingest\": read tcp A->A: read: connection reset by peer",
            ],
        },
    },
    Deviation {
        row: "10: a gateway that hangs is given up; here after four seconds",
        cases: &["timing/gateway_hangs", "queue/cap_2_stalled"],
        change: Words(&["-http-timeout=4s"]),
    },
    Deviation {
        row: "10: and what it did not answer is sent again",
        cases: &["timing/gateway_hangs", "queue/cap_2_stalled"],
        change: Hung,
    },
    Deviation {
        row: "10: a TLS handshake has a limit with -cert too",
        cases: &["tls/plain_server_withcert"],
        change: Exit(1),
    },
    Deviation {
        row: "10: a TLS handshake has a limit with -cert too",
        cases: &["tls/plain_server_withcert"],
        change: Log {
            not: &[],
            but: &["Post \"https://localhost:P/ping\": net/http: TLS handshake timeout"],
        },
    },
    Deviation {
        row: "14: the console prints every batch",
        cases: &[
            "console/empty_first",
            "console/full_batch_then_more",
            "console/two_partial_batches",
            "console/metrics_flush_only",
        ],
        change: Printed,
    },
    Deviation {
        row: "6: what was kept in an outage is sent again by itself, each batch alone; nothing is lost",
        cases: &[
            "failure/outage_clean_close_then_refused",
            "failure/outage_no_cert_flag",
            "failure/outage_refused_workers1",
            "failure/outage_refused_workers3",
            "failure/outage_wrong_certificate",
            "v1.0.0/outage_refused_workers1",
        ],
        change: Elsewhere,
    },
    Deviation {
        row: "15: what is open is delivered at the end, and SIGTERM asks for it too; SIGHUP reloads; no Go stack is printed",
        cases: &[
            "signals/sigint",
            "signals/sigterm",
            "signals/sighup",
            "signals/sigquit",
            "queue/backpressure",
        ],
        change: Elsewhere,
    },
    Deviation {
        row: "18: runstats clients are served side by side, and long requests do not cost the reply",
        cases: &["runstats/replies"],
        change: Elsewhere,
    },
    Deviation {
        row: "21: a variable that does not parse is named; 28: the text for -queue-cap is right; there are more flags",
        cases: &["cli/flags"],
        change: Elsewhere,
    },
    Deviation {
        row: "23: as many connections are kept as there are workers",
        cases: &[
            "timing/concurrency_workers_3",
            "timing/concurrency_workers_8",
        ],
        change: Elsewhere,
    },
    Deviation {
        row: "24: HTTP/1.1 without -cert too",
        cases: &["tls/http2_without_cert", "e2e/https_system_roots_http2"],
        change: Http1,
    },
    Deviation {
        row: "12: slashes at the end of the address are cut",
        cases: &["startup/gw_trailing_slash"],
        change: Path("//", Some("/")),
    },
    Deviation {
        row: "12: slashes at the end of the address are cut",
        cases: &["e2e/trailing_slash"],
        change: Log {
            not: &["[worker #N] gateway]: Post \"https://localhost:P/ingest\": EOF"],
            but: &["[worker #N] D [gateway] Batch Received"],
        },
    },
    Deviation {
        row: "20: log texts are those of the last version, which has durations",
        cases: &["v1.0.0/points_1"],
        change: Log {
            not: &["[worker #N] [gateway] Batch Received"],
            but: &["[worker #N] D [gateway] Batch Received"],
        },
    },
    Deviation {
        row: "13: redirects repeat the POST",
        cases: &[
            "startup/ping_redirect_301",
            "startup/ping_redirect_302",
            "startup/ping_redirect_303",
            "startup/ping_redirect_loop",
            "failure/ingest_redirect_302",
        ],
        change: SameMethod,
    },
    Deviation {
        row: "13: redirects to other hosts are not followed",
        cases: &["failure/redirect_other_host"],
        change: Log {
            not: &["[worker #N] D [gateway] key is valid"],
            but: &[
                "[worker #N] gateway]: Post \"http://localhost:P/ingest\": redirect to another host is not followed: http://A/stolen",
            ],
        },
    },
    Deviation {
        row: "16: a line that is too long costs only itself",
        cases: &[
            "ingest/long_line_65535_crlf",
            "ingest/long_line_65536",
            "ingest/long_line_70000",
        ],
        change: TooLong,
    },
    Deviation {
        row: "16: it is logged",
        cases: &[
            "ingest/long_line_65535_crlf",
            "ingest/long_line_65536",
            "ingest/long_line_70000",
            "ingest/long_noeol_65536",
        ],
        change: Log {
            not: &[],
            but: &["skipped a line of more than 65536 bytes who=A lines=1 held_back=0"],
        },
    },
    Deviation {
        row: "11: an empty batch is not posted",
        cases: &["ingest/idle_conn_connect_close", "timing/five_idle_conns"],
        change: NoBatches,
    },
    Deviation {
        row: "22: a negative capacity is refused",
        cases: &["queue/cap_negative"],
        change: Exit(2),
    },
    Deviation {
        row: "22: workers below one are refused",
        cases: &["cli/workers_0", "cli/workers_negative"],
        change: Exit(2),
    },
    Deviation {
        row: "27: a certificate that is in -cert itself may have its name as common name",
        cases: &["tls/self_nosan"],
        change: Exit(0),
    },
    Deviation {
        row: "27: a certificate that is in -cert itself may have its name as common name",
        cases: &["tls/self_nosan"],
        change: Log {
            not: &[
                "Post \"https://localhost:P/ping\": tls: failed to verify certificate: x509: certificate relies on legacy Common Name field, use SANs instead",
            ],
            but: &[
                "Connection to gateway https://localhost:P successful",
                "HTTP writer #N started",
                "Metrics listener started: A",
                "Runstats started: A",
                "Shutting down",
                "the server's certificate has its name only as common name, which is deprecated: accepted because the certificate itself is trusted name=\"localhost\"",
            ],
        },
    },
    Deviation {
        row: "20: the resolver's address is not known here",
        cases: &["startup/gw_nxdomain", "tls/http_proxy_env_cert"],
        change: Log { not: &[], but: &[] },
    },
];

pub(crate) fn deviations(case: &str) -> impl Iterator<Item = &'static Deviation> {
    DEVIATIONS
        .iter()
        .filter(move |deviation| deviation.cases.contains(&case))
}
