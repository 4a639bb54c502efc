//! `label_replace` and `label_join`, which look at labels only.
//!
//! Follows `evalLabelReplace` and `evalLabelJoin` in `promql/functions.go`; pinned by `functions.test`.

use shared::regex::{Regex, Template};

use super::{Evaluated, Evaluator, Series};
use crate::error::QueryError;
use crate::labels::{LabelsBuilder, METRIC_NAME};
use crate::plan::{PlanId, PlanKind};

impl Evaluator<'_, '_> {
    pub(super) fn label_replace(&mut self, args: &[PlanId]) -> Result<Evaluated, QueryError> {
        let target = self.label_name(args[1], "destination", "label_replace")?;
        let template = Template::new(&self.text(args[2]));
        let source = self.text(args[3]);
        let pattern = self.text(args[4]);
        let regex = Regex::anchored(&pattern).map_err(|_| {
            QueryError::execution(format!(
                "invalid regular expression in label_replace(): {pattern}"
            ))
        })?;
        let mut series = self.series(args[0]);
        for series in &mut series {
            self.context.check()?;
            let value = series.labels.get(&source).unwrap_or_default();
            if let Some(text) = regex.expand(&template, value) {
                set_label(series, &target, &text);
            }
        }
        self.merged(series).map(Evaluated::Matrix)
    }

    pub(super) fn label_join(&mut self, args: &[PlanId]) -> Result<Evaluated, QueryError> {
        let separator = self.text(args[2]);
        let mut sources = Vec::new();
        for arg in &args[3..] {
            sources.push(self.label_name(*arg, "source", "label_join")?);
        }
        let target = self.label_name(args[1], "destination", "label_join")?;
        let mut series = self.series(args[0]);
        for series in &mut series {
            self.context.check()?;
            let values: Vec<&str> = sources
                .iter()
                .map(|source| series.labels.get(source).unwrap_or_default())
                .collect();
            let text = values.join(&separator);
            set_label(series, &target, &text);
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
