//! polymur-proxy's part of the demo: lines to an HTTPS gateway, which is stopped in the middle and comes back.

mod gateway;

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use polymur_proxy::{
    app::{App, Running},
    config::Config,
    flags::Flags,
};
use shared::testing::pki::{Issued, named};
use tempfile::TempDir;

use self::gateway::{Gateway, KEY};
use crate::{
    patience::{self, PATIENCE},
    scenario::{Outcome, Row, Sink, Stand},
    scrape::Page,
};

const LINES: u64 = 50_000;
const CONNECTIONS: u64 = 4;
/// Nothing arrives for as long as this: what is missing is lost.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Goes through all scenarios. The proxy that comes back is still up.
pub(crate) async fn exercise(report: Sink<'_>) -> anyhow::Result<Vec<Stand>> {
    let mut stage = Stage::start().await?;
    let began = Instant::now();
    stage.send(0..LINES)?;
    report(stage.outcome("batches over HTTPS", 0..LINES, began));

    let began = Instant::now();
    let (before, during) = (LINES..LINES * 3 / 2, LINES * 3 / 2..LINES * 2);
    stage.send(before)?;
    stage.gateway.stop().await?;
    stage.send(during)?;
    stage.wait_for_refusals()?;
    stage.gateway.resume().await?;
    let name = "the gateway stopped in the middle, and back";
    report(stage.outcome(name, LINES..LINES * 2, began));
    Ok(vec![stage.stand()])
}

/// A proxy and its gateway.
struct Stage {
    gateway: Gateway,
    running: Running,
    /// Certificates and the spool.
    _folder: TempDir,
}

impl Stage {
    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let certificate = Issued::by_itself(&named(&["localhost", "127.0.0.1"]));
        let identity = certificate.write(folder.path(), "gateway");
        let gateway = Gateway::start(identity).await?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let anywhere = || "127.0.0.1:0".to_owned();
        let flags = Flags {
            gateway: format!("https://localhost:{}", gateway.address.port()),
            api_key: KEY.to_owned(),
            cert: path("gateway.pem"),
            listen_addr: anywhere(),
            stat_addr: anywhere(),
            metrics_addr: anywhere(),
            spool_dir: path("spool"),
            verbose: false,
            ..Flags::defaults()
        };
        let app = App::build(Config::new(&flags)?)?;
        app.ping().await?;
        Ok(Self {
            gateway,
            running: app.start().await?,
            _folder: folder,
        })
    }

    /// Sends numbered lines over some connections.
    fn send(&self, numbers: Range<u64>) -> anyhow::Result<()> {
        let share = (numbers.end - numbers.start) / CONNECTIONS;
        for connection in 0..CONNECTIONS {
            let start = numbers.start + connection * share;
            let lines: String = (start..start + share)
                .map(|number| line(number) + "\n")
                .collect();
            let mut stream = TcpStream::connect(self.running.addresses().tcp)?;
            stream.write_all(lines.as_bytes())?;
        }
        Ok(())
    }

    /// Waits until the proxy has noticed that the gateway is gone.
    fn wait_for_refusals(&self) -> anyhow::Result<()> {
        const SAMPLE: &str = "polymur_proxy_batch_retries_total{reason=\"connect\"}";
        let metrics = self.metrics()?;
        patience::until("a refused connection", || {
            let refused = Page::fetch(metrics)?.value(SAMPLE);
            Ok(refused.filter(|refused| *refused > 0.0).map(drop))
        })
    }

    fn metrics(&self) -> anyhow::Result<SocketAddr> {
        let metrics = self.running.addresses().metrics;
        metrics.context("the proxy has no metrics page")
    }

    /// Waits for the lines and compares.
    fn outcome(&self, name: &str, numbers: Range<u64>, began: Instant) -> Outcome {
        let expected = numbers.end - numbers.start;
        patience::until_count(expected, GIVE_UP, || self.gateway.arrived());
        let mut mail = self.gateway.take();
        let arrived = numbers
            .filter(|number| mail.remove(&line(*number)).is_some())
            .count() as u64;
        let row = Row {
            place: format!("gateway, in {} batches so far", self.gateway.batches()),
            expected,
            arrived,
            lost: expected - arrived,
            // What is left was never sent.
            astray: mail.len() as u64,
        };
        Outcome {
            name: format!("polymur-proxy: {name}"),
            sent: format!("{expected} lines over {CONNECTIONS} connections at a time"),
            took: began.elapsed(),
            rows: vec![
                row,
                Row::count("refused by the gateway", 0, self.gateway.refused()),
            ],
        }
    }

    /// Leaves the proxy up; its drain shows that it accounts for every line.
    fn stand(self) -> Stand {
        let addresses = self.running.addresses();
        let mut shown = vec![
            ("lines by TCP".to_owned(), addresses.tcp.to_string()),
            ("runstats (TCP)".to_owned(), addresses.stat.to_string()),
        ];
        if let Some(metrics) = addresses.metrics {
            shown.push(("metrics".to_owned(), format!("http://{metrics}/metrics")));
        }
        shown.push((
            "gateway (HTTPS)".to_owned(),
            format!("https://{}", self.gateway.address),
        ));
        Stand {
            name: "polymur-proxy".to_owned(),
            addresses: shown,
            drain: Box::pin(self.drain()),
        }
    }

    async fn drain(mut self) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let summary = tokio::time::timeout(PATIENCE * 2, self.running.drain())
            .await
            .context("the proxy does not end")?;
        self.gateway.stop().await?;
        // Somebody may have sent more while it was left running, so this is what there is at least.
        let received = Row {
            astray: 0,
            ..Row::count("received by the proxy", LINES * 2, summary.taken)
        };
        Ok(Outcome {
            name: "polymur-proxy: drain".to_owned(),
            sent: format!("{} lines since its start; drained", LINES * 2),
            took: began.elapsed(),
            rows: vec![
                received,
                Row::count("sent to the gateway", summary.taken, summary.sent),
                Row::count(
                    "dropped, or left on disk",
                    0,
                    summary.dropped + summary.spooled,
                ),
            ],
        })
    }
}

fn line(number: u64) -> String {
    format!(
        "demo.host{}.metric{number} {number} {}",
        number % 100,
        1_700_000_000 + number
    )
}
