//! One target of a group: what it is asked, and what is made of its answers.
//!
//! A request passes, from outside in: the label filter, the rules for metrics backward, the added labels, injected matchers, the
//! windows of time; the answer the other way round. All errors name the target.

mod lists;
mod query;
mod read;
mod send;
mod short;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use shared::http::client::Client;
use tokio::{sync::Semaphore, time::timeout_at};

use super::{
    body::BodyError,
    decode::{DecodeError, Shape},
    metrics::{Counters, Filtered, HostCounters, Outcome},
    request::Call,
    targets::Target,
};
use crate::{
    config::ServerGroup,
    labels::filter::LabelFilter,
    plan::TargetRules,
    upstream::{Asker, FailureKind, UpstreamError},
};

pub(crate) use lists::Listed;
pub(crate) use query::Asked;
use short::ShortAnswers;

/// How many requests to one target there may be at a time; more wait.
const AT_A_TIME: usize = 256;

/// What all targets of a group have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) ordinal: usize,
    pub(crate) config: ServerGroup,
    pub(crate) client: Client,
    /// Headers of every request, which replace those of the client's request.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Parameters of every request.
    pub(crate) params: Vec<(String, String)>,
    pub(crate) counters: Arc<Counters>,
}

/// A target that can be asked.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) common: Arc<Common>,
    pub(crate) target: Target,
    /// How it is called in errors.
    name: String,
    shape: Shape,
    /// What it has; nothing means that this is not known.
    pub(crate) filter: ArcSwapOption<LabelFilter>,
    host: Arc<HostCounters>,
    short_answers: ShortAnswers,
    permits: Semaphore,
}

/// What went wrong with a request, before the target is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        let kind = match error {
            BodyError::OverBudget(_) => FailureKind::TooMuch,
            _ => FailureKind::Execution,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        const TOO_MANY: &str =
            "query processing would load too many samples into memory in query execution";
        match &error {
            DecodeError::Api { kind, .. } if kind == "timeout" || kind == "canceled" => {
                Self::new(FailureKind::Timeout, error.to_string())
            }
            DecodeError::TooManySamples(_) => Self::new(FailureKind::TooMuch, TOO_MANY),
            _ => Self::new(FailureKind::Execution, error.to_string()),
        }
    }
}

impl Member {
    pub(crate) fn new(common: &Arc<Common>, target: Target) -> Self {
        let config = &common.config;
        let name = match &config.remote_read {
            Some(read) => format!("{}/{}", target.url, read.path.trim_start_matches('/')),
            None => target.url.clone(),
        };
        let filter = config.label_filter.as_ref();
        let filter = filter.filter(|keys| keys.dynamic_labels.is_empty());
        let filter = filter
            .map(|keys| Arc::new(LabelFilter::new(&Vec::new(), &keys.include, &keys.exclude)));
        Self {
            name,
            shape: Shape::new(target.labels.clone(), Arc::clone(&config.metrics_relabel)),
            filter: ArcSwapOption::new(filter),
            host: common.counters.host(&target.host),
            short_answers: ShortAnswers::none(),
            permits: Semaphore::new(AT_A_TIME),
            common: Arc::clone(common),
            target,
        }
    }

    /// Returns what stands between queries and the target.
    pub(crate) fn rules<'a>(&'a self, filter: Option<&'a LabelFilter>) -> TargetRules<'a> {
        let config = &self.common.config;
        TargetRules {
            added: &self.target.labels,
            metrics_relabel: &config.metrics_relabel,
            injected: &config.inject_matchers,
            filter,
        }
    }

    /// Counts what a filter made needless, if it was the filter.
    fn skipped(&self, is_filtered: bool, what: Filtered) {
        if is_filtered {
            self.common.counters.filtered(what);
        }
    }

    /// Waits for its turn, does something as long as there is time, counts it, and names the target in what went wrong.
    async fn counted<T>(
        &self,
        call: Call,
        asker: &Asker,
        asking: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, UpstreamError> {
        let mut begin = Instant::now();
        let asking = async {
            let _permit = self.permits.acquire().await;
            begin = Instant::now();
            asking.await
        };
        let result = match asker.deadline {
            Some(deadline) => timeout_at(deadline, asking).await.unwrap_or_else(|_| {
                let text = "context deadline exceeded";
                Err(Failure::new(FailureKind::Timeout, text))
            }),
            None => asking.await,
        };
        let took: Duration = begin.elapsed();
        self.host.count(call, Outcome::of(&result), took);
        result.map_err(|failure| self.named(&failure))
    }

    /// Names the target in what went wrong.
    fn named(&self, failure: &Failure) -> UpstreamError {
        UpstreamError {
            kind: failure.kind,
            message: format!("error in target={}: {}", self.name, failure.text),
        }
    }

    /// Returns the windows of time of the group as they are now.
    fn windows(&self) -> impl Iterator<Item = super::time_range::Window> {
        let ranges = &self.common.config.time_ranges;
        let now = if ranges.is_empty() {
            0
        } else {
            jiff::Timestamp::now().as_millisecond()
        };
        ranges.iter().map(move |range| range.window(now))
    }

    /// Cuts the times of a request to the windows; `None` if it is outside of one.
    fn span(&self, start: Option<i64>, end: Option<i64>) -> Option<(Option<i64>, Option<i64>)> {
        self.windows()
            .try_fold((start, end), |(start, end), window| window.span(start, end))
    }
}
