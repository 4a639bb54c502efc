//! Lists: series, label names and values, metadata, exemplars.

use std::collections::BTreeMap;

use promql::parser::Matcher;
use serde::Deserialize;

use super::{Failure, Member, query::selector_text};
use crate::{
    labels::{Labels, added, inject, metric_relabel},
    servergroup::{
        decode::{self, LabelSet},
        metrics::Filtered,
        request::{ApiRequest, Call, segment},
    },
    upstream::{Answer, Asker, Exemplar, Exemplars, Metadata, UpstreamError},
};

/// A question about series: which, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed<'a> {
    /// The matchers; none for all series.
    pub(crate) selector: Option<&'a [Matcher]>,
    pub(crate) start: Option<i64>,
    pub(crate) end: Option<i64>,
}

impl Member {
    /// Lists the series that fulfil a selector.
    pub(crate) async fn series(
        &self,
        listed: Listed<'_>,
        asker: &Asker,
    ) -> Result<Answer<Vec<Labels>>, UpstreamError> {
        let matchers = listed.selector.unwrap_or_default();
        let Some(selector) = self.filtered_selector(matchers, Filtered::Series) else {
            return Ok(Answer::default());
        };
        let Some((start, end)) = self.span(listed.start, listed.end) else {
            return Ok(Answer::default());
        };
        let request = ApiRequest::form(Call::Series, "/api/v1/series")
            .with_time("start", start)
            .with_time("end", end)
            .with("match[]", selector_text(&selector));
        let asking = async {
            let body = self.ask_list(&request, asker).await?;
            let (sets, annotations) = decode::label_sets(200, &body)?;
            let data = sets.iter().map(|labels| self.shape.of(labels));
            Ok(Answer {
                data: data.collect(),
                annotations,
            })
        };
        self.counted(request.call, asker, asking).await
    }

    /// Lists the label names of the series that fulfil a selector, or of all.
    pub(crate) async fn label_names(
        &self,
        listed: Listed<'_>,
        asker: &Asker,
    ) -> Result<Answer<Vec<String>>, UpstreamError> {
        let request = ApiRequest::form(Call::LabelNames, "/api/v1/labels");
        let Some(request) = self.list_request(request, listed) else {
            return Ok(Answer::default());
        };
        let asking = async {
            let body = self.ask_list(&request, asker).await?;
            let (found, annotations) = decode::words(200, &body)?;
            // Where nothing was selected, nothing has the added labels either (S14).
            let data = if found.is_empty() {
                found
            } else {
                let names = added::names(&self.target.labels, found);
                metric_relabel::forward_names(&self.common.config.metrics_relabel, &names)
            };
            Ok(Answer { data, annotations })
        };
        self.counted(request.call, asker, asking).await
    }

    /// Lists the values of a label among the series that fulfil a selector, or among all.
    pub(crate) async fn label_values(
        &self,
        label: &str,
        listed: Listed<'_>,
        asker: &Asker,
    ) -> Result<Answer<Vec<String>>, UpstreamError> {
        let origin = metric_relabel::origin(&self.common.config.metrics_relabel, label);
        let Some(behind) = &origin.label else {
            return Ok(Answer::default());
        };
        let path = format!("/api/v1/label/{}/values", segment(behind));
        let request = ApiRequest::get(Call::LabelValues, path);
        let Some(request) = self.list_request(request, listed) else {
            return Ok(Answer::default());
        };
        let asking = async {
            let body = self.ask_list(&request, asker).await?;
            let (found, annotations) = decode::words(200, &body)?;
            let found = added::values(&self.target.labels, behind, found);
            let mut data: Vec<String> = found.iter().map(|value| origin.value(value)).collect();
            data.sort_unstable();
            data.dedup();
            Ok(Answer { data, annotations })
        };
        self.counted(request.call, asker, asking).await
    }

