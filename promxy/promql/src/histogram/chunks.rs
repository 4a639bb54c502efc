//! What becomes of histograms in Prometheus' storage, which tests of queries have to reckon with.
//!
//! Samples are kept in chunks, and a chunk has one layout and at most one counter reset, at its beginning. So hints are not what
//! was written, but what the chunk says, and buckets that any sample of the chunk has come back in all of them, if only empty.
//! Follows `tsdb/chunkenc/float_histogram.go` and `tsdb/head_append.go`. Chunks that end because of their size in bytes are
//! left out: after one, a hint would read "unknown" instead of "not reset".

use super::buckets::Buckets;
use super::{CounterResetHint, FloatHistogram};

/// The sum of a histogram that ends its series.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// No chunk reaches across a multiple of this time, in milliseconds: the block size of Prometheus' test storage.
const LONGEST_CHUNK: i64 = 24 * 3600 * 1000;

/// A sample of a series: when it was taken, in milliseconds, and the histogram unless it is a float.
type Sample = (i64, Option<FloatHistogram>);

/// Changes the samples of one series to what they are when they are read back.
///
/// `samples` are all of the series by time, in milliseconds; `None` is a float. (A stale marker after a histogram is stored as a
/// histogram: one whose sum is the marker.)
pub fn as_stored(samples: &mut [(i64, Option<FloatHistogram>)]) {
    let mut rest = samples;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at_mut(chunk_length(rest));
        read_back(chunk);
        rest = behind;
    }
}

/// Returns how many of the samples, of which there is at least one, go into the first chunk.
fn chunk_length(samples: &[Sample]) -> usize {
    let Some((start, Some(first))) = samples.first() else {
        return 1;
    };
    let end = (start / LONGEST_CHUNK)
        .saturating_add(1)
        .saturating_mul(LONGEST_CHUNK);
    let is_gauge = first.hint == CounterResetHint::Gauge;
    let pairs = samples.iter().zip(samples.iter().skip(1));
    let further = pairs.take_while(|(before, current)| match (before, current) {
        ((_, Some(before)), (time, Some(current))) => {
            *time < end && continues(before, current, is_gauge)
        }
        _ => false,
    });
    1 + further.count()
}

/// Whether a histogram can be stored behind another in a chunk of gauges or of counters.
fn continues(before: &FloatHistogram, current: &FloatHistogram, is_gauge: bool) -> bool {
    if is_gauge != (current.hint == CounterResetHint::Gauge)
        || current.hint == CounterResetHint::Reset
    {
        return false;
    }
    if is_stale(current) {
        return true;
    }
    let (now, then) = (&current.distribution, &before.distribution);
    let decreased = || current.count < before.count || now.any_lower_than(then);
    !is_stale(before) && now.same_scale(then) && (is_gauge || !decreased())
}

/// Changes the samples of a chunk.
fn read_back(chunk: &mut [Sample]) {
    let histograms = || {
        let histograms = chunk.iter().filter_map(|(_, histogram)| histogram.as_ref());
        histograms.filter(|histogram| !is_stale(histogram))
    };
    let is_gauge = histograms().any(|histogram| histogram.hint == CounterResetHint::Gauge);
    let mut positive = Buckets::<f64>::default();
    let mut negative = Buckets::<f64>::default();
    for histogram in histograms() {
        positive.pad_like(&histogram.distribution.positive);
        negative.pad_like(&histogram.distribution.negative);
    }
    for (i, (_, histogram)) in chunk.iter_mut().enumerate() {
        let Some(histogram) = histogram.as_mut().filter(|histogram| !is_stale(histogram)) else {
            continue;
        };
        histogram.hint = match i {
            _ if is_gauge => CounterResetHint::Gauge,
            0 => CounterResetHint::Unknown,
            _ => CounterResetHint::NotReset,
        };
        histogram.distribution.positive.pad_like(&positive);
        histogram.distribution.negative.pad_like(&negative);
    }
}

