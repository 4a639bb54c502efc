//! Lists of targets as files and HTTP servers have them.

use std::sync::Arc;

use serde::Deserialize;

use super::{ADDRESS, Group, Labels, put};

/// The largest list that is read, in bytes.
pub(super) const LARGEST: usize = 64 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    targets: Option<Vec<String>>,
    labels: Option<Labels>,
}

/// Reads JSON.
pub(super) fn from_json(text: &[u8]) -> Result<Vec<Parsed>, String> {
    let entries: Option<Vec<Option<Entry>>> =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    checked(entries.unwrap_or_default())
}

/// Reads YAML.
pub(super) fn from_yaml(text: &str) -> Result<Vec<Parsed>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let entries: Option<Vec<Option<Entry>>> =
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    checked(entries.unwrap_or_default())
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    labels: Labels,
    addresses: Vec<String>,
}

fn checked(entries: Vec<Option<Entry>>) -> Result<Vec<Parsed>, String> {
    let parsed = entries.into_iter().enumerate().map(|(index, entry)| {
        let entry = entry.ok_or_else(|| format!("nil target group item found (index {index})"))?;
        let labels = entry.labels.unwrap_or_default();
        if labels.keys().any(String::is_empty) {
            Err("\"\" is not a valid label name".to_owned())
        } else {
            Ok(Parsed {
                labels,
                addresses: entry.targets.unwrap_or_default(),
            })
        }
    });
    parsed.collect()
}

/// Makes groups of a list; `meta` is the label that says where it is from.
pub(super) fn groups(parsed: Vec<Parsed>, meta: &str, place: &str) -> Vec<Arc<Group>> {
    let groups = parsed.into_iter().enumerate().map(|(index, entry)| {
        let mut labels = entry.labels;
        labels.retain(|_, value| !value.is_empty());
        put(&mut labels, meta, place);
        let targets = entry.addresses.into_iter().map(|address| {
            let mut target = Labels::new();
            put(&mut target, ADDRESS, address);
            target
        });
        Arc::new(Group {
            source: format!("{place}:{index}"),
            targets: targets.collect(),
            labels,
        })
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_json_and_yaml() {
        let json =
            br#"[{"targets":["b:1","a:1"],"labels":{"env":"p","none":""}},{"targets":[]},{}]"#;
        let yaml =
            "- targets: [b:1, 'a:1']\n  labels: {env: p, none: ''}\n- targets: []\n- labels:\n";
        let found = from_json(json).unwrap();
        assert_eq!(from_yaml(yaml).unwrap(), found);
        let groups = groups(found, "__meta_filepath", "t.json");
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[0].source, "t.json:0");
        let addresses: Vec<&str> = groups[0]
            .targets
            .iter()
            .map(|t| t[ADDRESS].as_str())
            .collect();
        assert_eq!(addresses, ["b:1", "a:1"]);
        let labels: Vec<_> = groups[0].labels.iter().collect();
        let expected = [("__meta_filepath", "t.json"), ("env", "p")];
        assert_eq!(
            labels,
            expected
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .iter()
                .map(|(n, v)| (n, v))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn numbers_are_values_of_labels_in_yaml_and_keep_their_text() {
        let found = from_yaml("- labels: {a: 1.10, b: 010, c: yes}\n").unwrap();
        let values: Vec<&String> = found[0].labels.values().collect();
        assert_eq!(values, ["1.10", "010", "yes"]);
    }

    #[test]
    fn what_makes_no_list_is_refused() {
        let json = |text: &str| from_json(text.as_bytes()).is_err();
        for text in [
            "",
            "{",
            "{}",
            "[1]",
            "[null]",
            r#"[{"target":[]}]"#,
            r#"[{"targets":"a"}]"#,
            r#"[{"labels":{"a":1}}]"#,
            r#"[{"labels":{"":"x"}}]"#,
        ] {
            assert!(json(text), "{text}");
        }
        for text in ["{", "a: b", "- x", "- targets: a", "- target: []", "- null"] {
            assert!(from_yaml(text).is_err(), "{text}");
        }
        for text in ["", "[]", "# nothing\n"] {
            assert_eq!(from_yaml(text).unwrap(), [], "{text}");
        }
    }
}
