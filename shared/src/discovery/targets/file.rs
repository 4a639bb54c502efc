//! Lists of targets in files, as Prometheus' `file_sd`.
//!
//! Files are looked at once a second, and read when they have changed. A broken one keeps the targets that it had; one that
//! is gone has none.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{Group, Publisher, Source, document};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Their paths, each with at most one `*`, in its last element. They end in `.json`, `.yml` or `.yaml`.
    pub patterns: Vec<String>,
    /// How often they are read though nothing says that they have changed.
    pub refresh: Duration,
}

impl Source for File {
    const KIND: &'static str = "file";

    async fn follow(self, publisher: Publisher) {
        let mut known = Known::default();
        let mut full = Instant::now() + self.refresh;
        loop {
            if Instant::now() >= full {
                full = Instant::now() + self.refresh;
                known.forget_stamps();
            }
            let patterns = self.patterns.clone();
            // Files may lie on a slow disk.
            let looked = spawn_blocking(move || {
                let failures = known.look(&patterns);
                (known, failures)
            });
            let Ok((looked, failures)) = looked.await else {
                return publisher.fail("reading files has ended");
            };
            known = looked;
            let has_read_one = known.files.values().any(|file| file.groups.is_some());
            if failures.is_empty() || has_read_one {
                publisher.publish(known.groups());
            }
            if !failures.is_empty() {
                publisher.fail(&failures.join("; "));
            }
            sleep(LOOK).await;
        }
    }
}

/// When a file was changed, and how long it is.
type Stamp = (Option<SystemTime>, u64);

/// The files as they were read.
#[derive(Debug, Default)]
struct Known {
    files: BTreeMap<String, Seen>,
    /// The paths in the patterns' order.
    order: Vec<String>,
}

#[derive(Debug)]
struct Seen {
    stamp: Option<Stamp>,
    groups: Option<Vec<Arc<Group>>>,
    failure: Option<String>,
}

impl Known {
    fn forget_stamps(&mut self) {
        for file in self.files.values_mut() {
            file.stamp = None;
        }
    }

    /// Reads what has changed. Returns what is wrong with each broken file.
    fn look(&mut self, patterns: &[String]) -> Vec<String> {
        self.order = Vec::new();
        for path in patterns.iter().flat_map(|pattern| expand(pattern)) {
            if !self.order.contains(&path) {
                self.order.push(path);
            }
        }
        let Self { files, order } = self;
        files.retain(|path, _| order.contains(path));
        for path in order {
            let stamp = stamp(path);
            let seen = files.entry(path.clone()).or_insert(Seen {
                stamp: None,
                groups: None,
                failure: None,
            });
            if seen.stamp.is_some() && seen.stamp == stamp {
                continue;
            }
            seen.stamp = stamp;
            match read(path) {
                Ok(groups) => {
                    seen.groups = Some(groups);
                    seen.failure = None;
                }
                Err(reason) => seen.failure = Some(format!("{path}: {reason}")),
            }
        }
        let failures = files.values().filter_map(|seen| seen.failure.clone());
        failures.collect()
    }

    fn groups(&self) -> Vec<Arc<Group>> {
        let seen = self.order.iter().filter_map(|path| self.files.get(path));
        let groups = seen.filter_map(|seen| seen.groups.as_ref());
        groups.flatten().cloned().collect()
    }
}

fn stamp(path: &str) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

fn read(path: &str) -> Result<Vec<Arc<Group>>, String> {
    let length = fs::metadata(path).map(|metadata| metadata.len());
    if length.is_ok_and(|length| length > document::LARGEST as u64) {
        return Err("the file is too large".to_owned());
    }
    let text = fs::read(path).map_err(|error: io::Error| error.to_string())?;
    let parsed = if path.to_ascii_lowercase().ends_with(".json") {
        document::from_json(&text)?
    } else {
        let text = String::from_utf8(text).map_err(|error| error.to_string())?;
        document::from_yaml(&text)?
    };
    Ok(document::groups(parsed, "__meta_filepath", path))
}

/// Lists the files that a pattern matches, in alphabetical order.
fn expand(pattern: &str) -> Vec<String> {
    let (folder, last) = match pattern.rsplit_once('/') {
        Some(("", last)) => ("/", last),
        Some((folder, last)) => (folder, last),
        None => (".", pattern),
    };
    let Some((beginning, end)) = last.split_once('*') else {
        let is_there = Path::new(pattern).exists();
        return is_there.then(|| pattern.to_owned()).into_iter().collect();
    };
    // A folder that cannot be read has no files, as in Go.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| {
            let inner = name.strip_prefix(beginning);
            inner.is_some_and(|inner| inner.ends_with(end))
        })
        .collect();
    names.sort_unstable();
    let place = folder.trim_start_matches("./");
    let path = |name: String| match place {
        "." | "" => name,
        "/" => format!("/{name}"),
        place => format!("{place}/{name}"),
    };
    names.into_iter().map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_name_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.json", "a.json", "a.yml", "aa.json", ".json"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let at = folder.path().display();
        let f = |pattern: &str, expected: &[&str]| {
            let expected: Vec<String> = expected.iter().map(|n| format!("{at}/{n}")).collect();
            assert_eq!(expand(&format!("{at}/{pattern}")), expected, "{pattern}");
        };
        f("*.json", &[".json", "a.json", "aa.json", "b.json"]);
        f("a*.json", &["a.json", "aa.json"]);
        // The letters before and behind must not be the same.
        f("a*a.json", &["aa.json"]);
        f("a.yml", &["a.yml"]);
        f("missing.yml", &[]);
        f("missing/*.yml", &[]);
    }
}
