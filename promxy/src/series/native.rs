//! From a histogram as the API shows it to one that queries compute with.
//!
//! The API shows populated buckets with their bounds, and not the schema that they come from. Bounds that are those of an
//! exponential schema give it back exactly; all others are custom ones. What cannot be told: empty custom buckets between
//! populated ones, and the width of a zero bucket in which nothing is.

use promql::histogram::{
    CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram, HistogramParts, Span,
};

use super::{Bucket, Histogram};

/// How wide the zero bucket is where nothing says it: 2^-128, as in Prometheus' client libraries.
const USUAL_ZERO_THRESHOLD: f64 = 2.938735877055719e-39;

/// The finest and the coarsest exponential schema.
const SCHEMAS: [i32; 13] = [-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// How the API numbers bounds.
const UPPER_BELONGS: u8 = 0;
const LOWER_BELONGS: u8 = 1;
const BOTH_BELONG: u8 = 3;

/// Makes a histogram that queries compute with; `None` if the buckets cannot be those of one.
pub fn native(shown: &Histogram) -> Option<FloatHistogram> {
    exponential(shown).or_else(|| custom(shown))
}

/// Finds the schema whose buckets these are.
fn exponential(shown: &Histogram) -> Option<FloatHistogram> {
    let (mut zero_threshold, mut zero_count) = (USUAL_ZERO_THRESHOLD, 0.0);
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    for bucket in &shown.buckets {
        match bucket.boundaries {
            BOTH_BELONG if zero_count == 0.0 && bucket.lower <= 0.0 && bucket.upper >= 0.0 => {
                zero_threshold = bucket.upper.max(-bucket.lower);
                zero_count = bucket.count;
            }
            UPPER_BELONGS if bucket.lower >= 0.0 => positive.push(*bucket),
            LOWER_BELONGS if bucket.upper <= 0.0 => negative.push(Bucket {
                boundaries: UPPER_BELONGS,
                lower: -bucket.upper,
                upper: -bucket.lower,
                count: bucket.count,
            }),
            _ => return None,
        }
    }
    negative.reverse();
    SCHEMAS.into_iter().find_map(|schema| {
        let (positive_spans, positive_counts) = spans(schema, &positive)?;
        let (negative_spans, negative_counts) = spans(schema, &negative)?;
        let made = FloatHistogram::new(HistogramParts {
            schema,
            zero_threshold,
            zero_count,
            count: shown.count,
            sum: shown.sum,
            positive_spans,
            positive_counts,
            negative_spans,
            negative_counts,
            custom_values: Vec::new(),
            hint: CounterResetHint::Unknown,
        });
        made.ok().filter(|made| shows_as(made, shown))
    })
}

/// Whether a histogram would be shown with these buckets.
fn shows_as(made: &FloatHistogram, shown: &Histogram) -> bool {
    let mut buckets = shown.buckets.iter().filter(|bucket| bucket.count != 0.0);
    let is_same = made.populated_buckets().all(|made| {
        buckets.next().is_some_and(|shown| {
            shown.boundaries == made.boundaries()
                && shown.lower == made.lower
                && shown.upper == made.upper
                && shown.count.to_bits() == made.count.to_bits()
        })
    });
    is_same && buckets.next().is_none()
}

/// Places ascending buckets by their upper bounds; `None` if two would share a place.
fn spans(schema: i32, buckets: &[Bucket]) -> Option<(Vec<Span>, Vec<f64>)> {
    let mut spans: Vec<Span> = Vec::new();
    let mut end: i64 = 0;
    for bucket in buckets {
        let place = if bucket.upper == f64::INFINITY {
            1024f64 * f64::powi(2.0, schema) + 1.0
        } else if bucket.upper == f64::MAX {
            1024f64 * f64::powi(2.0, schema)
        } else {
            bucket.upper.log2() * f64::powi(2.0, schema)
        };
        let index = place.round();
        if !index.is_finite() || index.abs() > 1e9 {
            return None;
        }
        let index = index as i64;
        let offset = i32::try_from(index - end).ok()?;
        match spans.last_mut() {
            Some(_) if offset < 0 => return None,
            Some(span) if offset == 0 => span.length += 1,
            _ => spans.push(Span { offset, length: 1 }),
        }
        end = index + 1;
    }
    let counts = buckets.iter().map(|bucket| bucket.count).collect();
    Some((spans, counts))
}

/// Takes the bounds as they are.
fn custom(shown: &Histogram) -> Option<FloatHistogram> {
    let mut bounds: Vec<f64> = Vec::new();
    for (number, bucket) in shown.buckets.iter().enumerate() {
        // Both bounds belong to the first of all, which begins at minus infinity.
        let is_first = number == 0 && bucket.lower == f64::NEG_INFINITY;
        let belongs =
            bucket.boundaries == UPPER_BELONGS || (bucket.boundaries == BOTH_BELONG && is_first);
        if !belongs || bucket.lower.is_nan() || bucket.upper.is_nan() {
            return None;
        }
        for bound in [bucket.lower, bucket.upper] {
            let is_new = bounds.last().is_none_or(|last| bound > *last);
            if is_new && bound.is_finite() {
                bounds.push(bound);
            }
        }
    }
    let mut spans: Vec<Span> = Vec::new();
    let mut end = 0;
    for bucket in &shown.buckets {
        // The bucket with an upper bound has its number; the last one has none and stands behind all.
        let index = bounds.partition_point(|bound| *bound < bucket.upper);
        match index.checked_sub(end)? {
            0 if !spans.is_empty() => spans.last_mut()?.length += 1,
            offset => spans.push(Span {
                offset: i32::try_from(offset).ok()?,
                length: 1,
            }),
        }
        end = index + 1;
    }
    let made = FloatHistogram::new(HistogramParts {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        zero_count: 0.0,
        count: shown.count,
        sum: shown.sum,
        positive_spans: spans,
        positive_counts: shown.buckets.iter().map(|bucket| bucket.count).collect(),
        negative_spans: Vec::new(),
        negative_counts: Vec::new(),
        custom_values: bounds,
        hint: CounterResetHint::Unknown,
    });
    made.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(made: &FloatHistogram) -> Histogram {
        let buckets = made.populated_buckets().map(|bucket| Bucket {
            boundaries: bucket.boundaries(),
            lower: bucket.lower,
            upper: bucket.upper,
            count: bucket.count,
        });
        Histogram {
            count: made.count,
            sum: made.sum,
            buckets: buckets.collect(),
        }
    }

    #[test]
    fn exponential_buckets_are_found_again() {
        let f = |text: &str| {
            let made = FloatHistogram::from_text(text).unwrap();
            let found = native(&shown(&made)).unwrap();
            assert_eq!(found.to_string(), made.to_string());
            assert_eq!(found.schema(), made.schema(), "{text}");
        };
        f("{{schema:0 count:4 sum:5 buckets:[1 2 1]}}");
        f(
            "{{schema:3 count:9 sum:5 z_bucket:2 z_bucket_w:0.001 buckets:[1 0 0 2 1] n_buckets:[1 2] n_offset:-3}}",
        );
        f("{{schema:-2 count:3 sum:5 offset:-7 buckets:[1 0 2]}}");
        f("{{schema:8 count:3 sum:5 offset:1000 buckets:[1 0 2]}}");
        f("{{schema:1 count:3 sum:5 z_bucket:1 z_bucket_w:0.6 buckets:[2 1]}}");
    }

    #[test]
    fn other_bounds_are_custom_ones() {
        let made = FloatHistogram::from_text(
            "{{schema:-53 count:7 sum:5 custom_values:[0.1 0.5 5] buckets:[1 2 3 1]}}",
        )
        .unwrap();
        let found = native(&shown(&made)).unwrap();
        assert!(found.has_custom_buckets());
        assert_eq!(found.custom_bounds(), [0.1, 0.5, 5.0]);
        assert_eq!(found.to_string(), made.to_string());
    }

    #[test]
    fn buckets_that_make_no_sense_are_refused() {
        let bucket = |boundaries, lower, upper| Bucket {
            boundaries,
            lower,
            upper,
            count: 1.0,
        };
        let f = |buckets: Vec<Bucket>| {
            let (count, sum) = (1.0, 1.0);
            native(&Histogram {
                count,
                sum,
                buckets,
            })
        };
        assert!(f(vec![bucket(2, 1.0, 2.0)]).is_none());
        assert!(f(vec![bucket(0, 3.0, 4.0), bucket(0, 1.0, 3.0)]).is_none());
        assert!(f(vec![bucket(0, f64::NAN, f64::NAN)]).is_none());
        assert!(f(Vec::new()).is_some());
    }
}
