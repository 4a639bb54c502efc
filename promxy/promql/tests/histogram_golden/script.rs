//! Reads test scripts, as far as the test needs them.

use std::collections::BTreeMap;
use std::sync::Arc;

use promql::histogram::{FloatHistogram, HistogramSteps, as_stored};
use promql::parser::{Compat, NodeKind, ParserOptions, SeriesItem, parse, parse_series};

/// A value of a sample or a result.
#[derive(Clone)]
pub(crate) enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Value {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Float(value) => promql::format::general(*value),
            Self::Histogram(histogram) => histogram.to_test_notation(),
        }
    }
}

/// Series by name: labels in order, and samples.
pub(crate) type Data = BTreeMap<String, Vec<Vec<(i64, Value)>>>;

/// Returns the line, time and text of the instant queries of a script, with what is loaded then.
pub(crate) fn instant_queries(script: &str, compat: Compat) -> Vec<(u64, i64, String, Arc<Data>)> {
    let mut found = Vec::new();
    let mut data = Arc::new(Data::new());
    let mut step: Option<i64> = None;
    for (line, text) in (1..).zip(script.lines().map(str::trim)) {
        let mut words = text.split_whitespace();
        match words.next() {
            None => step = None,
            Some(word) if word.starts_with('#') => {}
            Some("clear") => data = Arc::default(),
            Some("load") => step = words.next().map(milliseconds),
            // Series of another kind: nothing here uses their names.
            Some("load_with_nhcb") => step = None,
            Some("eval") if text.starts_with("eval instant at ") => {
                let rest = text.trim_start_matches("eval instant at ");
                let (time, query) = rest.split_once(char::is_whitespace).unwrap();
                let query = query.trim().to_owned();
                found.push((line, milliseconds(time), query, Arc::clone(&data)));
            }
            Some(_) => {
                if let Some(step) = step {
                    load(Arc::make_mut(&mut data), text, step, compat);
                }
            }
        }
    }
    found
}

fn load(data: &mut Data, text: &str, step: i64, compat: Compat) {
    let series = parse_series(text).unwrap();
    let name = series
        .labels
        .iter()
        .find(|(name, _)| *name == "__name__")
        .map_or_else(String::new, |(_, value)| value.to_string());
    let mut samples: Vec<(i64, Option<FloatHistogram>)> = Vec::new();
    let mut floats: Vec<f64> = Vec::new();
    let mut time = 0;
    for item in &series.items {
        match item {
            SeriesItem::Gap { steps } => time += step * *steps as i64,
            SeriesItem::Stale => {
                samples.push((time, None));
                floats.push(f64::from_bits(0x7ff0_0000_0000_0002));
                time += step;
            }
            SeriesItem::Floats {
                first,
                increment,
                steps,
            } => {
                let mut value = *first;
                for _ in 0..*steps {
                    samples.push((time, None));
                    floats.push(value);
                    value += increment;
                    time += step;
                }
            }
            SeriesItem::Histograms {
                first,
                change,
                steps,
            } => {
                for histogram in
                    HistogramSteps::new(first, change.as_ref(), *steps, compat).unwrap()
                {
                    samples.push((time, Some(histogram.unwrap())));
                    time += step;
                }
            }
        }
    }
    as_stored(&mut samples);
    let mut floats = floats.into_iter();
    let samples = samples.into_iter().map(|(time, histogram)| {
        let value = match histogram {
            Some(histogram) => Value::Histogram(Arc::new(histogram)),
            None => Value::Float(floats.next().unwrap()),
        };
        (time, value)
    });
    data.entry(name).or_default().push(samples.collect());
}

/// `1h30m` or seconds, in milliseconds.
fn milliseconds(text: &str) -> i64 {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds * 1000.0) as i64;
    }
    let options = ParserOptions::v3_14();
    let expr = parse(text, &options).unwrap();
    let NodeKind::Number(number) = &expr.root().kind else {
        panic!("{text} is no duration");
    };
    (number.value * 1000.0) as i64
}
