//! Flags, refusals, exit statuses and log lines of the real program (spec sections 2, 3, 4 and 13).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod program;

use program::{Proxy, config_file, run};

#[test]
fn help_exits_with_0_and_usage_errors_with_2() {
    let f = |words: &[&str], status: i32| {
        let ended = run(words, &[]);
        assert_eq!(ended.status, Some(status), "{words:?}: {}", ended.stderr);
    };
    f(&["-h"], 0);
    f(&["--help"], 0);
    f(&["-version"], 0);
    f(&["-bogus"], 2);
    f(&["-f"], 2);
    f(&["-strict=perhaps", "-f", "x"], 2);
}

#[test]
fn without_a_file_it_ends_with_the_originals_words() {
    let dual = run(&[], &[]);
    assert_eq!(dual.status, Some(1));
    assert!(
        dual.stderr
            .contains("level=fatal msg=\"You must specify a config file\""),
        "{}",
        dual.stderr
    );
    let stream = run(&["-generation=stream"], &[]);
    assert_eq!(stream.status, Some(1));
    assert!(
        stream
            .stderr
            .contains("msg=\"missing required config file\"")
    );
}

/// Each: a file, variables, and what the log says before the program ends with 1.
#[test]
fn what_cannot_work_is_refused_in_the_originals_words() {
    let mut checked = 0;
    let mut f = |file: &str, variables: &[(&str, &str)], expected: &[&str]| {
        let path = config_file(file);
        let ended = run(&["-f", path.to_str().unwrap()], variables);
        assert_eq!(ended.status, Some(1), "{file}: {}", ended.stderr);
        for text in expected {
            assert!(
                ended.stderr.contains(text),
                "{file}: {text}: {}",
                ended.stderr
            );
        }
        checked += 1;
    };
    f(
        "http_address: 127.0.0.1:0",
        &[],
        &[
            "level=error msg=Oops",
            "level=fatal msg=\"Could not initialize proxy\" error=\"refusing to start with no Consul service names or static addresses in config\"",
        ],
    );
    f(
        "forward_address: [a",
        &[],
        &["msg=\"Error reading config file\""],
    );
    f(
        "forward_address: a\nmax_idle_conns: many",
        &[],
        &["msg=\"Error reading config file\""],
    );
    for key in [
        "forward_timeout",
        "idle_connection_timeout",
        "runtime_metrics_interval",
    ] {
        f(
            &format!("forward_address: a\nhttp_address: 127.0.0.1:0\n{key}: 10"),
            &[],
            &[
                "level=fatal msg=\"Could not initialize proxy\"",
                "missing unit in duration",
            ],
        );
    }
    f(
        "consul_forward_service_name: s\nhttp_address: 127.0.0.1:0",
        &[],
        &["level=fatal msg=\"Could not initialize proxy\""],
    );
    for address in ["tcp://127.0.0.1:1", "127.0.0.1:1", "http://x"] {
        f(
            &format!(
                "forward_address: a\nhttp_address: 127.0.0.1:0\nssf_destination_address: {address}"
            ),
            &[],
            &["level=fatal msg=\"Error using SSF destination address\""],
        );
    }
    f(
        "forward_address: a",
        &[("VENEUR_PROXY_DEBUG", "maybe")],
        &["envconfig.Process: assigning VENEUR_PROXY_DEBUG to"],
    );
    f("forward_address: 127.0.0.1:1", &[], &["http_address"]);
    f(
        "forward_address: 127.0.0.1:1\nhttp_address: 127.0.0.1:http!",
        &[],
        &["http_address: cannot listen on"],
    );
    // Consul is not there.
    f(
        "consul_forward_service_name: s\nconsul_refresh_interval: 5s\nhttp_address: 127.0.0.1:0",
        &[("CONSUL_HTTP_ADDR", "127.0.0.1:1")],
        &[
            "level=fatal msg=\"Refusing to start with zero destinations for forwarding.\" serviceName=s",
        ],
    );
    f(
        "forward_addresses: [a]\nforward_address: b",
        &[],
        &["name the generation"],
    );
    f(
        "forward_addresses: [127.0.0.1:1]\nignore_tags: [{kind: glob, value: a}]",
        &[],
        &["level=fatal msg=\"failed to load config file\""],
    );
    f(
        "forward_addresses: [127.0.0.1:1]\ndial_timeout: 5",
        &[],
        &["level=fatal msg=\"failed to load config file\""],
    );
    f(
        "forward_addresses: ['{{ .X }}']",
        &[],
        &["level=fatal msg=\"failed to load config file\""],
    );
    println!("refusals: {checked}");
}

#[test]
fn a_missing_file_is_named() {
    let ended = run(&["-f", "/nowhere/proxy.yaml"], &[]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("msg=\"Error reading config file\""));
    assert!(ended.stderr.contains("/nowhere/proxy.yaml"));
}

