//! All groups: what queries and the API ask, and what a reload replaces.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, header};
use promql::{
    parser::{Matcher, ParserOptions, parse},
    storage::BoxFuture,
};
use shared::{
    http::client::{Client, Idle, Settings},
    lifecycle::Tasks,
    metrics::{Family, MetricFamily, Source as MetricSource},
};
use tokio::sync::watch;

use super::{
    group::{Group, first_of_each},
    keeper,
    member::{Asked as Query, Common, Listed, Member},
    metrics::Counters,
    scatter,
    time_range::Grid,
    unite::{exemplars, parts, united},
};
use crate::{
    config::{Config, HttpClient, Pool, ServerGroup},
    discovery::{Environment, Following, client_settings},
    labels::{Labels, metric_relabel},
    merge,
    series::{Column, Native, Samples},
    upstream::{Answer, Asked, Asker, Asking, Exemplars, Metadata, Part, Upstream, UpstreamError},
};

/// The server groups of a configuration, and the tasks that keep their targets. Clones are handles on the same groups.
#[derive(Clone)]
pub struct Groups(Arc<Inner>);

struct Inner {
    current: ArcSwap<Running>,
    counters: Arc<Counters>,
    tasks: Tasks,
    environment: Environment,
    /// Bumped whenever the targets of some group have changed, or the groups themselves.
    changed: watch::Sender<u64>,
}

/// Groups and what keeps them.
struct Running {
    groups: Vec<Arc<Group>>,
    sources: Vec<Arc<Following>>,
    tasks: Tasks,
}

/// Groups of a configuration that were made and do nothing yet.
pub struct Prepared {
    groups: Vec<Arc<Group>>,
    sources: Vec<Arc<Following>>,
}

/// Why a group cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("promxy.server_groups[{ordinal}]: {reason}")]
pub struct PrepareError {
    /// The group's place.
    pub ordinal: usize,
    /// What is wrong with its client or its discovery.
    pub reason: String,
}

/// A group that does not know its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// The group's place.
    pub ordinal: usize,
    /// Its name, which may be empty.
    pub name: String,
    /// Why it has none: discovery has not answered, or what it says cannot be used.
    pub reason: String,
}

impl Groups {
    /// Makes the groups of a configuration and starts to keep their targets. Targets that stand in the file are there at once.
    ///
    /// Must be called within a runtime. All tasks belong to a child of `tasks`, so stopping that ends them.
    pub fn start(
        config: &Config,
        environment: Environment,
        tasks: &Tasks,
    ) -> Result<Self, PrepareError> {
        let groups = Self(Arc::new(Inner {
            current: ArcSwap::from_pointee(Running {
                groups: Vec::new(),
                sources: Vec::new(),
                tasks: tasks.child(),
            }),
            counters: Arc::default(),
            tasks: tasks.child(),
            environment,
            changed: watch::Sender::new(0),
        }));
        let prepared = groups.prepare(config)?;
        groups.switch(prepared);
        Ok(groups)
    }

