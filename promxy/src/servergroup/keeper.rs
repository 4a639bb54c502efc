//! The tasks of a group: taking targets from discovery, reading label values for filters, and metadata.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use shared::lifecycle::Tasks;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    group::Group,
    member::{Listed, Member},
    metrics::Outcome,
    sources::Source,
};
use crate::{labels::filter::LabelFilter, upstream::Asker};

/// How long after a failure label values are read again.
const RETRY: Duration = Duration::from_secs(1);

/// How long a target may take to answer what nobody waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the tasks of a group. What is known of its targets is taken at once.
pub(crate) fn keep(
    group: &Arc<Group>,
    source: &Source,
    tasks: &Tasks,
    changed: &watch::Sender<u64>,
) {
    let mut known = source.known();
    let first = known.borrow_and_update().clone();
    if let Some(targets) = first {
        let fresh = group.update(&targets);
        watch_labels(group, fresh, tasks);
    }
    let (group, tasks, changed) = (Arc::clone(group), tasks.clone(), changed.clone());
    if let Some(every) = group.common.config.metadata_refresh {
        let refreshed = refresh_metadata(Arc::clone(&group), every, tasks.stop_token());
        tasks.spawn("metadata", refreshed);
    }
    let spawner = tasks.clone();
    spawner.spawn("targets", async move {
        let stop = tasks.stop_token();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                change = known.changed() => if change.is_err() {
                    return;
                },
            }
            let targets = known.borrow_and_update().clone();
            if let Some(targets) = targets {
                let fresh = group.update(&targets);
                watch_labels(&group, fresh, &tasks);
                changed.send_modify(|count| *count += 1);
            }
        }
    });
}

/// Starts to read the label values of new targets, if the group filters by them.
fn watch_labels(group: &Group, fresh: Vec<Arc<Member>>, tasks: &Tasks) {
    let keys = group.common.config.label_filter.as_ref();
    if keys.is_none_or(|keys| keys.dynamic_labels.is_empty()) {
        return;
    }
    for member in fresh {
        tasks.spawn(
            "label filter",
            sync_labels(Arc::downgrade(&member), tasks.stop_token()),
        );
    }
}

/// Reads label values of a target for as long as it is one. Until that has succeeded once, the target is not filtered (D25).
async fn sync_labels(member: Weak<Member>, stop: CancellationToken) {
    let mut is_first = true;
    loop {
        let pause = {
            let Some(member) = member.upgrade() else {
                return;
            };
            let Some(keys) = &member.common.config.label_filter else {
                return;
            };
            let begin = Instant::now();
            let read = tokio::select! {
                () = stop.cancelled() => return,
                read = timeout(PATIENCE, label_values(&member, &keys.dynamic_labels)) => read,
            };
            let read = read.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            if !is_first {
                let counters = &member.common.counters;
                counters.synced(Outcome::of(&read), begin.elapsed());
            }
            match read {
                Ok(known) => {
                    let filter = LabelFilter::new(&known, &keys.include, &keys.exclude);
                    member.filter.store(Some(Arc::new(filter)));
                    is_first = false;
                    match keys.sync_interval {
                        Some(interval) => interval,
                        None => return,
                    }
                }
                Err(reason) => {
                    let (ordinal, target) = (member.common.ordinal, &member.target.url);
                    tracing::warn!(ordinal, target, reason, "label values cannot be read");
                    keys.sync_interval.filter(|_| !is_first).unwrap_or(RETRY)
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

async fn label_values(
    member: &Member,
    labels: &[String],
) -> Result<Vec<(String, Vec<String>)>, String> {
    let asker = Asker::default();
    let mut all = Vec::with_capacity(labels.len());
    for label in labels {
        let listed = Listed {
            selector: None,
            start: Some(0),
            end: Some(jiff::Timestamp::now().as_millisecond()),
        };
        let found = member.label_values(label, listed, &asker).await;
        let found = found.map_err(|error| error.to_string())?;
        all.push((label.clone(), found.data));
    }
    Ok(all)
}

/// Asks which metrics are histograms: as soon as there are targets (D38), then every so often. A failure changes nothing.
async fn refresh_metadata(group: Arc<Group>, every: Duration, stop: CancellationToken) {
    let mut changes = group.changes();
    loop {
        changes.borrow_and_update();
        let members = group.state().members.clone();
        let mut found: Option<HashSet<String>> = None;
        for member in &members {
            let asker = Asker::default();
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = timeout(PATIENCE, member.metadata("", &asker)) => asked,
            };
            let Ok(Ok(metadata)) = asked else {
                let (ordinal, target) = (group.common.ordinal, &member.target.url);
                tracing::warn!(ordinal, target, "metadata cannot be read");
                continue;
            };
            let is_histogram = |kind: &str| kind == "histogram" || kind == "gaugehistogram";
            let names = metadata
                .into_iter()
                .filter(|(_, entries)| entries.iter().any(|entry| is_histogram(&entry.kind)));
            let names = names.map(|(name, _)| name);
            found.get_or_insert_default().extend(names);
        }
        if let Some(found) = found {
            group.histograms.store(Arc::new(found));
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(every) => {}
            // New targets are asked at once.
            change = changes.changed() => if change.is_err() {
                return;
            },
        }
    }
}
