//! A proxy between local and global veneurs: sends metrics, and compares what arrived with what the ring says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use shared::{hashing::consistent::ConsistentRing, testing::wire::UdpPeer};
use veneur_proxy::{
    app::{App, Running},
    config::{self, UnknownKeys},
};

use super::{
    consul::Consul,
    global::Global,
    sender::Sender,
    traffic::{self, Way},
};
use crate::{
    patience::{self, PATIENCE},
    scenario::{Outcome, Row, Stand, Tally},
    scrape::Page,
};

/// How many metrics go each way in a scenario.
const METRICS: usize = 10_000;
/// How many of them a local veneur has at the end of an interval.
const FLUSH: usize = 1_000;
/// The family of the members' shares of all keys.
const SHARE: &str = "veneur_proxy_destination_ring_share";
/// When metrics have not come for this long, they are lost.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// A proxy and everything that it talks to.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) globals: Vec<Global>,
    consul: Consul,
    /// Takes the proxy's own numbers.
    _self_metrics: UdpPeer,
    running: Running,
    sender: Sender,
    /// Those of the globals that are members.
    ring: ConsistentRing,
    /// Metrics sent to the proxy so far.
    sent: usize,
}

impl Stage {
    /// Starts a proxy with a configuration file that never was a file. `$SELF_METRICS` in it is an address for those.
    pub(super) async fn start(file: &str, globals: Vec<Global>) -> anyhow::Result<Self> {
        let (consul, self_metrics) = (Consul::start().await?, UdpPeer::bind());
        consul.list(globals.iter().map(Global::label))?;
        let file = file.replace("$SELF_METRICS", &self_metrics.address().to_string());
        let environment = |name: &str| match name {
            "CONSUL_HTTP_ADDR" => Some(consul.address.to_string()),
            _ => None,
        };
        let config = config::load(&file, &environment, None, UnknownKeys::Refuse)?.config;
        let running = App::build(config, &environment).await?.start();
        let listening = running.addresses();
        let sender = Sender::connect(listening.http.as_deref(), listening.grpc.as_deref()).await?;
        let labels: Vec<&str> = globals.iter().map(Global::label).collect();
        let stage = Self {
            ring: ConsistentRing::new(&labels),
            globals,
            consul,
            _self_metrics: self_metrics,
            running,
            sender,
            sent: 0,
        };
        stage.wait_for_members()?;
        Ok(stage)
    }

    /// Has Consul list all globals but one, and waits until the proxy knows.
    pub(super) fn lose(&mut self, place: usize) -> anyhow::Result<()> {
        let lost = self.globals[place].label();
        let members: Vec<&str> = self
            .globals
            .iter()
            .map(Global::label)
            .filter(|label| *label != lost)
            .collect();
        self.consul.list(members.iter().copied())?;
        self.ring.set(&members);
        self.wait_for_members()
    }

    /// Waits until the proxy has the members that it should have. A stream's is one once it is connected.
    fn wait_for_members(&self) -> anyhow::Result<()> {
        patience::until("the proxy to find all members and no others", || {
            let page = self.page()?;
            let as_wanted = self.globals.iter().all(|global| {
                let label = global.label();
                let wanted = self.ring.members().iter().any(|member| member == label);
                let shares: Vec<f64> = ["http", "unary", "stream"]
                    .iter()
                    .filter_map(|protocol| {
                        page.value(&format!(
                            "{SHARE}{{destination=\"{label}\",protocol=\"{protocol}\"}}"
                        ))
                    })
                    .collect();
                // One that leaves has a share of nothing until its queue is empty.
                if wanted {
                    !shares.is_empty() && shares.iter().all(|share| *share > 0.0)
                } else {
                    shares.iter().all(|share| *share == 0.0)
                }
            });
            Ok(as_wanted.then_some(()))
        })
    }

