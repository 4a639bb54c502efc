//! Who is selected: pure functions from what the probes found to rows of the status page, targets and spares.

use std::{cmp::Ordering, sync::Arc};

use crate::{
    backend::Backend,
    config::Strategy,
    probe::{
        Probe,
        scrape::{BUILD_INFO, INGESTED, LOWEST_TIMESTAMP, Samples},
    },
};

/// One server in one round.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The server.
    pub backend: Arc<Backend>,
    /// Whether it was selected.
    pub selected: bool,
    /// Since when it runs, in seconds; unknown where its page does not say.
    pub uptime: Option<i64>,
    /// Its version.
    pub version: Option<String>,
    /// What the strategy compared, as text.
    pub value: String,
    /// Samples ingested since its start.
    pub samples: Option<f64>,
    /// The metric that said so.
    pub samples_metric: Option<&'static str>,
    /// The age of its oldest data in seconds.
    pub history: Option<f64>,
    /// Why it was selected or not.
    pub reason: String,
    /// Whether it can answer requests at all.
    pub viable: bool,
    /// The better, the larger.
    rank: f64,
}

/// The outcome of a round.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// All servers, in the order of the locators.
    pub candidates: Vec<Candidate>,
    /// The metric that was compared.
    pub comparison: String,
}

impl Outcome {
    /// Returns the selected servers; one that is listed twice is there twice, as in the original.
    pub fn targets(&self) -> Vec<Arc<Backend>> {
        self.candidates
            .iter()
            .filter(|candidate| candidate.selected)
            .map(|candidate| Arc::clone(&candidate.backend))
            .collect()
    }

    /// Returns the servers that could stand in for the selected ones, the best first.
    pub fn spares(&self) -> Vec<Arc<Backend>> {
        let mut spares: Vec<&Candidate> = self
            .candidates
            .iter()
            .filter(|candidate| candidate.viable && !candidate.selected)
            .collect();
        spares.sort_by(|a, b| b.rank.partial_cmp(&a.rank).unwrap_or(Ordering::Equal));
        spares
            .into_iter()
            .map(|candidate| Arc::clone(&candidate.backend))
            .collect()
    }
}

/// Judges what the probes found at `now` (seconds).
pub fn select(strategy: Strategy, probed: Vec<(Arc<Backend>, Probe)>, now: f64) -> Outcome {
    let mut candidates: Vec<Candidate> = probed
        .into_iter()
        .map(|(backend, probe)| candidate(strategy, backend, &probe, now))
        .collect();
    match strategy {
        Strategy::SingleMostData | Strategy::MostHistory => select_best(&mut candidates),
        Strategy::Random | Strategy::RoundRobin | Strategy::LeastRequests => {
            for candidate in &mut candidates {
                if candidate.viable {
                    candidate.selected = true;
                    "it answers queries".clone_into(&mut candidate.reason);
                }
            }
        }
        Strategy::MinimumHistory(_) => {}
    }
    let comparison = comparison(strategy, &candidates);
    Outcome {
        candidates,
        comparison,
    }
}

