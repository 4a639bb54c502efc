//! Limits of queries, discovery that fails, memory, and secrets.

use std::{fs, thread, time::Duration};

use serde_json::Value;
use shared::testing::eventually;
use tempfile::TempDir;

use super::{
    compare::{Steps, active, answer, instant, logs, statuses},
    server::{Server, query, target},
};
use crate::support::{
    Promxy, bytes_of,
    client::request,
    groups,
    stub::{Reply, Stub},
};

const LIFECYCLE: &str = "--web.enable-lifecycle";

pub(crate) fn run(steps: &Steps) {
    thread::scope(|scope| {
        scope.spawn(|| one_at_a_time(steps));
        scope.spawn(|| samples_and_lookback(steps));
        scope.spawn(|| discovery_that_fails(steps));
        scope.spawn(|| memory(steps));
        scope.spawn(|| groups_that_leave(steps));
        scope.spawn(|| secrets(steps));
    });
}

fn one_at_a_time(steps: &Steps) {
    let step = "--query.max-concurrency=1, 4 queries of 2 s each, --query.timeout=4s";
    let server = Server::start();
    server.slow_down(Duration::from_secs(2));
    let args = [
        "--query.max-concurrency=1",
        "--query.timeout=4s",
        "--storage.path=data",
    ];
    let mut promxy = Promxy::start(&server.config(7), &args).ready();
    let bytes = bytes_of("GET", "/api/v1/query?query=up", &[], b"");
    let queries: Vec<_> = (0..4)
        .map(|_| {
            let (port, bytes) = (promxy.port, bytes.clone());
            thread::spawn(move || request(port, &bytes).unwrap())
        })
        .collect();
    let file = promxy.path("data/queries.active");
    let listed = eventually("a running query", || {
        let file = fs::read(&file).ok()?;
        file.starts_with(b"[{").then_some(file)
    });
    let running = promxy.metrics("prometheus_engine_queries").into_iter();
    let running = running.filter(|line| {
        let name = line.split(' ').next();
        matches!(
            name,
            Some("prometheus_engine_queries" | "prometheus_engine_queries_concurrent_max")
        )
    });
    let metrics: Vec<String> = running.collect();
    let answers = queries.into_iter().map(|query| query.join().unwrap());
    let answers = answers.map(|answer| (u64::from(answer.status), answer.text()));
    let text = String::from_utf8(listed.clone()).unwrap();
    // The last byte closes the list; between is filling.
    let prefix = text.trim_end_matches([',', ']']);
    let files = fs::read_dir(promxy.path("data")).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let files: Vec<String> = files.collect();
    let shown = [
        ("results", statuses(answers)),
        ("queries_active_file_size", listed.len().to_string()),
        ("queries_active_prefix", active(prefix)),
        ("metrics", metrics.join("\n")),
        ("files", files.join("\n")),
    ];
    steps.shown(step, &shown);

    let step = "--query.timeout=4s and a downstream taking 6 s";
    server.slow_down(Duration::from_secs(6));
    let recorded = steps.recorded(step, "r");
    let r = answer(&promxy.get(&target(&recorded)));
    steps.shown(step, &[("r", r)]);

    let step = "restart after a crash with an active query";
    let port = promxy.port;
    let before = server.stub.asked().len();
    let query = thread::spawn(move || request(port, &bytes));
    eventually("the query", || {
        (server.stub.asked().len() > before).then_some(())
    });
    promxy.program.kill();
    assert!(query.join().unwrap().is_none());
    let Promxy { folder, .. } = promxy;
    let promxy = Promxy::start_in(folder, &server.config(7), &args, &[]);
    promxy.program.wait_for_line("TLS is");
    let log = promxy.program.stderr().join("\n");
    steps.shown(step, &[("logs", logs(log.lines()))]);
}

fn samples_and_lookback(steps: &Steps) {
    let server = Server::start();
    let step = "--query.max-samples=1";
    let promxy = Promxy::start(&server.config(7), &["--query.max-samples=1"]).ready();
    let shown = ["r", "r2", "r3"].map(|key| (key, query(&promxy, &steps.recorded(step, key))));
    steps.shown(step, &shown);
    let step = "--query.lookback-delta=1s";
    let promxy = Promxy::start(&server.config(7), &["--query.lookback-delta=1s"]).ready();
    let shown = ["up", "local"].map(|key| (key, query(&promxy, &steps.recorded(step, key))));
    steps.shown(step, &shown);
}