#[test]
fn unknown_keys_warn_and_strict_refuses_them() {
    let file = "forward_address: 127.0.0.1:1\nhttp_address: 127.0.0.1:0\nbogus: 1\n";
    let mut proxy = Proxy::start(file);
    proxy.program.wait_for_line(
        "level=warning msg=\"Config contains invalid or deprecated keys\" error=bogus",
    );
    proxy.http();
    assert_eq!(proxy.program.terminate().code(), Some(0));
    let path = config_file(file);
    let strict = run(&["-strict", "-f", path.to_str().unwrap()], &[]);
    assert_eq!(strict.status, Some(1), "{}", strict.stderr);
    assert!(strict.stderr.contains("bogus"));
}

#[test]
fn check_config_says_whose_file_it_is_and_why() {
    let f = |file: &str, status: i32, text: &str| {
        let path = config_file(file);
        let ended = run(&["-check-config", "-f", path.to_str().unwrap()], &[]);
        assert_eq!(ended.status, Some(status), "{}", ended.stdout);
        assert!(ended.stdout.contains(text), "{}", ended.stdout);
    };
    f(
        "forward_address: a",
        0,
        ": ok, dual: forward_address is set",
    );
    f(
        "forward_service: a",
        0,
        ": ok, stream: forward_service is set",
    );
    f(
        "forward_service: a\nstatsd: {bogus: 1}",
        0,
        "unknown key statsd.bogus",
    );
    f("forward_service: [", 1, ": error: yaml: ");
}

#[test]
fn the_generation_is_logged_with_its_reason_and_the_flag_overrides_it() {
    let file = "forward_address: 127.0.0.1:1\nhttp_address: 127.0.0.1:0\n";
    let mut dual = Proxy::start(file);
    let line = dual.program.wait_for_line("decided which proxy");
    assert!(
        line.contains("generation=dual reason=\"forward_address is set\""),
        "{line}"
    );
    dual.program
        .wait_for_line("level=info msg=\"Starting server\" version=dirty");
    dual.program
        .wait_for_line("level=info msg=\"HTTP server listening\" address=\"127.0.0.1:");
    dual.program.terminate();
    let mut legacy = Proxy::start_with(file, &["-generation", "legacy"], &[]);
    legacy
        .program
        .wait_for_line("generation=legacy reason=\"it was asked for\"");
    legacy.http();
    assert_eq!(legacy.program.terminate().code(), Some(0));
    let stream =
        "forward_addresses: [127.0.0.1:1]\nhttp_address: 127.0.0.1:0\ndial_timeout: 50ms\n";
    let mut stream = Proxy::start(stream);
    stream
        .program
        .wait_for_line("level=info msg=\"starting server\"");
    stream.http();
    assert_eq!(stream.program.terminate().code(), Some(0));
}

#[test]
fn a_sentry_dsn_is_taken_with_a_warning_that_it_has_no_effect() {
    for file in [
        "forward_address: 127.0.0.1:1\nhttp_address: 127.0.0.1:0\nsentry_dsn: https://key@127.0.0.1:1/1\n",
        "forward_addresses: [127.0.0.1:1]\nhttp_address: 127.0.0.1:0\ndial_timeout: 50ms\nsentry_dsn: https://key@127.0.0.1:1/1\n",
    ] {
        let mut proxy = Proxy::start(file);
        proxy.http();
        let line = proxy.program.wait_for_line("sentry_dsn");
        let expected = "level=warning msg=\"sentry_dsn has no effect: nothing is sent to Sentry\"";
        assert!(line.contains(expected), "{line}");
        proxy.program.terminate();
        let log = proxy.program.stderr().join("\n");
        assert!(!log.contains("key@"), "{log}");
        let path = config_file(file);
        let checked = run(&["-check-config", "-f", path.to_str().unwrap()], &[]);
        assert!(
            checked.stdout.contains("warning: sentry_dsn has no effect"),
            "{}",
            checked.stdout
        );
    }
}

#[test]
fn variables_win_over_the_file() {
    let mut proxy = Proxy::start_with(
        "forward_address: 127.0.0.1:1\nhttp_address: nowhere:at:all\n",
        &[],
        &[("VENEUR_PROXY_HTTPADDRESS", "127.0.0.1:0")],
    );
    proxy.http();
    proxy.program.terminate();
}

#[test]
fn stop_signals_end_every_generation_with_0() {
    use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
    let dual = "forward_address: 127.0.0.1:1\nhttp_address: 127.0.0.1:0\n";
    let stream =
        "forward_addresses: [127.0.0.1:1]\nhttp_address: 127.0.0.1:0\ndial_timeout: 50ms\n";
    let mut checked = 0;
    for file in [dual, stream] {
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGUSR2] {
            let mut proxy = Proxy::start(file);
            proxy.http();
            proxy.program.signal(signal);
            let status = proxy.program.wait();
            assert_eq!(
                status.code(),
                Some(0),
                "{signal}: {:?}",
                proxy.program.stderr()
            );
            checked += 1;
        }
    }
    println!("signals: {checked}");
}