    /// Sends metrics each of the `ways`, waits until the globals have them, and compares each one's mail with what the ring
    /// says. `arrival` says by which way a global gets what was sent by a way.
    pub(super) async fn relay(
        &mut self,
        name: &str,
        ways: &[Way],
        arrival: impl Fn(&Global, Way) -> Way,
    ) -> anyhow::Result<Outcome> {
        let mut expected: Vec<BTreeMap<Way, Tally>> = Vec::new();
        expected.resize_with(self.globals.len(), BTreeMap::new);
        for global in &self.globals {
            global.take();
        }
        let mut took = Duration::ZERO;
        for way in ways {
            let samples = traffic::samples(self.sent..self.sent + METRICS)?;
            for sample in &samples {
                let owner = self.ring.owner(&sample.key).context("an empty ring")?;
                let place = self.place(owner)?;
                let arrives = arrival(&self.globals[place], *way);
                let tally = expected[place].entry(arrives).or_default();
                *tally.entry(sample.bytes(arrives).to_vec()).or_default() += 1;
            }
            self.sent += samples.len();
            let began = Instant::now();
            for flush in samples.chunks(FLUSH) {
                self.sender.flush(*way, flush).await?;
            }
            took += began.elapsed();
        }
        let began = Instant::now();
        let sent = METRICS * ways.len();
        patience::until_count(sent as u64, LOST_AFTER, || {
            self.globals.iter().map(Global::arrived).sum()
        });
        took += began.elapsed();
        let globals = self.globals.iter().zip(&expected);
        let ways: Vec<&str> = ways.iter().map(|way| way.name()).collect();
        Ok(Outcome {
            name: format!("veneur-proxy: {name}"),
            sent: format!(
                "{sent} metrics of {} names by {}",
                traffic::NAMES,
                ways.join(" and ")
            ),
            took,
            rows: globals
                .flat_map(|(global, expected)| rows(global, expected))
                .collect(),
        })
    }

    fn place(&self, label: &str) -> anyhow::Result<usize> {
        let place = self
            .globals
            .iter()
            .position(|global| global.label() == label);
        place.context("the ring has a member that is no global")
    }

    fn page(&self) -> anyhow::Result<Page> {
        let http = self.running.addresses().http.as_deref();
        Page::fetch(http.context("the proxy has no metrics page")?.parse()?)
    }

    /// Leaves the proxy up; its drain shows that it accounts for every metric.
    pub(super) fn stand(self, name: &str) -> Stand {
        let addresses = self.running.addresses();
        let http = addresses.http.iter().flat_map(|address| {
            [
                ("HTTP", format!("http://{address}/import")),
                ("metrics", format!("http://{address}/metrics")),
                ("health", format!("http://{address}/healthcheck/ready")),
            ]
        });
        let grpc = addresses
            .grpc
            .iter()
            .map(|address| ("gRPC", address.clone()));
        let consul = [("Consul", format!("http://{}", self.consul.address))];
        let globals = self
            .globals
            .iter()
            .map(|global| ("global veneur", global.label().to_owned()));
        Stand {
            name: format!("veneur-proxy: {name}"),
            addresses: http
                .chain(grpc)
                .chain(consul)
                .chain(globals)
                .map(|(what, place)| (what.to_owned(), place))
                .collect(),
            drain: Box::pin(self.drain(format!("veneur-proxy: drain of the {name}"))),
        }
    }

    async fn drain(self, name: String) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let summary = tokio::time::timeout(PATIENCE * 2, self.running.drain())
            .await
            .context("the proxy does not end")?;
        let sent = self.sent as u64;
        Ok(Outcome {
            name,
            sent: format!("{sent} metrics since its start; drained"),
            took: began.elapsed(),
            rows: vec![
                // Somebody may have sent more while it was left running.
                Row {
                    astray: 0,
                    ..Row::count("received by the proxy", sent, summary.received)
                },
                Row::count("delivered = received", summary.received, summary.delivered),
                Row::count("lost with a reason", 0, summary.lost),
            ],
        })
    }
}

/// A row for each way by which metrics came to a global, or should have.
fn rows(global: &Global, expected: &BTreeMap<Way, Tally>) -> Vec<Row> {
    let (mail, nothing) = (global.take(), Tally::new());
    let ways: BTreeSet<Way> = mail.keys().chain(expected.keys()).copied().collect();
    if ways.is_empty() {
        return vec![Row::count(format!("{} (no member)", global.label()), 0, 0)];
    }
    let row = |way: Way| {
        let place = format!("{} {}", global.label(), way.name());
        let expected = expected.get(&way).unwrap_or(&nothing);
        Row::compare(place, expected, mail.get(&way).unwrap_or(&nothing))
    };
    ways.into_iter().map(row).collect()
}
