//! Two streams of samples at their own times as one.
//!
//! Replicas scrape at different moments, so their samples are not mixed: one stream is the base, the other fills what is
//! missing in it. A hole is a distance of more than twice the buffer; into it go samples that are more than the buffer away from
//! its edges. Pinned by `tests/golden/query/merge.json`.

use super::{Mergeable, Options};
use crate::series::Samples;

/// Something with a time.
trait Timed: Clone {
    fn time(&self) -> i64;

    /// Returns the same at another time.
    fn at(&self, time: i64) -> Self;
}

impl<V: Clone> Timed for (i64, V) {
    fn time(&self) -> i64 {
        self.0
    }

    fn at(&self, time: i64) -> Self {
        (time, self.1.clone())
    }
}

impl<H: Clone> Mergeable for Samples<H> {
    type Context = ();

    fn merge(self, later: Self, options: Options, (): &()) -> Self {
        let buffer = buffer(&self, &later, options);
        let larger = |x: &(i64, f64), near: &(i64, f64)| near.1 > x.1;
        Self {
            floats: if options.prefer_max {
                merge(self.floats, later.floats, buffer, Some(&larger))
            } else {
                merge_plain(self.floats, later.floats, buffer)
            },
            histograms: merge_plain(self.histograms, later.histograms, buffer),
        }
    }
}

/// Returns how near samples may be: as configured, or half of the usual distance of the samples.
fn buffer<H>(a: &Samples<H>, b: &Samples<H>, options: Options) -> i64 {
    if !options.dynamic {
        return options.buffer_ms;
    }
    let times = |floats: &[(i64, f64)]| floats.iter().map(|sample| sample.0).collect::<Vec<i64>>();
    let histogram_times =
        |samples: &[(i64, H)]| samples.iter().map(|sample| sample.0).collect::<Vec<i64>>();
    half_of_usual_gap(&times(&a.floats), &times(&b.floats))
        .or_else(|| {
            half_of_usual_gap(
                &histogram_times(&a.histograms),
                &histogram_times(&b.histograms),
            )
        })
        .unwrap_or(options.buffer_ms)
}

/// Returns half of the median gap of the longer stream, or of both if it alone has too few.
fn half_of_usual_gap(a: &[i64], b: &[i64]) -> Option<i64> {
    const ENOUGH: usize = 3;
    let gaps = |times: &[i64]| -> Vec<i64> {
        let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        gaps.filter(|gap| *gap > 0).collect()
    };
    let (longer, shorter) = if b.len() > a.len() { (b, a) } else { (a, b) };
    let mut found = gaps(longer);
    if found.len() < ENOUGH {
        found.extend(gaps(shorter));
    }
    if found.len() < ENOUGH {
        return None;
    }
    let middle = found.len() / 2;
    let (_, median, _) = found.select_nth_unstable(middle);
    Some(*median / 2)
}

fn merge_plain<S: Timed>(a: Vec<S>, b: Vec<S>, buffer: i64) -> Vec<S> {
    merge(a, b, buffer, None::<&fn(&S, &S) -> bool>)
}

/// Merges two streams; `is_better` says whether a near sample of the other stream is taken in place of the base's.
fn merge<S: Timed>(
    a: Vec<S>,
    b: Vec<S>,
    buffer: i64,
    is_better: Option<&impl Fn(&S, &S) -> bool>,
) -> Vec<S> {
    if a.is_empty() {
        return b;
    }
    if b.is_empty() {
        return a;
    }
    let (a, b) = if b.len() > a.len() { (b, a) } else { (a, b) };
    let mut merged: Vec<S> = Vec::with_capacity(a.len() + b.len() / 4);
    let start = a[0].time().saturating_sub(buffer);
    let mut cursor = b.iter().take_while(|sample| sample.time() < start).count();
    merged.extend_from_slice(&b[..cursor]);
    let mut near = 0;
    for x in &a {
        if let Some(last) = merged.last().map(Timed::time)
            && x.time().saturating_sub(last) > buffer.saturating_mul(2)
        {
            let (after, before) = (last.saturating_add(buffer), x.time().saturating_sub(buffer));
            while let Some(sample) = b.get(cursor).filter(|sample| sample.time() < x.time()) {
                if sample.time() > after && sample.time() < before {
                    merged.push(sample.clone());
                }
                cursor += 1;
            }
        }
        let Some(is_better) = is_better else {
            merged.push(x.clone());
            continue;
        };
        let is_near = |sample: &S| {
            let distance = sample.time().saturating_sub(x.time());
            distance == 0 || (distance > -buffer && distance < buffer)
        };
        while b
            .get(near)
            .is_some_and(|sample| !is_near(sample) && sample.time() < x.time())
        {
            near += 1;
        }
        let mut taken = x.clone();
        if let Some(sample) = b
            .get(near)
            .filter(|sample| is_near(sample) && is_better(x, sample))
        {
            // The other's value at the base's time.
            taken = sample.at(x.time());
        }
        merged.push(taken);
    }
    let after = merged
        .last()
        .map_or(i64::MIN, |last| last.time().saturating_add(buffer));
    merged.extend(
        b.iter()
            .skip(cursor)
            .filter(|sample| sample.time() > after)
            .cloned(),
    );
    // What came out of order in the base still is.
    merged.sort_by_key(Timed::time);
    merged
}
