//! Warnings and infos of servers.

/// What a server says beside a result, each text once, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// What may be wrong with the result.
    pub warnings: Vec<String>,
    /// What may be better in the query.
    pub infos: Vec<String>,
}

impl Annotations {
    /// Takes texts from a list of warnings. Older servers have infos there, too.
    pub fn add_warnings(&mut self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            if text.starts_with("PromQL info: ") {
                push(&mut self.infos, text);
            } else {
                push(&mut self.warnings, text);
            }
        }
    }

    /// Takes texts from a list of infos.
    pub fn add_infos(&mut self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            push(&mut self.infos, text);
        }
    }

    /// Takes what another server says.
    pub fn merge(&mut self, other: Self) {
        self.add_warnings(other.warnings);
        self.add_infos(other.infos);
    }
}

/// Appends a text that is not there yet, without the place in the query, which is another one's: ` (1:5)`.
fn push(texts: &mut Vec<String>, mut text: String) {
    let is_place = |inside: &str| {
        let numbers = inside.split_once(':');
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        numbers.is_some_and(|(line, column)| is_number(line) && is_number(column))
    };
    let place = text
        .rsplit_once(" (")
        .filter(|(_, end)| end.strip_suffix(')').is_some_and(is_place));
    if let Some(length) = place.map(|(rest, _)| rest.len()) {
        text.truncate(length);
    }
    if !texts.contains(&text) {
        texts.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_once_without_their_place() {
        let mut annotations = Annotations::default();
        let texts = [
            "PromQL warning: a (1:5)",
            "PromQL info: b (2:17)",
            "c (x:1)",
            "PromQL warning: a (9:9)",
        ];
        annotations.add_warnings(texts.map(str::to_owned));
        assert_eq!(annotations.warnings, ["PromQL warning: a", "c (x:1)"]);
        assert_eq!(annotations.infos, ["PromQL info: b"]);
    }
}
