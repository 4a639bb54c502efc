//! The functions: what they take and return.
//!
//! Follows the function table of Prometheus' parser (`promql/parser/functions.go`): 80 functions in 3.5, 90 in 3.14.

use crate::parser::Compat::{self, V3_5, V3_14};
use crate::parser::ValueType::{self, Matrix, Scalar, String, Vector};
use Arity::{Exact, Optional, Unlimited};

/// A function of the language.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments; the last one is also that of any further argument.
    pub arg_types: &'static [ValueType],
    /// How many arguments it takes.
    pub arity: Arity,
    /// The type of its value.
    pub return_type: ValueType,
    /// Whether Prometheus calls it experimental.
    pub experimental: bool,
    /// The first version that has it.
    pub since: Compat,
}

/// How many arguments a function takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// One for each type.
    Exact,
    /// One for each type but the last, and up to this many more.
    Optional(usize),
    /// One for each type but the last, and any number more.
    Unlimited,
}

/// Returns the function of a name, which is case-sensitive.
///
/// ```
/// use promql::parser::{Compat, function};
///
/// assert!(function("rate", Compat::V3_5).is_some());
/// assert!(function("first_over_time", Compat::V3_5).is_none());
/// ```
pub fn function(name: &str, compat: Compat) -> Option<&'static Function> {
    let at = FUNCTIONS
        .binary_search_by(|function| function.name.cmp(name))
        .ok()?;
    FUNCTIONS
        .get(at)
        .filter(|function| function.since <= compat)
}

/// Returns all functions of a version, by name.
pub fn functions(compat: Compat) -> impl Iterator<Item = &'static Function> {
    FUNCTIONS
        .iter()
        .filter(move |function| function.since <= compat)
}

const fn row(
    name: &'static str,
    arg_types: &'static [ValueType],
    arity: Arity,
    return_type: ValueType,
) -> Function {
    Function {
        name,
        arg_types,
        arity,
        return_type,
        experimental: false,
        since: V3_5,
    }
}

impl Function {
    const fn experimental(self) -> Self {
        Self {
            experimental: true,
            ..self
        }
    }

    const fn since(self, since: Compat) -> Self {
        Self { since, ..self }
    }
}