fn discovery_that_fails(steps: &Steps) {
    let server = Server::start();
    let target = format!(r#"[{{"targets":["127.0.0.1:{}"]}}]"#, server.stub.port);
    let folder = TempDir::new().unwrap();
    let switch = folder.path().join("fails");
    let fails = switch.clone();
    let discovery = Stub::start(move |_| {
        if fails.exists() {
            let (content_type, body) = ("text/plain".to_owned(), Vec::new());
            return Reply::Answer {
                status: 503,
                content_type,
                body,
            };
        }
        Reply::json(target.clone())
    });
    let config = format!(
        "promxy:\n  server_groups:\n  - http_sd_configs: [{{url: 'http://127.0.0.1:{}/sd', refresh_interval: 1s}}]\n",
        discovery.port
    );
    let promxy = Promxy::start(&config, &[LIFECYCLE]).ready();
    let shown = || {
        let sum = promxy.get("/api/v1/query?query=sum(up)").text();
        let targets = promxy.metrics("server_group_targets");
        vec![("q", instant(&sum)), ("targets", targets.join("\n"))]
    };
    steps.shown("http_sd up", &shown());
    fs::write(&switch, "").unwrap();
    promxy
        .program
        .wait_for_line("Unable to refresh target groups");
    steps.shown("http_sd starts answering 503: targets kept", &shown());
    let lines = promxy.program.stderr().len();
    let r = answer(&promxy.send("POST", "/-/reload", &[], b""));
    let asked = discovery.asked().len();
    eventually("another refresh", || {
        (discovery.asked().len() > asked + 1).then_some(())
    });
    let mut shown = shown();
    let log = promxy.program.stderr()[lines..].join("\n");
    shown.extend([
        ("r", r),
        ("ready", promxy.get("/-/ready").status.to_string()),
        ("logs", logs(log.lines())),
    ]);
    steps.shown("POST /-/reload while http_sd answers 503", &shown);
}

fn memory(steps: &Steps) {
    let server = Server::start();
    let port = server.stub.port;
    let promxy = Promxy::start(&groups(&[&[port], &[port]]), &[LIFECYCLE]).ready();
    // Resident kilobytes, compared with the recorded number, and threads.
    let resources = |step: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", promxy.program.id())).unwrap();
        let number = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let recorded = steps.recorded(step, "rss_kb_threads");
        let is_less = number("VmRSS:") <= recorded[0].as_u64().unwrap();
        let shown = if is_less {
            recorded.to_string()
        } else {
            number("VmRSS:").to_string()
        };
        [
            ("rss_kb_threads", shown),
            ("goroutines", promxy.metrics("go_goroutines").join("\n")),
        ]
    };
    let step = "resources idle two groups";
    steps.shown(step, &resources(step));
    for _ in 0..8 {
        assert_eq!(promxy.send("POST", "/-/reload", &[], b"").status, 200);
    }
    let step = "after 8 reloads";
    steps.shown(step, &resources(step));
}

fn groups_that_leave(steps: &Steps) {
    let step =
        "server_group_targets after renaming group 0 and removing group 1 (stale label sets stay)";
    let server = Server::start();
    let port = server.stub.port;
    let config = groups(&[&[port], &[port]]);
    let config = config.replace("group-a", "a").replace("group-b", "b");
    let promxy = Promxy::start(&config, &[LIFECYCLE]).ready();
    promxy.write_config(&groups(&[&[port]]).replace("group-a", "only"));
    assert_eq!(promxy.send("POST", "/-/reload", &[], b"").status, 200);
    let targets = promxy.metrics("server_group_targets").join("\n");
    steps.shown(step, &[("targets", targets)]);
}

fn secrets(steps: &Steps) {
    let step = "which secrets status/config masks";
    let config = "\
alerting:
  alertmanagers:
  - basic_auth: {username: u, password: topsecret}
    static_configs: [{targets: ['127.0.0.1:1']}]
remote_write:
- url: http://u:topsecret@127.0.0.1:25091/w
  headers: {X-Key: topsecret}
  basic_auth: {username: u, password: topsecret}
promxy:
  server_groups:
  - static_configs: [{targets: ['127.0.0.1:1']}]
    query_params: {token: topsecret}
    http_headers: {Authorization: topsecret}
    http_client:
      basic_auth: {username: u, password: topsecret}
  - static_configs: [{targets: ['127.0.0.1:1']}]
    http_client: {bearer_token: topsecret}
  - static_configs: [{targets: ['127.0.0.1:1']}]
    http_client: {sigv4: {region: r, access_key: a, secret_key: topsecret}}
";
    let promxy = Promxy::start(config, &[]);
    let page: Value = serde_json::from_str(&promxy.get("/api/v1/status/config").text()).unwrap();
    let page = page["data"]["yaml"].as_str().unwrap();
    let lines = page.lines().map(str::trim).filter(|line| {
        ["topsecret", "<secret>", "xxxxx"]
            .iter()
            .any(|word| line.contains(word))
    });
    let lines: Vec<&str> = lines.collect();
    steps.shown(step, &[("lines", lines.join("\n"))]);
}