    /// Returns what the target knows of metrics. A limit is for the united answer, so that it does not hang on chance (S13).
    pub(crate) async fn metadata(
        &self,
        metric: &str,
        asker: &Asker,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, UpstreamError> {
        let filter = self.filter.load_full();
        if filter.is_some_and(|filter| !filter.passes_metric(metric)) {
            self.skipped(true, Filtered::Metadata);
            return Ok(BTreeMap::new());
        }
        // D39: counted as a query.
        let request = ApiRequest::get(Call::Query, "/api/v1/metadata".to_owned())
            .with("limit", "")
            .with("metric", metric);
        let asking = async {
            let body = self.ask_list(&request, asker).await?;
            Ok(decode::other(200, &body)?)
        };
        self.counted(request.call, asker, asking).await
    }

    /// Returns the exemplars of the series that fulfil a selector.
    pub(crate) async fn exemplars(
        &self,
        listed: Listed<'_>,
        asker: &Asker,
    ) -> Result<Vec<Exemplars>, UpstreamError> {
        let matchers = listed.selector.unwrap_or_default();
        let Some(selector) = self.filtered_selector(matchers, Filtered::Exemplars) else {
            return Ok(Vec::new());
        };
        let Some((start, end)) = self.span(listed.start, listed.end) else {
            return Ok(Vec::new());
        };
        let request = ApiRequest::form(Call::Exemplars, "/api/v1/query_exemplars")
            .with_time("start", start)
            .with_time("end", end)
            .with("query", selector_text(&selector));
        let asking = async {
            let body = self.ask_list(&request, asker).await?;
            let found: Vec<ShownExemplars> = decode::other(200, &body)?;
            let found = found.into_iter().map(|shown| shown.read(&self.shape));
            found.collect::<Result<Vec<Exemplars>, Failure>>()
        };
        self.counted(request.call, asker, asking).await
    }

    fn filtered_selector(&self, matchers: &[Matcher], what: Filtered) -> Option<Vec<Matcher>> {
        let filter = self.filter.load_full();
        let selector = self.rules(filter.as_deref()).selector(matchers);
        let is_filtered =
            selector.is_none() && filter.is_some_and(|filter| !filter.passes(matchers));
        self.skipped(is_filtered, what);
        selector
    }

    /// Adds times and a selector to a request for a list; `None` if the target has nothing to say to it.
    fn list_request(&self, request: ApiRequest, listed: Listed<'_>) -> Option<ApiRequest> {
        let selector = if let Some(matchers) = listed.selector {
            self.rules(None).list(matchers)?
        } else {
            let mut selectors = Vec::new();
            inject::inject_all(&self.common.config.inject_matchers, &mut selectors);
            selectors.pop().unwrap_or_default()
        };
        let (start, end) = self.span(listed.start, listed.end)?;
        let request = request.with_time("start", start).with_time("end", end);
        Some(if selector.is_empty() {
            request
        } else {
            request.with("match[]", selector_text(&selector))
        })
    }
}

/// Exemplars as the API writes them.
#[derive(Deserialize)]
struct ShownExemplars {
    #[serde(rename = "seriesLabels")]
    series: LabelSet,
    #[serde(default)]
    exemplars: Vec<ShownExemplar>,
}

#[derive(Deserialize)]
struct ShownExemplar {
    labels: LabelSet,
    value: String,
    timestamp: f64,
}

impl ShownExemplars {
    fn read(self, shape: &decode::Shape) -> Result<Exemplars, Failure> {
        let exemplars = self.exemplars.into_iter().map(|shown| {
            let value = shown.value.parse().map_err(|_| {
                let text = format!("invalid value {:?} of an exemplar", shown.value);
                decode::DecodeError::Bad(text)
            })?;
            Ok(Exemplar {
                labels: shown.labels.0,
                value,
                timestamp: (shown.timestamp * 1000.0).round() as i64,
            })
        });
        Ok(Exemplars {
            series: shape.of(&self.series.0),
            exemplars: exemplars.collect::<Result<_, decode::DecodeError>>()?,
        })
    }
}