/// Sorted by name.
#[rustfmt::skip]
static FUNCTIONS: [Function; 90] = [
    row("abs", &[Vector], Exact, Vector),
    row("absent", &[Vector], Exact, Vector),
    row("absent_over_time", &[Matrix], Exact, Vector),
    row("acos", &[Vector], Exact, Vector),
    row("acosh", &[Vector], Exact, Vector),
    row("asin", &[Vector], Exact, Vector),
    row("asinh", &[Vector], Exact, Vector),
    row("atan", &[Vector], Exact, Vector),
    row("atanh", &[Vector], Exact, Vector),
    row("avg_over_time", &[Matrix], Exact, Vector),
    row("ceil", &[Vector], Exact, Vector),
    row("changes", &[Matrix], Exact, Vector),
    row("clamp", &[Vector, Scalar, Scalar], Exact, Vector),
    row("clamp_max", &[Vector, Scalar], Exact, Vector),
    row("clamp_min", &[Vector, Scalar], Exact, Vector),
    row("cos", &[Vector], Exact, Vector),
    row("cosh", &[Vector], Exact, Vector),
    row("count_over_time", &[Matrix], Exact, Vector),
    row("day_of_month", &[Vector], Optional(1), Vector),
    row("day_of_week", &[Vector], Optional(1), Vector),
    row("day_of_year", &[Vector], Optional(1), Vector),
    row("days_in_month", &[Vector], Optional(1), Vector),
    row("deg", &[Vector], Exact, Vector),
    row("delta", &[Matrix], Exact, Vector),
    row("deriv", &[Matrix], Exact, Vector),
    row("double_exponential_smoothing", &[Matrix, Scalar, Scalar], Exact, Vector).experimental(),
    row("end", &[], Exact, Scalar).experimental().since(V3_14),
    row("exp", &[Vector], Exact, Vector),
    row("first_over_time", &[Matrix], Exact, Vector).since(V3_14),
    row("floor", &[Vector], Exact, Vector),
    row("histogram_avg", &[Vector], Exact, Vector),
    row("histogram_count", &[Vector], Exact, Vector),
    row("histogram_fraction", &[Scalar, Scalar, Vector], Exact, Vector),
    row("histogram_quantile", &[Scalar, Vector], Exact, Vector),
    row("histogram_quantiles", &[Vector, String, Scalar, Scalar], Optional(9), Vector).experimental().since(V3_14),
    row("histogram_stddev", &[Vector], Exact, Vector),
    row("histogram_stdvar", &[Vector], Exact, Vector),
    row("histogram_sum", &[Vector], Exact, Vector),
    row("hour", &[Vector], Optional(1), Vector),
    row("idelta", &[Matrix], Exact, Vector),
    row("increase", &[Matrix], Exact, Vector),
    row("info", &[Vector, Vector], Optional(1), Vector).experimental(),
    row("irate", &[Matrix], Exact, Vector),
    row("label_join", &[Vector, String, String, String], Unlimited, Vector),
    row("label_replace", &[Vector, String, String, String, String], Exact, Vector),
    row("last_over_time", &[Matrix], Exact, Vector),
    row("ln", &[Vector], Exact, Vector),
    row("log10", &[Vector], Exact, Vector),
    row("log2", &[Vector], Exact, Vector),
    row("mad_over_time", &[Matrix], Exact, Vector).experimental(),
    row("max_of", &[Scalar, Scalar], Exact, Scalar).experimental().since(V3_14),
    row("max_over_time", &[Matrix], Exact, Vector),
    row("min_of", &[Scalar, Scalar], Exact, Scalar).experimental().since(V3_14),
    row("min_over_time", &[Matrix], Exact, Vector),
    row("minute", &[Vector], Optional(1), Vector),
    row("month", &[Vector], Optional(1), Vector),
    row("pi", &[], Exact, Scalar),
    row("predict_linear", &[Matrix, Scalar], Exact, Vector),
    row("present_over_time", &[Matrix], Exact, Vector),
    row("quantile_over_time", &[Scalar, Matrix], Exact, Vector),
    row("rad", &[Vector], Exact, Vector),
    row("range", &[], Exact, Scalar).experimental().since(V3_14),
    row("rate", &[Matrix], Exact, Vector),
    row("resets", &[Matrix], Exact, Vector),
    row("round", &[Vector, Scalar], Optional(1), Vector),
    row("scalar", &[Vector], Exact, Scalar),
    row("sgn", &[Vector], Exact, Vector),
    row("sin", &[Vector], Exact, Vector),
    row("sinh", &[Vector], Exact, Vector),
    row("sort", &[Vector], Exact, Vector),
    row("sort_by_label", &[Vector, String], Unlimited, Vector).experimental(),
    row("sort_by_label_desc", &[Vector, String], Unlimited, Vector).experimental(),
    row("sort_desc", &[Vector], Exact, Vector),
    row("sqrt", &[Vector], Exact, Vector),
    row("start", &[], Exact, Scalar).experimental().since(V3_14),
    row("start_timestamp", &[Vector], Exact, Vector).experimental().since(V3_14),
    row("stddev_over_time", &[Matrix], Exact, Vector),
    row("stdvar_over_time", &[Matrix], Exact, Vector),
    row("step", &[], Exact, Scalar).experimental().since(V3_14),
    row("sum_over_time", &[Matrix], Exact, Vector),
    row("tan", &[Vector], Exact, Vector),
    row("tanh", &[Vector], Exact, Vector),
    row("time", &[], Exact, Scalar),
    row("timestamp", &[Vector], Exact, Vector),
    row("ts_of_first_over_time", &[Matrix], Exact, Vector).experimental().since(V3_14),
    row("ts_of_last_over_time", &[Matrix], Exact, Vector).experimental(),
    row("ts_of_max_over_time", &[Matrix], Exact, Vector).experimental(),
    row("ts_of_min_over_time", &[Matrix], Exact, Vector).experimental(),
    row("vector", &[Scalar], Exact, Vector),
    row("year", &[Vector], Optional(1), Vector),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(FUNCTIONS.is_sorted_by_key(|function| function.name));
        assert_eq!(functions(V3_5).count(), 80);
        assert_eq!(functions(V3_14).count(), 90);
        assert_eq!(
            functions(V3_14)
                .filter(|function| function.experimental)
                .count(),
            17
        );
    }
}
