//! An hour of an embedded shop's metrics: two regions with three machines each.

use std::sync::Arc;

use promql::{
    labels::Labels,
    storage::{Samples, SeriesData},
};

/// The regions; each is a shard.
pub(crate) const REGIONS: [&str; 2] = ["east", "west"];
/// Between two scrapes. Milliseconds.
const STEP: i64 = 15_000;
/// How many scrapes there were.
const SCRAPES: i64 = 240;
/// Machines of a region.
const MACHINES: usize = 3;

/// Returns the series of a region, up to a time in milliseconds, without a label that names the region, as its own servers have
/// them.
pub(crate) fn region(region: usize, end: i64) -> Vec<SeriesData> {
    let mut all = Vec::new();
    for machine in 0..MACHINES {
        let number = region * MACHINES + machine;
        let instance = format!("shop-{number}");
        let mut add = |pairs: &[(&str, &str)], value: &dyn Fn(i64) -> f64| {
            let own = [("job", "shop"), ("instance", instance.as_str())];
            all.push(SeriesData {
                labels: pairs.iter().copied().chain(own).collect(),
                samples: Arc::new(samples(end, value)),
            });
        };
        let speed = 1.0 + number as f64;
        for (code, share) in [("200", 40.0), ("500", 1.0)] {
            let labels = [("__name__", "http_requests_total"), ("code", code)];
            add(&labels, &|scrape| speed * share * scrape as f64);
        }
        for (bound, share) in [("0.1", 20.0), ("0.5", 36.0), ("+Inf", 41.0)] {
            let labels = [("__name__", "latency_seconds_bucket"), ("le", bound)];
            add(&labels, &|scrape| speed * share * scrape as f64);
        }
        add(&[("__name__", "memory_bytes")], &|scrape| {
            (64.0 + speed) * 1_048_576.0 + ((scrape * 7 + number as i64) % 32) as f64 * 4096.0
        });
    }
    all
}

/// Returns the series of all regions with their labels, as one server would have them that scrapes everything.
pub(crate) fn whole(end: i64) -> Vec<SeriesData> {
    let regions = REGIONS.iter().enumerate();
    let labelled = regions.flat_map(|(number, name)| {
        region(number, end).into_iter().map(|series| SeriesData {
            labels: series
                .labels
                .iter()
                .chain([("region", *name)])
                .collect::<Labels>(),
            samples: series.samples,
        })
    });
    labelled.collect()
}

fn samples(end: i64, value: &dyn Fn(i64) -> f64) -> Samples {
    let scrapes = 0..SCRAPES;
    Samples {
        timestamps: scrapes
            .clone()
            .map(|scrape| end - (SCRAPES - 1 - scrape) * STEP)
            .collect(),
        values: scrapes.map(value).collect(),
        ..Samples::default()
    }
}
