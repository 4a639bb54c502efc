//! Metrics as local veneurs send them: each in both forms, with the key by which a ring places it.

use prost::Message as _;
use veneur_proxy::{
    convert,
    proto::metricpb::{
        Centroid, CounterValue, GaugeValue, HistogramValue, MergingDigestData, Metric, Scope,
        SetValue, Type, Value,
    },
};

/// How many names there are.
pub(super) const NAMES: usize = 500;
const TYPES: [Type; 5] = [
    Type::Counter,
    Type::Gauge,
    Type::Histogram,
    Type::Set,
    Type::Timer,
];

/// How metrics travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Way {
    /// JSON in zlib.
    Import,
    /// A list of messages.
    SendMetrics,
    /// A stream of messages.
    SendMetricsV2,
}

impl Way {
    /// Returns what tables call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Import => "/import",
            Self::SendMetrics => "SendMetrics",
            Self::SendMetricsV2 => "SendMetricsV2",
        }
    }
}

/// One metric of one flush.
#[derive(Debug)]
pub(super) struct Sample {
    /// What the ring places it by: name, type and tags.
    pub(super) key: Vec<u8>,
    /// As gRPC has it.
    pub(super) metric: Metric,
    message: Vec<u8>,
    element: String,
}

impl Sample {
    /// Returns it in the form that it has on its way.
    pub(super) fn bytes(&self, way: Way) -> &[u8] {
        match way {
            Way::Import => self.element.as_bytes(),
            Way::SendMetrics | Way::SendMetricsV2 => &self.message,
        }
    }

    /// Returns it as an element of a JSON body.
    pub(super) fn element(&self) -> &str {
        &self.element
    }
}

/// Makes metrics of all types; no two numbers make the same.
pub(super) fn samples(numbers: std::ops::Range<usize>) -> anyhow::Result<Vec<Sample>> {
    numbers.map(sample).collect()
}

fn sample(number: usize) -> anyhow::Result<Sample> {
    let kind = TYPES[number % TYPES.len()];
    let name = name(number % NAMES);
    let tags = ["region:north".to_owned(), format!("zone:{}", number % 3)];
    let key = format!("{name}{}{}", kind.name(), tags.join(","));
    let (value, scope) = value(kind, number);
    let metric = Metric {
        name: name.into_bytes(),
        tags: tags.map(String::into_bytes).into(),
        r#type: kind.into(),
        value: Some(value),
        scope: scope.into(),
    };
    Ok(Sample {
        key: key.into_bytes(),
        message: metric.encode_to_vec(),
        element: convert::to_json(&metric)?,
        metric,
    })
}

fn name(number: usize) -> String {
    const SERVICES: [&str; 5] = ["shop", "search", "billing", "mail", "login"];
    // By quotient, so that every service and node has metrics of every type.
    let service = SERVICES[number / 5 % SERVICES.len()];
    let call = number / 100 * 5 + number % 5;
    format!("{service}.node{}.call{call}", number / 25 % 4)
}

/// The value, and the scope that a local veneur gives it.
fn value(kind: Type, number: usize) -> (Value, Scope) {
    let measured = number as f64;
    match kind {
        Type::Counter => {
            let value = number as i64 + 1;
            (Value::Counter(CounterValue { value }), Scope::Global)
        }
        Type::Gauge => {
            let value = measured / 8.0 + 0.1;
            (Value::Gauge(GaugeValue { value }), Scope::Global)
        }
        Type::Histogram | Type::Timer => {
            let t_digest = Some(digest(measured + 1.0));
            (Value::Histogram(HistogramValue { t_digest }), Scope::Mixed)
        }
        Type::Set => {
            // A sparse sketch: version, precision, base, form; then what makes it this one.
            let mut hyper_log_log = vec![1, 14, 0, 1];
            hyper_log_log.extend((number as u64).to_be_bytes());
            (Value::Set(SetValue { hyper_log_log }), Scope::Mixed)
        }
    }
}

fn digest(smallest: f64) -> MergingDigestData {
    let centroid = |mean: f64, weight: f64| Centroid {
        mean,
        weight,
        samples: Vec::new(),
    };
    MergingDigestData {
        main_centroids: vec![
            centroid(smallest, 1.0),
            centroid(smallest * 1.5, 40.0),
            centroid(smallest * 2.0, 1.0),
        ],
        compression: 100.0,
        min: smallest,
        max: smallest * 2.0,
        reciprocal_sum: 28.3 / smallest,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use veneur_proxy::{
        route::{IgnoreTags, Routed as _},
        wire::WireMetric,
    };

    use super::*;

    #[test]
    fn samples_are_distinct_in_both_forms() {
        let samples = samples(0..10_000).unwrap();
        for way in [Way::Import, Way::SendMetrics] {
            let forms: HashSet<&[u8]> = samples.iter().map(|sample| sample.bytes(way)).collect();
            assert_eq!(forms.len(), samples.len(), "{way:?}");
        }
        let names: HashSet<&[u8]> = samples.iter().map(|sample| &*sample.metric.name).collect();
        assert_eq!(names.len(), NAMES);
    }

    #[test]
    fn keys_are_those_of_the_proxy() {
        for sample in samples(0..100).unwrap() {
            let mut key = Vec::new();
            let message = WireMetric::read(sample.bytes(Way::SendMetrics)).unwrap();
            message.write_key(&IgnoreTags::default(), &mut key);
            assert_eq!(sample.key, key);
        }
    }
}
