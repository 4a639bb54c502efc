//! The functions over ranges, by name.

use crate::error::QueryError;
use crate::func::counts::End;
use crate::func::over_time::Extreme;
use crate::func::rate::Change;
use crate::parser::ExtendedRange;

/// A function over a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeFunction {
    Change(Change),
    InstantRate,
    InstantDelta,
    Sum,
    Average,
    Extreme(Extreme),
    TimeOfExtreme(Extreme),
    Deviation,
    Variance,
    Quantile,
    MedianDeviation,
    Count,
    Present,
    Value(End),
    Time(End),
    Changes,
    Resets,
    Slope,
    Prediction,
    Smoothing,
}

impl RangeFunction {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Change(Change::Rate),
            "increase" => Self::Change(Change::Increase),
            "delta" => Self::Change(Change::Delta),
            "irate" => Self::InstantRate,
            "idelta" => Self::InstantDelta,
            "sum_over_time" => Self::Sum,
            "avg_over_time" => Self::Average,
            "max_over_time" => Self::Extreme(Extreme::Max),
            "min_over_time" => Self::Extreme(Extreme::Min),
            "ts_of_max_over_time" => Self::TimeOfExtreme(Extreme::Max),
            "ts_of_min_over_time" => Self::TimeOfExtreme(Extreme::Min),
            "stddev_over_time" => Self::Deviation,
            "stdvar_over_time" => Self::Variance,
            "quantile_over_time" => Self::Quantile,
            "mad_over_time" => Self::MedianDeviation,
            "count_over_time" => Self::Count,
            "present_over_time" | "absent_over_time" => Self::Present,
            "first_over_time" => Self::Value(End::First),
            "last_over_time" => Self::Value(End::Last),
            "ts_of_first_over_time" => Self::Time(End::First),
            "ts_of_last_over_time" => Self::Time(End::Last),
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            "deriv" => Self::Slope,
            "predict_linear" => Self::Prediction,
            "double_exponential_smoothing" => Self::Smoothing,
            _ => return None,
        })
    }

    /// Whether it looks at when counters began.
    pub(super) fn uses_starts(self) -> bool {
        matches!(
            self,
            Self::Change(Change::Rate | Change::Increase) | Self::InstantRate | Self::Resets
        )
    }

    /// Whether the metric keeps its name: these act like an offset.
    pub(super) fn keeps_name(self) -> bool {
        matches!(self, Self::Value(_))
    }

    pub(super) fn check_extended(
        self,
        name: &str,
        extended: ExtendedRange,
    ) -> Result<(), QueryError> {
        let (allowed, list) = match extended {
            ExtendedRange::Anchored => (
                matches!(self, Self::Change(_) | Self::Changes | Self::Resets),
                "changes, delta, increase, rate, resets",
            ),
            ExtendedRange::Smoothed => (matches!(self, Self::Change(_)), "delta, increase, rate"),
        };
        if allowed {
            return Ok(());
        }
        Err(QueryError::execution(format!(
            "{} modifier can only be used with: {list} - not with {name}",
            extended.as_str()
        )))
    }
}