fn candidate(strategy: Strategy, backend: Arc<Backend>, probe: &Probe, now: f64) -> Candidate {
    let mut candidate = Candidate {
        backend,
        selected: false,
        uptime: None,
        version: None,
        value: String::new(),
        samples: None,
        samples_metric: None,
        history: None,
        reason: String::new(),
        viable: false,
        rank: 0.0,
    };
    let page = match &probe.page {
        Ok(page) => page,
        Err(error) => {
            candidate.reason = format!("no metrics page: {error}");
            return candidate;
        }
    };
    candidate.uptime = page.start_time.map(|start| (now - start) as i64);
    candidate.version.clone_from(&page.version);
    candidate.history = page
        .lowest_timestamp
        // An empty database says the largest time there is.
        .filter(|oldest| *oldest > 0.0 && *oldest <= now)
        .map(|oldest| now - oldest);
    if let Samples::Counted(metric, count) = page.samples {
        candidate.samples = Some(count);
        candidate.samples_metric = Some(metric);
    }
    candidate.viable = probe.viable.is_ok();
    if let Err(error) = &probe.viable {
        candidate.reason = format!("it does not answer queries: {error}");
    }
    match strategy {
        Strategy::SingleMostData => match &page.samples {
            Samples::Counted(_, count) => {
                candidate.value = format!("{:.0}", count.trunc());
                candidate.rank = count.trunc().max(0.0);
            }
            Samples::Unknown => {}
            Samples::Invalid(text) => {
                candidate.viable = false;
                candidate.reason = format!("failed to parse value for metric {text}");
            }
        },
        Strategy::MostHistory => {
            candidate.rank = candidate.history.unwrap_or(0.0);
            if let Some(oldest) = page.lowest_timestamp {
                candidate.value = format!("{oldest:.0}");
            }
        }
        Strategy::MinimumHistory(nanos) => {
            minimum_history(&mut candidate, probe, nanos as f64 / 1e9);
        }
        Strategy::Random | Strategy::RoundRobin | Strategy::LeastRequests => {
            if candidate.viable
                && let Some(info) = &page.build_info
            {
                candidate.value = format!("{info} 1.000000");
            }
        }
    }
    candidate
}

/// Selected is who has any data from then: the query says so, or else the time of the oldest sample.
fn minimum_history(candidate: &mut Candidate, probe: &Probe, wanted: f64) {
    let enough = candidate.history.filter(|age| *age >= wanted);
    match (&probe.history, enough) {
        (Some(Ok(text)), _) => {
            candidate.value.clone_from(text);
            candidate.selected = true;
            "it has data from that time".clone_into(&mut candidate.reason);
        }
        (Some(Err(_)), Some(age)) => {
            candidate.value = format!("{LOWEST_TIMESTAMP}: {age:.0} s ago");
            candidate.selected = true;
            "its oldest data is older".clone_into(&mut candidate.reason);
        }
        (Some(Err(error)), None) => candidate.reason = format!("not enough history: {error}"),
        (None, _) => {}
    }
}

/// The viable candidate of the highest rank; the first listed of equals. Rank 0 is better than nobody: all have just restarted.
fn select_best(candidates: &mut [Candidate]) {
    let mut best: Option<usize> = None;
    for (place, candidate) in candidates.iter().enumerate() {
        if candidate.viable && best.is_none_or(|best| candidate.rank > candidates[best].rank) {
            best = Some(place);
        }
    }
    for (place, candidate) in candidates.iter_mut().enumerate() {
        if Some(place) == best {
            candidate.selected = true;
            "it has most".clone_into(&mut candidate.reason);
        } else if candidate.viable {
            "another has as much or more".clone_into(&mut candidate.reason);
        }
    }
}

