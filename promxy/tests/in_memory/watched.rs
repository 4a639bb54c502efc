//! Two groups that remember what they were asked, and do with it as a test says.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use promql::{
    parser::{Matcher, ParserOptions},
    testing::{Command, MemoryStorage, Script},
};
use promxy::{
    api::write_json,
    config::Groups,
    labels::Labels,
    query::{Limits, Outcome, Queries, QueryFailure, Settings},
    series::{Column, Native, Samples},
    servergroup::time_range::Grid,
    upstream::{
        Answer, Asked, Asker, Asking, Exemplars, FailureKind, Metadata, Part, Upstream,
        UpstreamError,
    },
};
use tokio::{runtime::Runtime, sync::Barrier};

use super::{Group, Servers, ask, source};

pub(crate) const PARSER: ParserOptions = ParserOptions::v3_5();

/// Two groups, each with a series of its own labels.
const AZ: [(&str, &str); 2] = [
    (
        "0",
        "load 1m\n a{i=\"1\"} 0+1x20\n b{i=\"1\"} 5x20\n c 1x20\n d_total 0+6x20\n h{i=\"1\"} {{schema:0 count:2 sum:3 buckets:[1 1]}}x20",
    ),
    (
        "1",
        "load 1m\n a{i=\"1\"} 0+2x20\n b{i=\"2\"} 7x20\n c 1x20\n d_total 0+12x20\n h{i=\"1\"} {{schema:0 count:4 sum:6 buckets:[1 3]}}x20",
    ),
];

pub(crate) const NOW: Grid = Grid {
    start: 600_000,
    end: 600_000,
    step: 0,
};

fn storage(script: &str) -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    for command in Script::parse(script).unwrap().commands {
        if let Command::Load(load) = command {
            storage.load(&load);
        }
    }
    storage
}

pub(crate) fn servers(with_labels: bool) -> Servers {
    let groups = AZ.iter().map(|(az, script)| Group {
        labels: if with_labels {
            [("az", az)].into_iter().collect()
        } else {
            Labels::empty()
        },
        replicas: vec![storage(script)],
    });
    Servers::new(groups.collect(), PARSER)
}

/// What is done with a request before it is answered.
pub(crate) enum Then {
    Answer,
    Fail(FailureKind),
    Hang,
}

/// Groups that remember what they were asked, and do as a test says.
pub(crate) struct Watched {
    servers: Servers,
    pub(crate) asked: Mutex<Vec<String>>,
    then: Box<dyn Fn(&str) -> Then + Send + Sync>,
    /// All requests wait here for each other.
    pub(crate) together: Option<Barrier>,
    pub(crate) histogram: &'static str,
    pub(crate) loses_labels: bool,
    pub(crate) changed_label: &'static str,
}

impl Watched {
    pub(crate) fn new(then: impl Fn(&str) -> Then + Send + Sync + 'static) -> Self {
        Self {
            servers: servers(true),
            asked: Mutex::default(),
            then: Box::new(then),
            together: None,
            histogram: "",
            loses_labels: false,
            changed_label: "none",
        }
    }

    pub(crate) fn asked(&self) -> BTreeSet<String> {
        let asked = self.asked.lock().unwrap();
        let once: BTreeSet<String> = asked.iter().cloned().collect();
        assert_eq!(once.len(), asked.len(), "asked twice: {asked:?}");
        once
    }

    async fn asking(&self, text: String) -> Result<(), UpstreamError> {
        let then = (self.then)(&text);
        self.asked.lock().unwrap().push(text);
        if let Some(together) = &self.together {
            together.wait().await;
        }
        match then {
            Then::Answer => Ok(()),
            Then::Fail(kind) => Err(UpstreamError {
                kind,
                message: "error in servergroup ord=1: boom".to_owned(),
            }),
            Then::Hang => pending().await,
        }
    }
}

impl Upstream for Watched {
    fn query<'a>(
        &'a self,
        text: &'a str,
        grid: Grid,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Column<Native>>>>> {
        Box::pin(async move {
            self.asking(format!("{text} {}..{}", grid.start / 1000, grid.end / 1000))
                .await?;
            Upstream::query(&self.servers, text, grid, asker).await
        })
    }

    fn raw<'a>(
        &'a self,
        matchers: &'a [Matcher],
        start: i64,
        end: i64,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Samples<Native>>>>> {
        Box::pin(async move {
            let matchers_text: Vec<String> = matchers.iter().map(ToString::to_string).collect();
            self.asking(format!("raw {} {start}..{end}", matchers_text.join(",")))
                .await?;
            Upstream::raw(&self.servers, matchers, start, end, asker).await
        })
    }

    fn series<'a>(&'a self, asked: &'a Asked, asker: &'a Asker) -> Asking<'a, Answer<Vec<Labels>>> {
        self.servers.series(asked, asker)
    }

    fn label_names<'a>(
        &'a self,
        asked: &'a Asked,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<String>>> {
        self.servers.label_names(asked, asker)
    }

    fn label_values<'a>(
        &'a self,
        label: &'a str,
        asked: &'a Asked,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<String>>> {
        self.servers.label_values(label, asked, asker)
    }

    fn metadata<'a>(
        &'a self,
        metric: &'a str,
        limit: Option<u64>,
        asker: &'a Asker,
    ) -> Asking<'a, Vec<(String, Vec<Metadata>)>> {
        self.servers.metadata(metric, limit, asker)
    }

    fn exemplars<'a>(&'a self, asked: &'a Asked, asker: &'a Asker) -> Asking<'a, Vec<Exemplars>> {
        self.servers.exemplars(asked, asker)
    }

    fn loses_labels(&self) -> bool {
        self.loses_labels
    }

    fn changes_label(&self, name: &str) -> bool {
        name == self.changed_label || Upstream::changes_label(&self.servers, name)
    }

    fn is_histogram(&self, metric: &str) -> bool {
        metric == self.histogram
    }

    fn lossy_groups(&self, selectors: &[&[Matcher]]) -> Vec<usize> {
        if self.histogram.is_empty() {
            return Vec::new();
        }
        // The first group has a label that a matcher can exclude.
        let excludes = |matchers: &[Matcher]| matchers.iter().any(|m| m.to_string() == "az=\"1\"");
        if selectors.iter().all(|matchers| excludes(matchers)) {
            vec![1]
        } else {
            vec![0, 1]
        }
    }
}

pub(crate) fn limited(upstream: Arc<dyn Upstream>, limits: Limits) -> Queries {
    let settings = Settings {
        parser: PARSER,
        lookback: Duration::from_secs(300),
        limits,
    };
    Queries::new(settings, source(upstream, Groups::Overlapping))
}

pub(crate) fn answer(queries: &Queries, text: &str) -> Result<Outcome, QueryFailure> {
    ask(&Runtime::new().unwrap(), queries, text, NOW)
}

pub(crate) fn value(queries: &Queries, text: &str) -> String {
    write_json::value(&answer(queries, text).unwrap().value)
}
