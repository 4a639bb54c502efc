//! Starts whose flags are refused in other words than the original's, with the reason.

/// Ids of `startup.jsonl`.
pub(crate) const REFUSED_FLAGS: [(&str, &str); 5] = [
    (
        "bad_external_url",
        "S22: the message says which URL and why",
    ),
    ("bad_bind", "S22: the message says which URL and why"),
    ("bind_port_only", "S22: the message says which URL and why"),
    (
        "metrics_path_relative",
        "S21: a message in place of a crash",
    ),
    (
        "metrics_path_collides",
        "S21: a message in place of a crash",
    ),
];
