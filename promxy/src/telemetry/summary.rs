//! Observations: how many, their sum, and quantiles of the latest.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use shared::metrics::Family;

/// How long an observation counts for quantiles.
const AGE: Duration = Duration::from_secs(600);
/// How many count at most.
const MOST: usize = 1000;
/// Which quantiles are shown.
const RANKS: [f64; 3] = [0.5, 0.9, 0.99];

/// A summary.
#[derive(Debug, Default)]
pub struct Summary(Mutex<Observed>);

#[derive(Debug, Default)]
struct Observed {
    count: u64,
    sum: f64,
    latest: VecDeque<(Instant, f64)>,
}

impl Summary {
    /// Adds an observation.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut observed = self.0.lock();
        observed.count += 1;
        observed.sum += seconds;
        if observed.latest.len() == MOST {
            observed.latest.pop_front();
        }
        observed.latest.push_back((Instant::now(), seconds));
    }

    /// Adds the summary to a family.
    #[must_use]
    pub fn add_to(&self, family: Family, labels: &[(&str, &str)]) -> Family {
        let (count, sum, mut latest) = {
            let mut observed = self.0.lock();
            while let Some((at, _)) = observed.latest.front()
                && at.elapsed() > AGE
            {
                observed.latest.pop_front();
            }
            let latest: Vec<f64> = observed.latest.iter().map(|(_, value)| *value).collect();
            (observed.count, observed.sum, latest)
        };
        latest.sort_by(f64::total_cmp);
        let value = |rank: f64| {
            let place = (rank * latest.len() as f64) as usize;
            let place = place.min(latest.len().saturating_sub(1));
            latest.get(place).copied().unwrap_or(f64::NAN)
        };
        let quantiles = RANKS.map(|rank| (rank, value(rank)));
        family.summary_sample(labels, count, sum, &quantiles)
    }
}
