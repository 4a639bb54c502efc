//! Reloads, good and bad, and what the lifecycle's paths say.

use std::{fs, thread};

use nix::sys::signal::Signal;
use shared::testing::eventually;
use tempfile::TempDir;

use super::{
    compare::{Steps, answer, logs, reloads, runtime_info},
    server::{Server, query},
};
use crate::support::{Promxy, bytes_of, client::request};

const LIFECYCLE: &str = "--web.enable-lifecycle";
const BROKEN: &str = "promxy: [";

/// A process with its server, and how far its log and gauges were looked at.
struct Watched<'s> {
    steps: &'s Steps,
    promxy: Promxy,
    lines: usize,
    gauges: Vec<String>,
}

impl Watched<'_> {
    fn logs(&mut self) -> String {
        let lines = self.promxy.program.stderr();
        let new = lines[self.lines..].join("\n");
        self.lines = lines.len();
        logs(new.lines())
    }

    fn gauges(&mut self) -> String {
        let mut gauges = self.promxy.metrics("process_reload_time_seconds");
        gauges.extend(self.promxy.metrics("prometheus_config_last_reload"));
        let shown = reloads(&gauges, &self.gauges);
        self.gauges = gauges;
        shown
    }

    fn send(&self, method: &str, path: &str) -> String {
        answer(&self.promxy.send(method, path, &[], b""))
    }

    fn query(&self, step: &str) {
        let shown = query(&self.promxy, &self.steps.recorded(step, "r"));
        self.steps.shown(step, &[("r", shown)]);
    }

    /// Reloads by a request and waits for the last line that it logs.
    fn reload(&mut self, method: &str, line: &str) -> (String, String) {
        let shown = self.send(method, "/-/reload");
        self.wait_for(line);
        (shown, self.logs())
    }

    fn wait_for(&self, line: &str) {
        eventually("a line of the log", || {
            let lines = self.promxy.program.stderr();
            let mut new = lines[self.lines..].iter();
            new.any(|new| new.contains(line)).then_some(())
        });
    }
}

pub(crate) fn run(steps: &Steps) {
    let server = Server::start();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("c.yml"), server.config(1)).unwrap();
    let args = [LIFECYCLE, "--config=c.yml"];
    let promxy = Promxy::start_in(folder, "", &args, &[]);
    let mut watched = Watched {
        steps,
        promxy,
        lines: 0,
        gauges: Vec::new(),
    };
    good_and_bad(&mut watched, &server);
    in_parallel(&watched, &server);
    quit(&mut watched);
    without_the_flag(steps, &server);
}

fn write(watched: &Watched<'_>, config: &str) {
    fs::write(watched.promxy.path("c.yml"), config).unwrap();
}

