//! A proxy between senders and backends: sends lines, and compares what arrived with what a [`Placement`] says.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::Value;
use statsd_proxy::{
    app::{App, Running},
    config::{Config, Dialect, parse},
    placement::Placement,
    resolve::Resolver,
};

use super::{
    backend::Backend,
    traffic::{self, Line},
};
use crate::{
    patience::{self, PATIENCE},
    scenario::{Outcome, Row, Stand, Tally},
    scrape::Page,
};

/// The sample of lines that are no metrics.
const MALFORMED: &str = "statsd_proxy_lines_dropped_total{reason=\"malformed\"}";

/// A proxy, its configuration, and its backends.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) backends: Vec<Backend>,
    config: Config,
    running: Running,
    /// How many nodes take each line.
    copies: u64,
    /// Lines sent to the proxy so far.
    sent: u64,
    /// Those of them that are no metrics.
    malformed: u64,
}

/// How lines travel to the proxy.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// Datagrams of one line and of many.
    Udp,
    /// One connection.
    Tcp,
}

/// Reads a configuration file that never was a file.
pub(super) fn config(document: &Value) -> anyhow::Result<Config> {
    Ok(parse(&document.to_string(), Dialect::GoStatsdProxy, None)?.config)
}

impl Stage {
    /// Starts a proxy that sends each line to `copies` of the backends.
    pub(super) async fn start(
        document: &Value,
        backends: Vec<Backend>,
        copies: u64,
    ) -> anyhow::Result<Self> {
        let config = config(document)?;
        let app = App::build(config.clone(), Resolver::system()).await?;
        Ok(Self {
            backends,
            config,
            running: app.start(None).await?,
            copies,
            sent: 0,
            malformed: 0,
        })
    }

    /// Has the proxy take up another configuration, as SIGHUP does.
    pub(super) async fn reload(&mut self, document: &Value) -> anyhow::Result<()> {
        self.config = config(document)?;
        self.running.apply(self.config.clone()).await;
        Ok(())
    }

    /// Returns where lines go as configured.
    pub(super) fn placement(&self) -> Placement {
        Placement::new(&self.config)
    }

    /// Returns where lines go once the ring has closed over the place of `node`.
    pub(super) fn placement_without(&self, node: &str) -> Placement {
        let mut config = self.config.clone();
        for group in &mut config.groups {
            group.nodes.retain(|member| member.label != node);
        }
        Placement::new(&config)
    }

    /// Waits until a backend's place in a ring is as wanted: see [`Place`].
    pub(super) fn wait_for_place(&self, backend: &Backend, place: Place) -> anyhow::Result<()> {
        let node = backend.label();
        // A node that is down has no share, and neither has one that the configuration does not know.
        let share = format!("statsd_proxy_ring_share{{group=\"nodes\",node=\"{node}\"}}");
        let up = format!("statsd_proxy_node_up{{node=\"{node}\"}}");
        patience::until(&format!("the proxy to find {node} {place:?}"), || {
            let page = self.page()?;
            let found = match (page.value(&up), page.value(&share)) {
                (Some(1.0), Some(_)) => Place::Up,
                (Some(0.0), None) => Place::Down,
                (None, None) => Place::Unknown,
                _ => return Ok(None),
            };
            Ok((found == place).then_some(()))
        })
    }

