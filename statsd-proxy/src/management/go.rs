//! The console of go-statsd-proxy (`managementconsole.go`): one word, no arguments, no newline needed.

use std::{fmt::Write as _, sync::atomic::Ordering::Relaxed};

use super::{Answer, Facts};
use crate::memory;

/// Answers a query; `None` if it is not a command, or not a whole one.
pub(super) fn answer(query: &[u8], facts: &Facts) -> Option<Answer> {
    let text = match trim(query) {
        b"ping" => "pong\n".to_owned(),
        b"stats" => stats(facts),
        b"memstats" => memory_stats(),
        // The original does not know these two. Without the first, no StatsD proxy could check this one.
        b"health" => facts.health().to_owned(),
        b"quit" => return Some(Answer::Close),
        _ => return None,
    };
    Some(Answer::Text(text))
}

/// The answer to everything else.
pub(super) fn unknown() -> Answer {
    Answer::Text("unknown command\n".to_owned())
}

/// First NUL bytes go, then spaces and line ends, but not tabs.
fn trim(query: &[u8]) -> &[u8] {
    trim_with(trim_with(query, |byte| byte == 0), |byte| {
        matches!(byte, b' ' | b'\r' | b'\n')
    })
}

fn trim_with(text: &[u8], cut: impl Fn(u8) -> bool) -> &[u8] {
    let start = text
        .iter()
        .position(|byte| !cut(*byte))
        .unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !cut(*byte))
        .map_or(start, |last| last + 1);
    &text[start..end]
}

/// `packets_received` counts pieces between line feeds, empty ones too, and is absent until there is one.
fn stats(facts: &Facts) -> String {
    let mut text = format!("time running in seconds: {}\n", facts.uptime());
    let pieces = facts.totals.pieces.load(Relaxed);
    if pieces > 0 {
        writeln!(text, "packets_received: {pieces}.000000")
            .expect("writing to a string cannot fail");
    }
    text
}

/// The original shows its garbage collector's numbers; ours come from the allocator and the kernel.
fn memory_stats() -> String {
    let stats = memory::stats();
    let live = stats.allocated_bytes - stats.freed_bytes;
    let idle = stats.resident_bytes.saturating_sub(live);
    let lines = [
        ("bytes allocated and in use", live),
        ("bytes allocated total", stats.allocated_bytes),
        ("bytes obtained from system", stats.resident_bytes),
        ("number of pointer lookups", 0),
        ("number of mallocs", stats.allocations),
        ("number of frees", stats.frees),
        ("bytes allocated and still in use", live),
        ("bytes obtained from system", live),
        ("bytes in idle spans", idle),
        ("bytes in non-idle span", live),
        ("bytes released to the OS", 0),
        (
            "total number of allocated objects",
            stats.allocations - stats.frees,
        ),
    ];
    lines
        .iter()
        .map(|(label, value)| format!("{label}: {value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;

    #[test]
    fn nul_bytes_go_first_then_spaces_and_line_ends_but_not_tabs() {
        let facts = Facts::for_test(Dialect::GoStatsdProxy, &[]);
        for query in ["ping", "ping\r\n", " ping ", "\n\nping\n\n", "ping\0\0"] {
            assert_eq!(
                answer(query.as_bytes(), &facts),
                Some(Answer::Text("pong\n".to_owned())),
                "{query:?}"
            );
        }
        for query in [
            "PING",
            "\tping",
            "ping pong",
            "ping\nstats",
            "",
            "\0",
            "help",
        ] {
            assert_eq!(answer(query.as_bytes(), &facts), None, "{query:?}");
        }
    }

    #[test]
    fn packets_received_is_absent_until_there_is_one() {
        let facts = Facts::for_test(Dialect::GoStatsdProxy, &[]);
        assert_eq!(stats(&facts), "time running in seconds: 0\n");
        facts.totals.pieces.store(6, Relaxed);
        assert_eq!(
            stats(&facts),
            "time running in seconds: 0\npackets_received: 6.000000\n"
        );
    }
}