fn good_and_bad(watched: &mut Watched<'_>, server: &Server) {
    const FAILED: &str = "Error reloading config";
    let steps = watched.steps;
    watched.promxy.program.wait_for_line("TLS is");
    watched.logs();
    steps.shown("started", &[("metrics", watched.gauges())]);
    watched.query("query v=1");

    write(watched, &server.config(2));
    let (r, logs) = watched.reload("POST", "Reloading config");
    let shown = [("r", r), ("logs", logs), ("metrics", watched.gauges())];
    steps.shown("POST /-/reload with a valid new config", &shown);
    watched.query("query v=2");
    let (r, logs) = watched.reload("PUT", "Reloading config");
    steps.shown("PUT /-/reload", &[("r", r), ("logs", logs)]);

    write(watched, BROKEN);
    let (r, logs) = watched.reload("POST", FAILED);
    let runtime = watched.promxy.get("/api/v1/status/runtimeinfo").text();
    // Whoever recorded this looked for the text before it was put into JSON.
    let page = watched.promxy.get("/api/v1/status/config").text();
    let shown = [
        ("r", r),
        ("logs", logs),
        ("metrics", watched.gauges()),
        ("runtimeinfo", runtime_info(&runtime)),
        (
            "status_config_still_old",
            page.contains("v: \"2\"").to_string(),
        ),
    ];
    steps.shown("POST /-/reload with broken YAML", &shown);
    watched.query("query still v=2");

    write(
        watched,
        &(server.config(3) + "    http_client: {tls_config: {ca_file: /nonexistent}}\n"),
    );
    let (r, logs) = watched.reload("POST", FAILED);
    let shown = [("r", r), ("logs", logs), ("metrics", watched.gauges())];
    steps.shown("POST /-/reload with server group apply failure", &shown);
    watched.query("query after failed apply");

    let rules = |rule: &str| format!("groups: [{{name: a, rules: [{{{rule}}}]}}]\n");
    let file = |name: &str| watched.promxy.path(name);
    fs::write(file("bad_rules.yml"), rules(r#"alert: X, expr: "sum(""#)).unwrap();
    fs::write(file("rec.yml"), rules(r#"record: x, expr: "1""#)).unwrap();
    write(
        watched,
        &(server.config(4) + "rule_files: [bad_rules.yml]\n"),
    );
    let (r, logs) = watched.reload("POST", FAILED);
    let shown = [("r", r), ("logs", logs), ("metrics", watched.gauges())];
    steps.shown(
        "POST /-/reload with a good server group section but a bad rule file",
        &shown,
    );
    watched.query("partial apply: which server group config answers now");
    write(watched, &(server.config(5) + "rule_files: [rec.yml]\n"));
    let (r, logs) = watched.reload("POST", FAILED);
    let step = "POST /-/reload with recording rule and no remote_write";
    steps.shown(step, &[("r", r), ("logs", logs)]);
    let r = watched.send("GET", "/api/v1/rules");
    steps.shown("rules endpoint afterwards", &[("r", r)]);

    write(watched, &server.config(6));
    watched.promxy.program.signal(Signal::SIGHUP);
    eventually("the new configuration", || {
        let answer = watched.promxy.get("/api/v1/query?query=up");
        answer.text().contains(r#""v":"6""#).then_some(())
    });
    let shown = [("logs", watched.logs()), ("metrics", watched.gauges())];
    steps.shown("SIGHUP with a valid config", &shown);
    watched.query("query v=6");
    write(watched, BROKEN);
    watched.promxy.program.signal(Signal::SIGHUP);
    watched.wait_for(FAILED);
    let shown = [("logs", watched.logs()), ("metrics", watched.gauges())];
    steps.shown("SIGHUP with broken YAML", &shown);
    fs::remove_file(watched.promxy.path("c.yml")).unwrap();
    let (r, logs) = watched.reload("POST", FAILED);
    steps.shown(
        "POST /-/reload with the file gone",
        &[("r", r), ("logs", logs)],
    );
}

fn in_parallel(watched: &Watched<'_>, server: &Server) {
    let steps = watched.steps;
    write(watched, &server.config(7));
    let port = watched.promxy.port;
    let reload = || answer(&request(port, &bytes_of("POST", "/-/reload", &[], b"")).unwrap());
    thread::scope(|scope| {
        let reload = scope.spawn(reload);
        let mut statuses: Vec<u16> = Vec::new();
        while statuses.is_empty() || !reload.is_finished() {
            statuses.push(watched.promxy.get("/api/v1/query?query=up").status);
        }
        statuses.dedup();
        let shown = [
            ("reload", reload.join().unwrap()),
            ("query_statuses", format!("{statuses:?}")),
            ("n", "some".to_owned()),
        ];
        steps.shown("queries while a reload is in progress", &shown);
    });
    thread::scope(|scope| {
        let both = [scope.spawn(reload), scope.spawn(reload)];
        let both = both.map(|reload| reload.join().unwrap());
        let step = "two concurrent POST /-/reload are serialised";
        steps.shown(step, &[("r", both.join("\n"))]);
    });
    for method in ["GET", "DELETE", "HEAD"] {
        let r = watched.send(method, "/-/reload");
        steps.shown(&format!("{method} /-/reload"), &[("r", r)]);
    }
}

fn quit(watched: &mut Watched<'_>) {
    let steps = watched.steps;
    let r = watched.send("POST", "/-/quit");
    steps.shown("POST /-/quit", &[("r", r)]);
    let healthy = watched.send("GET", "/-/healthy");
    let again = watched.send("POST", "/-/quit");
    steps.shown("second POST /-/quit", &[("r", again)]);
    let code = watched.promxy.program.wait().code();
    assert_eq!(code, Some(0));
    let shown = [("alive", "false".to_owned()), ("r", healthy)];
    steps.shown("process after POST /-/quit", &shown);
}

fn without_the_flag(steps: &Steps, server: &Server) {
    let promxy = Promxy::start(&server.config(7), &[]);
    let sent = |method: &str, path: &str| answer(&promxy.send(method, path, &[], b""));
    for path in ["/-/reload", "/-/quit"] {
        let step = format!("POST {path} without --web.enable-lifecycle");
        steps.shown(&step, &[("r", sent("POST", path))]);
    }
    steps.shown("GET /-/quit", &[("r", sent("GET", "/-/quit"))]);
}