    /// Makes the groups of another configuration, without any effect yet: whatever can be wrong with them is found here.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, PrepareError> {
        let running = self.0.current.load_full();
        let mut prepared = Prepared {
            groups: Vec::with_capacity(config.server_groups.len()),
            sources: Vec::with_capacity(config.server_groups.len()),
        };
        for (ordinal, group) in config.server_groups.iter().enumerate() {
            let failed = |reason: String| PrepareError { ordinal, reason };
            let common = self.common(ordinal, group, &running).map_err(failed)?;
            prepared.groups.push(Arc::new(Group::new(common)));
            let same = |source: &&Arc<Following>| source.is_of(&group.discovery);
            // With what it knows, so that a reload loses no targets (S7).
            let source = match running.sources.iter().find(same) {
                Some(source) => Arc::clone(source),
                None => Arc::new(self.follow(group).map_err(failed)?),
            };
            prepared.sources.push(source);
        }
        Ok(prepared)
    }

    /// Lets prepared groups take the place of those that are there. Requests on their way end with the old ones.
    pub fn switch(&self, prepared: Prepared) {
        let Prepared { groups, sources } = prepared;
        let tasks = self.0.tasks.child();
        for (group, source) in groups.iter().zip(&sources) {
            keeper::keep(group, source, &tasks, &self.0.changed);
        }
        let running = Running {
            groups,
            sources,
            tasks,
        };
        let before = self.0.current.swap(Arc::new(running));
        before.tasks.stop();
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// Lists the groups that do not know their targets yet.
    pub fn not_ready(&self) -> Vec<NotReady> {
        let running = self.0.current.load();
        let waiting = running.groups.iter().filter_map(|group| {
            let state = group.state();
            let reason = state.problem.clone().filter(|_| !state.has_begun)?;
            Some(NotReady {
                ordinal: group.common.ordinal,
                name: group.common.config.name.clone(),
                reason,
            })
        });
        waiting.collect()
    }

    /// Waits until all groups know their targets. Cancel-safe; has no limit of its own.
    pub async fn ready(&self) {
        let mut changes = self.0.changed.subscribe();
        while !self.not_ready().is_empty() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends all tasks of the groups. Requests on their way go on.
    pub fn stop(&self) {
        self.0.current.load().tasks.stop();
        self.0.tasks.stop();
    }

    /// Starts the discovery of a group, which ends with the last group that follows it.
    fn follow(&self, group: &ServerGroup) -> Result<Following, String> {
        let Inner {
            environment, tasks, ..
        } = &*self.0;
        Following::start(&group.name, &group.discovery, environment, tasks)
            .map_err(|error| error.to_string())
    }

    /// Makes what the targets of a group have in common.
    fn common(
        &self,
        ordinal: usize,
        group: &ServerGroup,
        running: &Running,
    ) -> Result<Common, String> {
        let known = running.groups.iter().find(|known| {
            let config = &known.common.config;
            config.http_client == group.http_client && config.pool == group.pool
        });
        let client = match known {
            Some(known) => known.common.client.clone(),
            None => client(&group.http_client, group.pool, &self.0.environment)?,
        };
        let mut headers = Vec::with_capacity(group.http_headers.len());
        for (name, value) in &group.http_headers {
            let parsed = name.parse::<HeaderName>().ok();
            let pair = parsed.zip(HeaderValue::from_str(value.reveal()).ok());
            let (header, mut value) =
                pair.ok_or_else(|| format!("http_headers: {name:?} is no header"))?;
            value.set_sensitive(true);
            // The connection's own; the original has no say in it either.
            if header != header::HOST {
                headers.push((header, value));
            }
        }
        let params = group.query_params.iter();
        let params = params.map(|(name, value)| (name.clone(), value.reveal().to_owned()));
        Ok(Common {
            ordinal,
            client,
            headers,
            params: params.collect(),
            counters: Arc::clone(&self.0.counters),
            config: group.clone(),
        })
    }
}

/// Makes the client of a group.
fn client(
    http_client: &HttpClient,
    pool: Pool,
    environment: &Environment,
) -> Result<Client, String> {
    let settings = client_settings(http_client, environment).map_err(|e| e.to_string())?;
    let settings = Settings {
        idle: Idle {
            connections: pool.max_idle,
            per_host: pool.max_idle_per_host,
            timeout: pool.idle_timeout,
        },
        ..settings
    };
    let tls = settings.tls.clone();
    Client::new(settings).map_err(|error| {
        // The original says so of certificates.
        let is_tls = shared::tls::client::Client::new(&tls).is_err();
        let what = if is_tls {
            "error loading TLS client config: "
        } else {
            ""
        };
        format!("{what}{error}")
    })
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.0.current.load();
        f.debug_tuple("Groups").field(&running.groups).finish()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Prepared").field(&self.groups).finish()
    }
}

impl MetricSource for Groups {
    fn families(&self) -> Vec<MetricFamily> {
        let mut targets = Family::gauge(
            "server_group_targets",
            "Number of targets currently discovered for a server group.",
        );
        for group in &self.0.current.load().groups {
            let ordinal = group.common.ordinal.to_string();
            let labels = [
                ("name", group.common.config.name.as_str()),
                ("ordinal", ordinal.as_str()),
            ];
            targets = targets.sample(&labels, group.state().members.len() as f64);
        }
        let mut families = self.0.counters.families();
        families.push(targets.build());
        families
    }
}

impl Running {
    /// Asks every group about each selector, all at once.
    async fn of_each<'r, T>(
        &'r self,
        asked: &'r Asked,
        ask: impl Fn(&'r Group, Listed<'r>) -> BoxFuture<'r, Result<T, UpstreamError>>,
    ) -> Result<Vec<T>, UpstreamError> {
        let all = listed(asked).into_iter();
        let asking = all.flat_map(|listed| {
            let groups = self.groups.iter();
            groups.map(move |group| (group, listed))
        });
        scatter::groups(asking.map(|(group, listed)| ask(group, listed)).collect()).await
    }
}

/// Lists what is asked for each selector, and without any for all series.
fn listed(asked: &Asked) -> Vec<Listed<'_>> {
    let (start, end) = (asked.start, asked.end);
    let one = |selector| Listed {
        selector,
        start,
        end,
    };
    if asked.selectors.is_empty() {
        return vec![one(None)];
    }
    let selectors = asked.selectors.iter();
    selectors
        .map(|matchers| one(Some(matchers.as_slice())))
        .collect()
}

