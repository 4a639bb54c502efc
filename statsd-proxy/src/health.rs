//! Health checks: one task per node with a management port, beside the data path.
//!
//! A check is a connection of its own: connect, ask `health`, read until the answer holds `up`. Both originals' questions
//! and their reading of the answer are kept (spec section 7); their persistent connections and missing time limits are not.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};

use crate::{
    config::{Checks, Dialect},
    membership::Event,
    node::Node,
};

/// The longest answer that is read.
const MAX_ANSWER: usize = 1_024;

/// What one check found.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// It says that it is up.
    Up,
    /// It says something else, or nothing.
    Down,
    /// Nothing listens on its management port.
    Refused,
}

/// Checks a node again and again, and reports the first finding and every change. Until then the node stays as it is.
pub(crate) async fn follow(
    node: Arc<Node>,
    port: u16,
    dialect: Dialect,
    checks: Checks,
    events: mpsc::Sender<Event>,
) {
    let mut judge = Judge::new(dialect, checks.failures, node.is_up());
    let mut warned = false;
    loop {
        let next = Instant::now() + checks.interval;
        let finding = check(&node.config.host, port, dialect, checks.limit).await;
        if let Err(reason) = &finding {
            debug!(
                "Error during healthcheck on node {} with {reason}",
                node.label()
            );
        }
        let finding = finding.unwrap_or_else(|reason| match reason.kind() {
            io::ErrorKind::ConnectionRefused => Finding::Refused,
            _ => Finding::Down,
        });
        if finding == Finding::Refused && judge.assumes_up() && !warned {
            warned = true;
            warn!(
                node = node.label(),
                port, "the management port has never answered; the node counts as up"
            );
        }
        if let Some(up) = judge.hear(&finding) {
            let event = Event::Checked {
                node: Arc::clone(&node),
                up,
            };
            if events.send(event).await.is_err() {
                return;
            }
        }
        sleep_until(next).await;
    }
}

/// Draws conclusions from findings.
#[derive(Debug)]
struct Judge {
    dialect: Dialect,
    failures_allowed: u32,
    failures: u32,
    /// Whether the management port has ever taken a connection.
    ever_accepted: bool,
    up: bool,
    /// Whether the state has been reported.
    reported: bool,
}

impl Judge {
    fn new(dialect: Dialect, failures_allowed: u32, up: bool) -> Self {
        Self {
            dialect,
            failures_allowed,
            failures: 0,
            ever_accepted: false,
            up,
            reported: false,
        }
    }

    /// go-statsd-proxy takes a node whose management port refuses from the start for up (spec, quirk 13).
    fn assumes_up(&self) -> bool {
        self.dialect == Dialect::GoStatsdProxy && !self.ever_accepted
    }

    /// Returns the node's state if this finding is the first or changes it.
    fn hear(&mut self, finding: &Finding) -> Option<bool> {
        let well = *finding == Finding::Up || (*finding == Finding::Refused && self.assumes_up());
        self.ever_accepted |= *finding != Finding::Refused;
        self.failures = if well {
            0
        } else {
            self.failures.saturating_add(1)
        };
        let up = if well {
            true
        } else {
            self.up && self.failures < self.failures_allowed
        };
        let news = up != self.up || !self.reported;
        (self.up, self.reported) = (up, true);
        news.then_some(up)
    }
}

async fn check(host: &str, port: u16, dialect: Dialect, limit: Duration) -> io::Result<Finding> {
    let question: &[u8] = match dialect {
        Dialect::GoStatsdProxy => b"health",
        Dialect::Statsd => b"health\r\n",
    };
    timeout(limit, async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.write_all(question).await?;
        let mut answer = Vec::with_capacity(MAX_ANSWER);
        while answer.len() < MAX_ANSWER
            && !answer.ends_with(b"\n")
            && stream.read_buf(&mut answer).await? > 0
        {
            if says_up(&answer) {
                return Ok(Finding::Up);
            }
        }
        Ok(Finding::Down)
    })
    .await
    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Both originals look for these two letters anywhere.
fn says_up(answer: &[u8]) -> bool {
    answer.windows(2).any(|letters| letters == b"up")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(dialect: Dialect, failures_allowed: u32) -> Judge {
        Judge::new(dialect, failures_allowed, true)
    }

    #[test]
    fn one_failure_takes_a_node_down_and_one_success_brings_it_back() {
        let mut judge = judge(Dialect::Statsd, 1);
        assert_eq!(judge.hear(&Finding::Up), Some(true));
        assert_eq!(judge.hear(&Finding::Up), None);
        assert_eq!(judge.hear(&Finding::Down), Some(false));
        assert_eq!(judge.hear(&Finding::Refused), None);
        assert_eq!(judge.hear(&Finding::Up), Some(true));
    }

    #[test]
    fn check_failures_is_how_many_failures_in_a_row_it_takes() {
        let mut judge = judge(Dialect::Statsd, 3);
        assert_eq!(judge.hear(&Finding::Down), Some(true));
        assert_eq!(judge.hear(&Finding::Down), None);
        assert_eq!(judge.hear(&Finding::Up), None);
        assert_eq!(judge.hear(&Finding::Down), None);
        assert_eq!(judge.hear(&Finding::Down), None);
        assert_eq!(judge.hear(&Finding::Down), Some(false));
    }

    #[test]
    fn a_management_port_that_never_answered_means_up_for_go_statsd_proxy_only() {
        let mut go = judge(Dialect::GoStatsdProxy, 1);
        assert_eq!(go.hear(&Finding::Refused), Some(true));
        assert_eq!(go.hear(&Finding::Up), None);
        assert_eq!(go.hear(&Finding::Refused), Some(false));
        assert_eq!(
            judge(Dialect::Statsd, 1).hear(&Finding::Refused),
            Some(false)
        );
    }
}
