//! From what discovery knows of a server to its URL and the labels of its series.
//!
//! Discovery hands over an address with labels, many of which begin with two underscores. The group's scheme and path prefix are
//! added as such labels, relabelling rules run over all, and what is left without the underscores becomes labels of every series.

use std::fmt::Write as _;

use crate::{
    config::{ServerGroup, go_url},
    labels::{self, Labels, LabelsBuilder, relabel::relabel},
};

/// The label that holds the address.
pub const ADDRESS: &str = "__address__";
/// The label that holds the scheme.
pub const SCHEME: &str = "__scheme__";
/// The label that holds the path in front of the API.
pub const PATH_PREFIX: &str = "__path_prefix__";

/// A server that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The URL in front of the API, without a slash at its end; it names the target in errors.
    pub url: String,
    /// Host and port, which name the target in metrics.
    pub host: String,
    /// The labels that all its series get: its own, and the group's in place of equal ones.
    pub labels: Labels,
}

/// Why a discovered server cannot be asked. The texts are the original's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing says where it is.
    #[error("discovery target is missing address label: {0}")]
    NoAddress(Labels),
    /// Its address does not fit a URL.
    #[error("{0}")]
    BadUrl(String),
}

/// Makes a target of what discovery knows; `None` if rules drop it or leave nothing of it.
///
/// `discovered` is the target's own labels, `entry` those of the list that it stands in.
pub fn assemble(
    group: &ServerGroup,
    discovered: &Labels,
    entry: &Labels,
) -> Result<Option<Target>, TargetError> {
    let mut labels = LabelsBuilder::new(&labels::with(entry, discovered));
    labels.set(SCHEME, group.scheme.as_str());
    labels.set(PATH_PREFIX, group.path_prefix.as_str());
    if !relabel(&group.relabel, &mut labels) || labels.is_empty() {
        return Ok(None);
    }
    let address = labels.get(ADDRESS);
    if address.is_empty() {
        return Err(TargetError::NoAddress(labels.build()));
    }
    let authority = escape_host(address);
    let path = labels.get(PATH_PREFIX).trim_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    let url = format!("{}://{authority}{slash}{path}", labels.get(SCHEME));
    go_url::check(&format!("{}://{authority}", labels.get(SCHEME))).map_err(TargetError::BadUrl)?;
    let host = address.to_owned();
    labels.retain(|name| !name.starts_with("__"));
    let labels = labels::with(&labels.build(), &group.labels);
    Ok(Some(Target { url, host, labels }))
}

/// Makes the targets of a whole answer of discovery, in its order. The first that makes no sense spoils it, as the original has it.
pub fn assemble_all<'a>(
    group: &ServerGroup,
    discovered: impl IntoIterator<Item = (&'a Labels, &'a Labels)>,
) -> Result<Vec<Target>, TargetError> {
    let targets = discovered
        .into_iter()
        .map(|(target, entry)| assemble(group, target, entry));
    targets.filter_map(Result::transpose).collect()
}

/// Escapes what may not stand in a URL's host, as Go does.
fn escape_host(host: &str) -> String {
    let mut escaped = String::with_capacity(host.len());
    for byte in host.bytes() {
        let is_allowed = byte.is_ascii_alphanumeric()
            || b"-_.~!$&'()*+,;=:[]<>\"".contains(&byte)
            || byte >= 0x80;
        if is_allowed && byte < 0x80 {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(keys: &str) -> ServerGroup {
        let text = format!("promxy:\n  server_groups:\n  - name: x\n{keys}");
        crate::config::parse(&text)
            .unwrap()
            .config
            .server_groups
            .remove(0)
    }

    fn target(
        keys: &str,
        discovered: &[(&str, &str)],
        entry: &[(&str, &str)],
    ) -> Result<Option<Target>, TargetError> {
        assemble(
            &group(keys),
            &discovered.iter().copied().collect(),
            &entry.iter().copied().collect(),
        )
    }

    #[test]
    fn labels_come_from_the_target_its_list_and_the_group() {
        let keys = "    labels: {x: sg}\n";
        let discovered = [(ADDRESS, "127.0.0.1:9"), ("__meta_x", "y"), ("env", "own")];
        let entry = [
            ("x", "static"),
            ("y", "static"),
            ("env", "list"),
            (PATH_PREFIX, "/sl"),
        ];
        let target = target(keys, &discovered, &entry).unwrap().unwrap();
        assert_eq!(
            target.labels.to_string(),
            r#"{env="own", x="sg", y="static"}"#
        );
        assert_eq!(
            (target.url.as_str(), target.host.as_str()),
            ("http://127.0.0.1:9", "127.0.0.1:9")
        );
    }

    #[test]
    fn relabelling_says_where_a_target_is() {
        let keys = "    path_prefix: /p/\n    scheme: https\n    relabel_configs:\n    - {source_labels: [keep], regex: 'no', action: drop}\n    - {source_labels: [p], regex: '(.+)', target_label: __path_prefix__}\n    - {source_labels: [__address__], target_label: tgt}\n";
        let f = |labels: &[(&str, &str)], expected: Option<&str>| {
            let labels: Vec<(&str, &str)> =
                labels.iter().copied().chain([(ADDRESS, "h:1")]).collect();
            let url = target(keys, &labels, &[]).unwrap().map(|target| target.url);
            assert_eq!(url.as_deref(), expected);
        };
        f(&[], Some("https://h:1/p"));
        f(&[("p", "/rl")], Some("https://h:1/rl"));
        f(&[("keep", "no")], None);
    }

    #[test]
    fn targets_that_cannot_be_asked_are_refused_in_the_originals_words() {
        let error = target("", &[], &[]).unwrap_err().to_string();
        assert_eq!(
            error,
            r#"discovery target is missing address label: {__scheme__="http"}"#
        );
        let error = target("", &[(ADDRESS, "http://127.0.0.1:25001/")], &[])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            r#"parse "http://http:%2F%2F127.0.0.1:25001%2F": invalid port ":25001%2F" after host"#
        );
    }
}