    /// Sends `lines`, waits until the backends have them, and compares each backend's mail with what `placement` says.
    pub(super) fn relay(
        &mut self,
        name: &str,
        lines: &[Line],
        way: Way,
        placement: &Placement,
    ) -> anyhow::Result<Outcome> {
        let (expected, deliveries) = traffic::expect(lines, placement);
        let malformed = lines.iter().filter(|line| line.key.is_none()).count() as u64;
        self.sent += lines.len() as u64;
        self.malformed += malformed;
        let addresses = self.running.addresses().clone();
        let backends = &mut self.backends;
        backends.iter_mut().for_each(Backend::forget);
        let arrived = || backends.iter_mut().map(Backend::arrived).sum();
        let began = Instant::now();
        let by = match way {
            Way::Udp => {
                let proxy = addresses.udp.context("the proxy takes no UDP")?;
                let datagrams = traffic::send_datagrams(lines, proxy, self.copies, arrived)?;
                format!("in {datagrams} datagrams")
            }
            Way::Tcp => {
                let proxy = addresses.tcp.context("the proxy takes no TCP")?;
                traffic::send_stream(lines, proxy, self.copies, arrived)?;
                "over one connection".to_owned()
            }
        };
        let took = began.elapsed();
        let nothing = Tally::new();
        let mut rows: Vec<Row> = self
            .backends
            .iter_mut()
            .map(|backend| {
                let expected = expected.get(backend.label()).unwrap_or(&nothing);
                backend.compare(expected)
            })
            .collect();
        let dropped = self.wait_for_malformed()?;
        let before = self.malformed - malformed;
        rows.push(Row::count(
            "dropped: no metric",
            malformed,
            dropped.saturating_sub(before),
        ));
        Ok(Outcome {
            name: format!("statsd-proxy: {name}"),
            sent: format!(
                "{} lines of {} names {by}, {deliveries} deliveries",
                lines.len(),
                traffic::NAMES
            ),
            took,
            rows,
        })
    }

    /// Returns how many lines the proxy has dropped as no metrics, once they are as many as were sent.
    fn wait_for_malformed(&self) -> anyhow::Result<u64> {
        let mut page = Ok(0);
        patience::until_count(self.malformed, Duration::from_secs(1), || {
            page = self
                .page()
                .map(|page| page.value(MALFORMED).unwrap_or(0.0) as u64);
            *page.as_ref().unwrap_or(&0)
        });
        page
    }

    fn page(&self) -> anyhow::Result<Page> {
        let metrics = self.running.addresses().metrics;
        Page::fetch(metrics.context("the proxy has no metrics page")?)
    }

    /// Leaves the proxy up; its drain shows that it accounts for every line.
    pub(super) fn stand(self, name: &str) -> Stand {
        let addresses = self.running.addresses();
        let shown = |address: Option<SocketAddr>, scheme: &str, path: &str| {
            address.map(|address| format!("{scheme}{address}{path}"))
        };
        let own = [
            ("lines by UDP", shown(addresses.udp, "", "")),
            ("lines by TCP", shown(addresses.tcp, "", "")),
            (
                "management console (TCP)",
                shown(addresses.management, "", ""),
            ),
            ("metrics", shown(addresses.metrics, "http://", "/metrics")),
        ];
        let own = own
            .into_iter()
            .filter_map(|(what, place)| Some((what.to_owned(), place?)));
        let backends = self.backends.iter().map(|backend| {
            (
                format!("backend ({})", backend.how()),
                backend.label().to_owned(),
            )
        });
        Stand {
            name: format!("statsd-proxy: {name}"),
            addresses: own.chain(backends).collect(),
            drain: Box::pin(self.drain(format!("statsd-proxy: drain of the {name}"))),
        }
    }

    async fn drain(self, name: String) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let summary = tokio::time::timeout(PATIENCE * 2, self.running.drain())
            .await
            .context("the proxy does not end")?;
        // Somebody may have sent more while it was left running, so these two are what there is at least.
        let at_least = |place: &str, expected: u64, arrived: u64| Row {
            astray: 0,
            ..Row::count(place, expected, arrived)
        };
        let relayed = summary.received.saturating_sub(summary.dropped);
        let sent_place = match self.copies {
            1 => "sent to nodes = received - dropped".to_owned(),
            copies => format!("sent to nodes = {copies} * (received - dropped)"),
        };
        Ok(Outcome {
            name,
            sent: format!("{} lines since its start; drained", self.sent),
            took: began.elapsed(),
            rows: vec![
                at_least("received by the proxy", self.sent, summary.received),
                at_least("dropped with a reason", self.malformed, summary.dropped),
                Row::count(sent_place, relayed * self.copies, summary.sent),
            ],
        })
    }
}

/// A node's place in the ring, as the metrics page shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It takes its share.
    Up,
    /// It is configured, found down, and has no share.
    Down,
    /// It is not configured.
    Unknown,
}
