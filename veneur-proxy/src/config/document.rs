//! YAML with the environment laid over it, for either dialect.

use std::{collections::BTreeMap, time::Duration};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::{DuplicateKeyPolicy, Options, with_deserializer_from_str_with_options};
use shared::config::duration::parse_nanos;

use super::{ConfigError, Generation};

/// A setting as the user wrote it.
pub(super) enum Setting<'a> {
    Text(&'a mut Option<String>),
    Flag(&'a mut Option<bool>),
    Number(&'a mut Option<i64>),
    List(&'a mut Option<Vec<String>>),
}

/// What the user wrote, key by key.
pub(super) trait Dialect: Default + DeserializeOwned {
    /// What is done when a key is there twice.
    const DUPLICATES: DuplicateKeyPolicy;

    /// Returns the keys that the environment can set, parts joined by dots.
    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)>;
}

/// The environment, looked up by name.
pub(super) struct Environment<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The prefix `VENEUR` of v1 to v6 counts only if that generation was asked for: it is the agent's, too.
    pub(super) asked: Option<Generation>,
}

impl Environment<'_> {
    /// Returns the top-level keys that are set in it.
    pub(super) fn keys<D: Dialect>(&self) -> Vec<String> {
        let mut raw = D::default();
        raw.settings()
            .iter()
            .filter(|(key, _)| self.find(key).is_some())
            .map(|(key, _)| key.split('.').next().unwrap_or(key).to_owned())
            .collect()
    }

    /// Sets what is set in it; returns remarks.
    pub(super) fn overlay<D: Dialect>(&self, raw: &mut D) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        for (key, setting) in raw.settings() {
            let Some((name, value)) = self.find(key) else {
                continue;
            };
            if !name.starts_with("VENEUR_PROXY_") {
                warnings.push(format!(
                    "{name} is set; rename it, the prefix VENEUR is the agent's"
                ));
            }
            let wrong = |reason: &str| ConfigError::Environment {
                name: name.clone(),
                key,
                reason: format!("{value:?} is {reason}"),
            };
            match setting {
                Setting::Text(text) => *text = Some(value),
                Setting::Flag(flag) => {
                    *flag = Some(boolean(&value).ok_or_else(|| wrong("no boolean"))?);
                }
                Setting::Number(number) => {
                    *number = Some(value.parse().map_err(|_| wrong("no number"))?);
                }
                Setting::List(list) => {
                    let items = value.split(',').filter(|_| !value.trim().is_empty());
                    *list = Some(items.map(str::to_owned).collect());
                }
            }
        }
        Ok(warnings)
    }

    /// Looks a key up: `statsd.address` is `VENEUR_PROXY_STATSD_ADDRESS`, `http_address` is `VENEUR_PROXY_HTTPADDRESS`.
    fn find(&self, key: &str) -> Option<(String, String)> {
        let suffix = key.replace('_', "").replace('.', "_").to_uppercase();
        let old = (self.asked == Some(Generation::Legacy)).then_some("VENEUR");
        ["VENEUR_PROXY"].into_iter().chain(old).find_map(|prefix| {
            let name = format!("{prefix}_{suffix}");
            Some((self.variable)(&name))
                .flatten()
                .map(|value| (name, value))
        })
    }
}

/// Reads a document; `None` if there is nothing in it. The second part is the paths of unknown keys.
pub(super) fn read<D: Dialect>(text: &str) -> Result<(Option<D>, Vec<String>), ConfigError> {
    let mut unknown = Vec::new();
    let raw = with_deserializer_from_str_with_options(text, options(D::DUPLICATES), |yaml| {
        serde_ignored::deserialize(yaml, |path| {
            // The way through an optional value shows as a question mark.
            let path = path.to_string();
            let parts: Vec<&str> = path.split('.').filter(|part| *part != "?").collect();
            unknown.push(parts.join("."));
        })
    });
    Ok((raw.map_err(|reason| yaml_error(&reason))?, unknown))
}

/// Returns the top-level keys of a document.
#[expect(
    clippy::zero_sized_map_values,
    reason = "a set would not read a mapping"
)]
pub(super) fn keys(text: &str) -> Result<Vec<String>, ConfigError> {
    let map: Option<BTreeMap<String, IgnoredAny>> =
        serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::LastWins))
            .map_err(|reason| yaml_error(&reason))?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn options(duplicates: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        duplicate_keys: duplicates,
        legacy_octal_numbers: true,
        with_snippet: false,
    }
}

fn yaml_error(reason: &serde_saphyr::Error) -> ConfigError {
    ConfigError::Yaml(format!("yaml: {reason}"))
}

/// Reads a boolean as Go's `strconv` does.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a duration; `None` where nothing is set, and for 0.
pub(super) fn duration(
    key: &'static str,
    text: Option<&str>,
) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let nanos = parse_nanos(text).map_err(|reason| ConfigError::value(key, reason))?;
    let nanos = u64::try_from(nanos).map_err(|_| ConfigError::value(key, "a negative duration"))?;
    Ok((nanos > 0).then(|| Duration::from_nanos(nanos)))
}

/// Reads a count; `None` where nothing is set, and for 0.
pub(super) fn count(key: &'static str, number: Option<i64>) -> Result<Option<usize>, ConfigError> {
    let number = usize::try_from(number.unwrap_or(0));
    let number = number.map_err(|_| ConfigError::value(key, "a negative number"))?;
    Ok((number > 0).then_some(number))
}

/// Text that is there and not empty.
pub(super) fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
