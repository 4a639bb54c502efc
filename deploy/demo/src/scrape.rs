//! Reads a tool's metrics page as a scraper does.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, ensure};

use crate::patience::PATIENCE;

/// A metrics page in Prometheus' text format.
#[derive(Debug)]
pub(crate) struct Page(String);

impl Page {
    /// Fetches `/metrics` of `address`.
    pub(crate) fn fetch(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, page) = answer
            .split_once("\r\n\r\n")
            .context("the metrics page has no head")?;
        ensure!(head.contains(" 200 "), "no metrics page: {head}");
        Ok(Self(page.to_owned()))
    }

    /// Returns the value of a sample, named as the page writes it: `family{label="value"}`.
    pub(crate) fn value(&self, sample: &str) -> Option<f64> {
        let value = |line: &str| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_found_by_its_whole_name() {
        let page =
            Page("# HELP up Up.\nup_total 1\nup{node=\"ab\"} 2\nup{node=\"a\"} 3\n".to_owned());
        let f = |sample: &str, expected: Option<f64>| {
            assert_eq!(page.value(sample), expected, "{sample}");
        };
        f("up{node=\"a\"}", Some(3.0));
        f("up_total", Some(1.0));
        f("up", None);
    }
}