fn comparison(strategy: Strategy, candidates: &[Candidate]) -> String {
    let name = match strategy {
        // The name that was really read: that of the selected one if versions are mixed.
        Strategy::SingleMostData => {
            let read = |selected: bool| {
                candidates
                    .iter()
                    .filter(|candidate| candidate.selected || !selected)
                    .find_map(|candidate| candidate.samples_metric)
            };
            read(true).or_else(|| read(false)).unwrap_or(INGESTED)
        }
        Strategy::MostHistory => LOWEST_TIMESTAMP,
        Strategy::MinimumHistory(_) => "up",
        Strategy::Random | Strategy::RoundRobin | Strategy::LeastRequests => BUILD_INFO,
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        endpoint::Endpoint,
        probe::{
            ProbeError,
            scrape::{APPENDED, Page},
        },
    };

    fn page(samples: Samples) -> Page {
        Page {
            samples,
            ..Page::default()
        }
    }

    fn run(strategy: Strategy, probes: Vec<Probe>) -> Outcome {
        let probed = probes.into_iter().enumerate().map(|(number, probe)| {
            let endpoint = Endpoint::parse(&format!("http://b{number}:1")).unwrap();
            (Arc::new(Backend::new(endpoint, 1)), probe)
        });
        select(strategy, probed.collect(), 1000.0)
    }

    fn viable(page: Page) -> Probe {
        Probe {
            page: Ok(page),
            viable: Ok(()),
            history: None,
        }
    }

    fn selected(outcome: &Outcome) -> Vec<bool> {
        outcome.candidates.iter().map(|c| c.selected).collect()
    }

    #[test]
    fn most_data_is_the_largest_whole_number_and_ties_go_to_the_first() {
        let f = |values: &[f64], expected: usize| {
            let probes = values
                .iter()
                .map(|value| viable(page(Samples::Counted(INGESTED, *value))))
                .collect();
            let outcome = run(Strategy::SingleMostData, probes);
            let place = outcome.candidates.iter().position(|c| c.selected);
            assert_eq!(place, Some(expected), "{values:?}");
        };
        f(&[100.0, 3000.0, 200.0], 1);
        f(&[3000.0, 3000.0], 0);
        f(&[1499.9, 1499.2], 0);
        f(&[0.0, 0.0], 0);
        f(&[-5.0, 7.0], 1);
        f(&[100.0, 1e30], 1);
    }

    #[test]
    fn generations_are_compared_with_each_other() {
        let outcome = run(
            Strategy::SingleMostData,
            vec![
                viable(page(Samples::Counted(INGESTED, 5.0))),
                viable(page(Samples::Counted(APPENDED, 6.0))),
                viable(page(Samples::Unknown)),
            ],
        );
        assert_eq!(selected(&outcome), [false, true, false]);
        assert_eq!(outcome.comparison, APPENDED);
        assert_eq!(outcome.spares().len(), 2);
    }

    #[test]
    fn who_does_not_answer_queries_or_counts_nonsense_is_no_spare() {
        let mut down = viable(page(Samples::Counted(INGESTED, 9.0)));
        down.viable = Err(ProbeError::Status(503));
        let outcome = run(
            Strategy::SingleMostData,
            vec![
                down,
                viable(page(Samples::Invalid("x NaN".to_owned()))),
                viable(page(Samples::Counted(INGESTED, 1.0))),
            ],
        );
        assert_eq!(selected(&outcome), [false, false, true]);
        assert!(outcome.spares().is_empty());
        assert!(
            outcome.candidates[0]
                .reason
                .contains("bad response code 503")
        );
    }

    #[test]
    fn history_is_what_the_query_says_or_else_the_oldest_sample() {
        let strategy = Strategy::MinimumHistory(500_000_000_000);
        let with = |history: Result<String, ProbeError>, oldest: Option<f64>| Probe {
            page: Ok(Page {
                lowest_timestamp: oldest,
                ..Page::default()
            }),
            viable: Ok(()),
            history: Some(history),
        };
        let none = || Err(ProbeError::Answer("no data at that time".to_owned()));
        let outcome = run(
            strategy,
            vec![
                with(Ok("{} => 1 @[1]".to_owned()), None),
                with(none(), Some(400.0)),
                with(none(), Some(600.0)),
                // What an empty database says.
                with(none(), Some(9.223372036854776e15)),
            ],
        );
        assert_eq!(selected(&outcome), [true, true, false, false]);
        assert_eq!(outcome.candidates[0].value, "{} => 1 @[1]");
    }

    #[test]
    fn the_oldest_data_wins_where_history_counts() {
        let old = |seconds: f64| {
            viable(Page {
                lowest_timestamp: Some(seconds),
                ..Page::default()
            })
        };
        let outcome = run(
            Strategy::MostHistory,
            vec![old(900.0), old(10.0), old(500.0)],
        );
        assert_eq!(selected(&outcome), [false, true, false]);
        let spares: Vec<String> = outcome
            .spares()
            .iter()
            .map(|backend| backend.endpoint.host().to_owned())
            .collect();
        assert_eq!(spares, ["b2", "b0"]);
    }
}