fn is_stale(histogram: &FloatHistogram) -> bool {
    histogram.sum.to_bits() == STALE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores histograms a minute apart, `-` being a float and `stale` the marker, and compares what is read back.
    fn f(written: &[&str], expected: &[&str]) {
        let read = |text: &&str| match *text {
            "-" => None,
            "stale" => {
                let mut stale = histogram("{{}}");
                stale.sum = f64::from_bits(STALE_BITS);
                Some(stale)
            }
            text => Some(histogram(text)),
        };
        let mut samples: Vec<Sample> = (0..)
            .step_by(60_000)
            .zip(written.iter().map(read))
            .collect();
        as_stored(&mut samples);
        let stored: Vec<String> = samples
            .iter()
            .map(|(_, sample)| match sample {
                None => "-".into(),
                Some(histogram) if is_stale(histogram) => "stale".into(),
                Some(histogram) => histogram.to_test_notation(),
            })
            .collect();
        assert_eq!(stored, expected, "{written:?}");
    }

    fn histogram(text: &str) -> FloatHistogram {
        FloatHistogram::from_text(text).expect("the test writes histograms")
    }

    const HINT: &str = "counter_reset_hint";

    #[test]
    fn only_the_first_of_growing_counters_does_not_know_of_resets() {
        let later = format!("{{{{count:2 {HINT}:not_reset buckets:[2]}}}}");
        f(
            &[
                "{{count:1 buckets:[1]}}",
                "{{count:2 buckets:[2]}}",
                "{{count:2 buckets:[2]}}",
            ],
            &["{{count:1 buckets:[1]}}", &later, &later],
        );
    }

    #[test]
    fn whatever_gets_lower_begins_a_chunk() {
        for (first, second) in [
            ("{{count:2 buckets:[2]}}", "{{count:1 buckets:[1]}}"),
            ("{{count:2 buckets:[2]}}", "{{count:2 buckets:[1]}}"),
            ("{{count:2 buckets:[1 1]}}", "{{count:2 buckets:[1]}}"),
            ("{{count:2 n_buckets:[2]}}", "{{count:2 n_buckets:[1]}}"),
            ("{{count:2 z_bucket:2}}", "{{count:2 z_bucket:1}}"),
            (
                "{{count:2 buckets:[2]}}",
                "{{schema:1 count:2 buckets:[2]}}",
            ),
            ("{{count:2 z_bucket_w:1}}", "{{count:2 z_bucket_w:0.5}}"),
            (
                "{{schema:-53 count:2 custom_values:[1] buckets:[2]}}",
                "{{schema:-53 count:2 custom_values:[2] buckets:[2]}}",
            ),
        ] {
            f(&[first, second], &[first, second]);
        }
    }

    #[test]
    fn a_reset_that_is_said_begins_a_chunk_and_is_forgotten() {
        f(
            &[
                "{{count:1}}",
                "{{count:2 counter_reset_hint:reset}}",
                "{{count:3}}",
            ],
            &[
                "{{count:1}}",
                "{{count:2}}",
                "{{count:3 counter_reset_hint:not_reset}}",
            ],
        );
    }

    #[test]
    fn gauges_have_chunks_of_their_own_and_may_get_lower() {
        let gauge = |count: u8| format!("{{{{count:{count} {HINT}:gauge}}}}");
        let (one, two) = (gauge(1), gauge(2));
        f(
            &[&two, &one, "{{count:1}}", &two],
            &[&two, &one, "{{count:1}}", &two],
        );
    }

    #[test]
    fn stale_markers_and_floats_end_chunks() {
        f(
            &["{{count:1}}", "stale", "{{count:1}}", "-", "{{count:1}}"],
            &["{{count:1}}", "stale", "{{count:1}}", "-", "{{count:1}}"],
        );
    }

    #[test]
    fn a_chunk_has_one_layout() {
        let mut samples: Vec<Sample> = [
            "{{count:1 buckets:[1]}}",
            "{{count:2 buckets:[1] n_buckets:[1]}}",
            "{{count:3 buckets:[1 0 0 0 1] n_buckets:[1]}}",
        ]
        .into_iter()
        .map(|text| (0, Some(histogram(text))))
        .collect();
        as_stored(&mut samples);
        for (_, sample) in &samples {
            let distribution = &sample.as_ref().expect("it is a histogram").distribution;
            assert_eq!(distribution.positive.len(), 5);
            assert_eq!(distribution.negative.len(), 1);
        }
    }

    #[test]
    fn no_chunk_reaches_into_the_next_day() {
        let day = 24 * 3600 * 1000;
        let mut samples: Vec<Sample> = [day - 2, day - 1, day]
            .into_iter()
            .map(|time| (time, Some(histogram("{{count:1}}"))))
            .collect();
        as_stored(&mut samples);
        let hints = samples
            .iter()
            .map(|(_, sample)| sample.as_ref().map(|sample| sample.hint));
        assert!(hints.eq([
            Some(CounterResetHint::Unknown),
            Some(CounterResetHint::NotReset),
            Some(CounterResetHint::Unknown),
        ]));
    }
}