impl Upstream for Groups {
    fn query<'a>(
        &'a self,
        text: &'a str,
        grid: Grid,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Column<Native>>>>> {
        Box::pin(async move {
            let running = self.0.current.load_full();
            let expr = parse(text, &ParserOptions::v3_5().with_all_features()).ok();
            let written = expr.as_ref().map(ToString::to_string);
            let asked = Query {
                text: written.as_deref().unwrap_or(text),
                expr: expr.as_ref(),
                grid,
            };
            let asking = running.groups.iter();
            let asking =
                asking.map(|group| -> BoxFuture<'_, _> { Box::pin(group.query(asked, asker)) });
            Ok(parts(scatter::groups(asking.collect()).await?))
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
            let running = self.0.current.load_full();
            let asking = running.groups.iter();
            let asking = asking.map(|group| -> BoxFuture<'_, _> {
                Box::pin(group.raw(matchers, start, end, asker))
            });
            Ok(parts(scatter::groups(asking.collect()).await?))
        })
    }

    fn series<'a>(&'a self, asked: &'a Asked, asker: &'a Asker) -> Asking<'a, Answer<Vec<Labels>>> {
        Box::pin(async move {
            let running = self.0.current.load_full();
            let answers =
                running.of_each(asked, |group, listed| Box::pin(group.series(listed, asker)));
            Ok(united(answers.await?, merge::label_sets))
        })
    }

    fn label_names<'a>(
        &'a self,
        asked: &'a Asked,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<String>>> {
        Box::pin(async move {
            let running = self.0.current.load_full();
            let answers = running.of_each(asked, |group, listed| {
                Box::pin(group.label_names(listed, asker))
            });
            Ok(united(answers.await?, merge::words))
        })
    }

    fn label_values<'a>(
        &'a self,
        label: &'a str,
        asked: &'a Asked,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<String>>> {
        Box::pin(async move {
            let running = self.0.current.load_full();
            let answers = running.of_each(asked, |group, listed| {
                Box::pin(group.label_values(label, listed, asker))
            });
            Ok(united(answers.await?, merge::words))
        })
    }

    fn metadata<'a>(
        &'a self,
        metric: &'a str,
        limit: Option<u64>,
        asker: &'a Asker,
    ) -> Asking<'a, Vec<(String, Vec<Metadata>)>> {
        Box::pin(async move {
            let running = self.0.current.load_full();
            let asking = running.groups.iter();
            let asking =
                asking.map(|group| -> BoxFuture<'_, _> { Box::pin(group.metadata(metric, asker)) });
            let all = first_of_each(scatter::groups(asking.collect()).await?);
            let most = limit.map_or(usize::MAX, |limit| {
                usize::try_from(limit).unwrap_or(usize::MAX)
            });
            Ok(all.into_iter().take(most).collect())
        })
    }

    fn exemplars<'a>(&'a self, asked: &'a Asked, asker: &'a Asker) -> Asking<'a, Vec<Exemplars>> {
        Box::pin(async move {
            let running = self.0.current.load_full();
            let answers = running.of_each(asked, |group, listed| {
                Box::pin(group.exemplars(listed, asker))
            });
            Ok(exemplars(answers.await?.into_iter().flatten()))
        })
    }

    fn loses_labels(&self) -> bool {
        let running = self.0.current.load();
        let mut groups = running.groups.iter();
        groups.any(|group| !metric_relabel::lost(&group.common.config.metrics_relabel).is_empty())
    }

    fn changes_label(&self, name: &str) -> bool {
        let running = self.0.current.load();
        let mut groups = running.groups.iter();
        groups.any(|group| {
            let is_added = |member: &Arc<Member>| member.target.labels.iter().any(|l| l.0 == name);
            metric_relabel::concerns(&group.common.config.metrics_relabel, name)
                || group.state().members.iter().any(is_added)
        })
    }

    fn is_histogram(&self, metric: &str) -> bool {
        let running = self.0.current.load();
        let mut groups = running.groups.iter();
        groups.any(|group| group.histograms.load().contains(metric))
    }

    fn lossy_groups(&self, selectors: &[&[Matcher]]) -> Vec<usize> {
        let running = self.0.current.load();
        let lossy = running.groups.iter().filter(|group| {
            let config = &group.common.config;
            let is_lossy = config.remote_read.is_none() && !config.allow_lossy_histograms;
            is_lossy && selectors.iter().any(|matchers| group.can_answer(matchers))
        });
        lossy.map(|group| group.common.ordinal).collect()
    }
}
