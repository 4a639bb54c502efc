//! The console of statsd's `proxy.js` (`lib/mgmt_server.js`): each chunk is one command with words between single spaces.

use std::{fmt::Write as _, sync::atomic::Ordering::Relaxed};

use super::{Answer, Facts};
use crate::config::Spread;

/// Answers a chunk.
pub(super) fn answer(chunk: &[u8], facts: &Facts) -> Answer {
    let text = String::from_utf8_lossy(chunk);
    let mut words = text.trim().split(' ');
    Answer::Text(match words.next() {
        Some("help") => "Commands: config, health, status, quit\n\n".to_owned(),
        Some("health") => health(words.next().unwrap_or(""), facts),
        Some("config") => facts
            .entries
            .load()
            .iter()
            .fold("\n".to_owned(), |text, entry| text + entry + "\n"),
        Some("status") => status(facts),
        Some("quit") => return Answer::Close,
        _ => "ERROR\n".to_owned(),
    })
}

/// `up` or `down` in any letter case sets the state; anything else asks for it.
fn health(argument: &str, facts: &Facts) -> String {
    match argument.to_lowercase().as_str() {
        "up" => facts.healthy.store(true, Relaxed),
        "down" => facts.healthy.store(false, Relaxed),
        _ => {}
    }
    facts.health().to_owned()
}

/// The nodes now in the ring, each followed by a space; one that came back is last.
fn status(facts: &Facts) -> String {
    let mut text = format!("uptime: {}\nnodes: ", facts.uptime());
    let routing = facts.routing.load();
    for route in &routing.groups {
        for member in &route.members {
            let destination = &routing.destinations[*member];
            if destination.live || route.spread == Spread::Mirror {
                write!(text, "{} ", destination.node.label())
                    .expect("writing to a string cannot fail");
            }
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;

    #[test]
    fn commands_are_case_sensitive_and_their_arguments_are_not() {
        let facts = Facts::for_test(Dialect::Statsd, &["port: 8125"]);
        let f = |chunk: &str, expected: &str| {
            assert_eq!(
                answer(chunk.as_bytes(), &facts),
                Answer::Text(expected.to_owned()),
                "{chunk:?}"
            );
        };
        f("config\r\n", "\nport: 8125\n");
        f("health DOWN\n", "health: down\n");
        f("health\n", "health: down\n");
        // Two spaces make an empty argument, which only asks.
        f("health  up\n", "health: down\n");
        f("health up\n", "health: up\n");
        f("HELP\n", "ERROR\n");
        f("\n", "ERROR\n");
        assert_eq!(answer(b"quit\n", &facts), Answer::Close);
    }
}
