//! A line for each request, once it is answered.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;

use crate::{api::json, flags::AccessLog};

/// How requests are logged.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where to.
    pub destination: AccessLog,
    /// Whether lines are JSON.
    pub is_json: bool,
    /// How many bytes of form values a line has.
    pub form_prefix: usize,
}

/// What a line tells.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The client's address.
    pub peer: IpAddr,
    /// The method.
    pub method: String,
    /// The path without escapes.
    pub path: String,
    /// The version of HTTP: `HTTP/1.1`.
    pub protocol: &'static str,
    /// The parameters.
    pub form: String,
}

impl Log {
    /// Writes a line. `bytes` is the length of the body.
    pub fn write(&self, entry: &Entry, status: u16, bytes: u64, took: Duration) {
        let now = Timestamp::now();
        let line = if self.is_json {
            entry.json(now, status, bytes, took, self.form_prefix)
        } else {
            entry.text(now, status, bytes, took, self.form_prefix)
        };
        // A log that cannot be written has nowhere to say so.
        let _written = match self.destination {
            AccessLog::None => return,
            AccessLog::Stdout => io::stdout().write_all(line.as_bytes()),
            AccessLog::Stderr => io::stderr().write_all(line.as_bytes()),
        }
        .is_ok();
    }
}

impl Entry {
    fn text(&self, now: Timestamp, status: u16, bytes: u64, took: Duration, most: usize) -> String {
        let peer = match self.peer.to_canonical() {
            IpAddr::V4(peer) => peer.to_string(),
            IpAddr::V6(peer) => format!("[{peer}]"),
        };
        // Whoever reads the log relies on lines being requests.
        let path = self.path.with_escapes();
        format!(
            "{peer} - - [{}] \"{} {path} {} {status} {bytes}\" {:.6} {}\n",
            now.strftime("%d/%b/%Y %H:%M:%S"),
            self.method,
            self.protocol,
            took.as_secs_f64(),
            prefix(&self.form, most)
        )
    }

    fn json(&self, now: Timestamp, status: u16, bytes: u64, took: Duration, most: usize) -> String {
        let mut line = String::from("{\"remoteAddr\":");
        json::string(&self.peer.to_canonical().to_string(), &mut line);
        write!(line, ",\"time\":\"{now:.9}\",\"method\":")
            .expect("writing to a String cannot fail");
        json::string(&self.method, &mut line);
        line.push_str(",\"path\":");
        json::string(&self.path, &mut line);
        write!(
            line,
            ",\"protocol\":\"{}\",\"status\":{status}",
            self.protocol
        )
        .expect("writing to a String cannot fail");
        if bytes > 0 {
            write!(line, ",\"responseBytes\":{bytes}").expect("writing to a String cannot fail");
        }
        let seconds = took.as_secs_f64();
        write!(line, ",\"duration\":{seconds}").expect("writing to a String cannot fail");
        let form = prefix(&self.form, most);
        if !form.is_empty() {
            line.push_str(",\"query\":");
            json::string(form, &mut line);
        }
        line.push_str("}\n");
        line
    }
}

/// Escaped forms are ASCII, so every byte is a place to cut at.
fn prefix(form: &str, most: usize) -> &str {
    form.get(..most).unwrap_or(form)
}

trait Escape {
    fn with_escapes(&self) -> String;
}

impl Escape for str {
    fn with_escapes(&self) -> String {
        let mut out = String::with_capacity(self.len());
        for c in self.chars() {
            if c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn entry() -> Entry {
        Entry {
            peer: IpAddr::from([127, 0, 0, 1]),
            method: "GET".to_owned(),
            path: "/a b/<x>\n".to_owned(),
            protocol: "HTTP/1.1",
            form: "query=up%7Ba%3D%22b%22%7D".to_owned(),
        }
    }

    #[test]
    fn a_line_of_text_has_the_originals_form() {
        let now: Timestamp = "2026-11-20T20:48:41Z".parse().unwrap();
        let mut entry = entry();
        assert_eq!(
            entry.text(now, 404, 19, Duration::from_micros(26), 10),
            "127.0.0.1 - - [20/Nov/2026 20:48:41] \"GET /a b/<x>\\n HTTP/1.1 404 19\" 0.000026 query=up%7\n"
        );
        entry.peer = Ipv6Addr::LOCALHOST.into();
        entry.form.clear();
        let line = entry.text(now, 200, 0, Duration::ZERO, 10);
        assert!(line.starts_with("[::1] - - "), "{line}");
        assert!(line.ends_with(" 0.000000 \n"), "{line}");
    }

    #[test]
    fn a_line_of_json_leaves_out_what_is_empty() {
        let now: Timestamp = "2026-11-20T20:48:41.5Z".parse().unwrap();
        let mut entry = entry();
        assert_eq!(
            entry.json(now, 404, 19, Duration::from_micros(26), 10),
            "{\"remoteAddr\":\"127.0.0.1\",\"time\":\"2026-11-20T20:48:41.500000000Z\",\"method\":\"GET\",\
             \"path\":\"/a b/\\u003cx\\u003e\\n\",\"protocol\":\"HTTP/1.1\",\"status\":404,\"responseBytes\":19,\
             \"duration\":0.000026,\"query\":\"query=up%7\"}\n"
        );
        entry.form.clear();
        let line = entry.json(now, 204, 0, Duration::ZERO, 10);
        assert!(
            !line.contains("responseBytes") && !line.contains("query"),
            "{line}"
        );
    }
}
