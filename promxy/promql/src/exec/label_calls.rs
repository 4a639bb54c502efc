//! `label_replace` and `label_join`, which look at labels only.
//!
//! Follows `evalLabelReplace` and `evalLabelJoin` in `promql/functions.go`; pinned by `functions.test`.

use shared::regex::{Regex, Template};

use super::{Evaluated, Evaluator, Series};
use crate::error::QueryError;
use crate::labels::{LabelsBuilder, METRIC_NAME};
use crate::plan::{PlanId, PlanKind};

/// How often a pattern may repeat a part of itself.
const MOST_REPEATED: u64 = 1_000;

/// How much there may be to do to look for a pattern in a value: the length of the one, with repetitions, times that of the other.
/// A search is not interrupted; this is some seconds.
const MOST_WORK: u64 = 2_000_000_000;

/// How many bytes a value may have that is made of others. Beyond 16 MiB label sets cut it anyhow.
const MOST_BYTES: u64 = 1 << 28;

/// What `label_replace` does to the labels of a series.
pub(super) struct Replacement {
    regex: Regex,
    template: Template,
    source: String,
    target: String,
}

/// What `label_join` does to the labels of a series.
pub(super) struct Joining {
    separator: String,
    sources: Vec<String>,
    target: String,
}

impl Evaluator<'_, '_> {
    pub(super) fn label_replace(&mut self, args: &[PlanId]) -> Result<Evaluated, QueryError> {
        let Replacement {
            regex,
            template,
            source,
            target,
        } = self.replacement(args)?;
        let pattern = self.text(args[4]);
        let repeated = if pattern.contains('{') {
            MOST_REPEATED
        } else {
            1
        };
        let pattern_work = repeated.saturating_mul(pattern.len() as u64);
        let template_size = self.text(args[2]).len();
        let mut series = self.series(args[0]);
        for series in &mut series {
            self.context.check()?;
            let value = series.labels.get(&source).unwrap_or_default();
            let work = pattern_work.saturating_mul(value.len() as u64);
            let longest = (value.len() as u64 + 1).saturating_mul(template_size as u64);
            if work > MOST_WORK || longest > MOST_BYTES {
                return Err(QueryError::TooManySamples);
            }
            if let Some(text) = regex.expand(&template, value) {
                set_label(series, &target, &text);
                self.context.budget.take(series.labels.held())?;
            }
        }
        self.merged(series).map(Evaluated::Matrix)
    }

    /// Reads the arguments of `label_replace`.
    pub(super) fn replacement(&self, args: &[PlanId]) -> Result<Replacement, QueryError> {
        let pattern = self.text(args[4]);
        let regex = Regex::anchored(&pattern).map_err(|_| {
            QueryError::execution(format!(
                "invalid regular expression in label_replace(): {pattern}"
            ))
        })?;
        Ok(Replacement {
            regex,
            template: Template::new(&self.text(args[2])),
            source: self.text(args[3]),
            target: self.label_name(args[1], "destination", "label_replace")?,
        })
    }

    /// Reads the arguments of `label_join`.
    pub(super) fn joining(&self, args: &[PlanId]) -> Result<Joining, QueryError> {
        let mut sources = Vec::new();
        for arg in &args[3..] {
            sources.push(self.label_name(*arg, "source", "label_join")?);
        }
        Ok(Joining {
            separator: self.text(args[2]),
            sources,
            target: self.label_name(args[1], "destination", "label_join")?,
        })
    }

    pub(super) fn label_join(&mut self, args: &[PlanId]) -> Result<Evaluated, QueryError> {
        let Joining {
            separator,
            sources,
            target,
        } = self.joining(args)?;
        let mut series = self.series(args[0]);
        for series in &mut series {
            self.context.check()?;
            let values: Vec<&str> = sources
                .iter()
                .map(|source| series.labels.get(source).unwrap_or_default())
                .collect();
            let values_size: usize = values.iter().map(|value| value.len()).sum();
            if (values_size + values.len() * separator.len()) as u64 > MOST_BYTES {
                return Err(QueryError::TooManySamples);
            }
            let text = values.join(&separator);
            set_label(series, &target, &text);
            self.context.budget.take(series.labels.held())?;
        }
        self.merged(series).map(Evaluated::Matrix)
    }

    /// Returns the label name that an argument is: any text but the empty one.
    fn label_name(&self, arg: PlanId, role: &str, function: &str) -> Result<String, QueryError> {
        let name = match &self.plan_node(arg).kind {
            PlanKind::String(text) => text.to_str(),
            _ => None,
        };
        match name {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err(QueryError::execution(format!(
                "invalid {role} label name in {function}(): {}",
                self.text(arg)
            ))),
        }
    }
}

/// Sets a label. A metric that is given a name keeps it.
fn set_label(series: &mut Series, name: &str, value: &str) {
    let mut builder = LabelsBuilder::new(&series.labels);
    builder.set(name, value);
    series.labels = builder.build();
    if name == METRIC_NAME {
        series.drop_name = false;
    }
}
