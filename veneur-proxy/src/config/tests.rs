//! What files and variables come to.

use std::collections::HashMap;

use super::*;

fn load_with(
    file: &str,
    variables: &[(&str, &str)],
    asked: Option<Generation>,
) -> Result<Loaded, ConfigError> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    load(file, &variable, asked, UnknownKeys::Report)
}

fn config(file: &str) -> Config {
    load_with(file, &[], None).unwrap().config
}

#[track_caller]
fn refused(file: &str, expected: &str) {
    let text = load_with(file, &[], None).unwrap_err().to_string();
    assert!(text.contains(expected), "{text}");
}

#[test]
fn the_recorded_stream_file_means_what_its_proxy_shows_of_it() {
    let file = include_str!("../../tests/golden/http/v14-config.input.yaml");
    let loaded = load_with(file, &[], None).unwrap();
    assert_eq!(loaded.unknown_keys, Vec::<String>::new());
    let config = loaded.config;
    let shown: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/golden/http/v14-config.json")).unwrap();
    let nanos = |duration: Duration| duration.as_nanos() as u64;
    assert_eq!(config.generation, Generation::Stream);
    assert_eq!(config.debug, shown["Debug"]);
    assert_eq!(nanos(config.dial_timeout), shown["DialTimeout"]);
    assert_eq!(nanos(config.discovery_interval), shown["DiscoveryInterval"]);
    assert_eq!(
        config.grpc_destinations.addresses[0],
        shown["ForwardAddresses"][0]
    );
    assert_eq!(
        config.grpc_destinations.service.unwrap(),
        shown["ForwardService"].as_str().unwrap()
    );
    let grpc = &shown["GrpcServer"];
    assert_eq!(
        nanos(config.grpc_server.connection_timeout),
        grpc["ConnectionTimeout"]
    );
    assert_eq!(config.grpc_server.max_connection_idle, None);
    assert_eq!(nanos(config.grpc_server.ping_interval), grpc["PingTimeout"]);
    assert_eq!(
        nanos(config.grpc_server.ping_timeout),
        grpc["KeepaliveTimeout"]
    );
    assert_eq!(
        config.grpc_address.unwrap(),
        shown["GrpcAddress"].as_str().unwrap()
    );
    assert_eq!(
        config.http_address.unwrap(),
        shown["HttpAddress"].as_str().unwrap()
    );
    assert_eq!(config.serve_config, shown["Http"]["EnableConfig"]);
    assert_eq!(config.serve_profiles, shown["Http"]["EnableProfiling"]);
    assert_eq!(
        config.ignore_tags.rules().len(),
        shown["IgnoreTags"].as_array().unwrap().len()
    );
    assert_eq!(
        nanos(config.runtime_metrics_interval),
        shown["RuntimeMetricsInterval"]
    );
    assert_eq!(config.send_buffer, shown["SendBufferSize"]);
    assert_eq!(nanos(config.shutdown_timeout), shown["ShutdownTimeout"]);
    assert_eq!(format!("{:?}", config.sentry_dsn), "Some(<secret>)");
    let tls = config.grpc_tls.unwrap();
    assert_eq!(tls.address, shown["GrpcTlsAddress"].as_str().unwrap());
    assert_eq!(tls.key_file, shown["Tls"]["KeyFile"].as_str().unwrap());
    assert_eq!(
        tls.server_name.unwrap(),
        shown["Tls"]["ServerName"].as_str().unwrap()
    );
    let SelfMetrics::DogStatsd {
        address,
        aggregation_interval,
        lines_per_datagram,
    } = config.self_metrics
    else {
        panic!("not DogStatsD");
    };
    assert_eq!(address, shown["Statsd"]["Address"].as_str().unwrap());
    assert_eq!(
        nanos(aggregation_interval),
        shown["Statsd"]["AggregationInterval"]
    );
    assert_eq!(
        lines_per_datagram.unwrap(),
        shown["Statsd"]["MessagesPerPayload"]
    );
}

#[test]
fn the_generation_follows_from_the_keys() {
    let f = |file: &str, expected: Generation, reason: &str| {
        let config = config(file);
        assert_eq!(
            (config.generation, config.reason.as_str()),
            (expected, reason),
            "{file}"
        );
    };
    f(
        "forward_address: a",
        Generation::Dual,
        "forward_address is set",
    );
    f(
        "forward_addresses: [a]",
        Generation::Stream,
        "forward_addresses is set",
    );
    // Leftovers do not count against destinations.
    f(
        "forward_address: a\nstatsd: {}",
        Generation::Dual,
        "forward_address is set",
    );
    f(
        "forward_service: a\nstats_address: b",
        Generation::Stream,
        "forward_service is set",
    );
    f(
        "dial_timeout: 1s",
        Generation::Stream,
        "dial_timeout is set",
    );
    refused(
        "forward_address: a\nforward_service: b",
        "name the generation",
    );
    refused(
        "",
        "refusing to start with no Consul service names or static addresses",
    );
}

#[test]
fn ring_names_follow_the_generation_unless_they_are_set() {
    let f = |file: &str, asked, expected| {
        assert_eq!(
            load_with(file, &[], asked).unwrap().config.ring_names,
            expected,
            "{file}"
        );
    };
    f("forward_address: a", None, RingNames::HostPort);
    f(
        "forward_address: a",
        Some(Generation::Legacy),
        RingNames::Url,
    );
    f("forward_address: a\nring_names: url", None, RingNames::Url);
    f(
        "forward_address: a\nring_names: host_port",
        Some(Generation::Legacy),
        RingNames::HostPort,
    );
    refused(
        "forward_address: a\nring_names: both",
        "ring_names: \"both\" is neither host_port nor url",
    );
}

#[test]
fn dual_files_are_read_as_yaml_v2_reads_them() {
    let loaded = load_with(
        "debug: yes\nhttp_address: ':1'\nforward_address: a\nforward_address: b\nsentry_dsn:\nmax_idle_conns: 7\nbogus: {x: 1}\n",
        &[],
        None,
    )
    .unwrap();
    assert_eq!(loaded.unknown_keys, ["bogus"]);
    let config = loaded.config;
    assert!(config.debug);
    assert_eq!(config.http_destinations.addresses, ["b"]);
    assert_eq!(
        (config.sentry_dsn, config.http_pool.max_idle),
        (None, Some(7))
    );
    // A scalar is text where text is wanted, and then it is no duration.
    refused(
        "forward_address: a\nforward_timeout: 10",
        "forward_timeout: time: missing unit in duration \"10\"",
    );
    refused("forward_address: [a", "yaml: ");
    // Only with Consul is the interval looked at.
    config_is_fine("forward_address: a\nconsul_refresh_interval: soon");
    refused(
        "consul_forward_service_name: a\nconsul_refresh_interval: soon",
        "consul_refresh_interval: time: invalid duration",
    );
    refused(
        "consul_forward_service_name: a",
        "consul_refresh_interval: ",
    );
}

#[track_caller]
fn config_is_fine(file: &str) {
    config(file);
}

#[test]
fn services_replace_addresses_in_dual_files_and_join_them_in_stream_files() {
    let dual =
        config("forward_address: a\nconsul_forward_service_name: s\nconsul_refresh_interval: 30s");
    assert_eq!(
        dual.http_destinations,
        Destinations {
            addresses: vec![],
            service: Some("s".into())
        }
    );
    assert_eq!(dual.discovery_interval, Duration::from_secs(30));
    let stream = config("forward_addresses: [a, b]\nforward_service: s");
    assert_eq!(stream.grpc_destinations.addresses, ["a", "b"]);
    assert_eq!(stream.grpc_destinations.service.as_deref(), Some("s"));
}

#[test]
fn variables_win_over_the_file() {
    let variables = [
        ("VENEUR_PROXY_FORWARDADDRESS", "env"),
        ("VENEUR_PROXY_DEBUG", "t"),
        ("VENEUR_HTTPADDRESS", ":9"),
    ];
    let loaded = load_with(
        "forward_address: file\nhttp_address: ':1'",
        &variables,
        None,
    )
    .unwrap();
    assert_eq!(loaded.config.http_destinations.addresses, ["env"]);
    assert!(loaded.config.debug);
    assert_eq!(loaded.config.http_address.as_deref(), Some(":1"));
    // The old prefix counts for those who ask for the old proxy, and is remarked on.
    let legacy = load_with("", &variables, Some(Generation::Legacy)).unwrap();
    assert_eq!(legacy.config.http_address.as_deref(), Some(":9"));
    assert_eq!(legacy.warnings.len(), 1);

    let nested = [
        ("VENEUR_PROXY_FORWARDADDRESSES", "a:1,b:2"),
        ("VENEUR_PROXY_STATSD_ADDRESS", "s:1"),
        ("VENEUR_PROXY_GRPCSERVER_CONNECTIONTIMEOUT", "7s"),
    ];
    let stream = load_with("debug: true", &nested, None).unwrap().config;
    assert_eq!(stream.generation, Generation::Stream);
    assert_eq!(stream.grpc_destinations.addresses, ["a:1", "b:2"]);
    assert_eq!(
        stream.grpc_server.connection_timeout,
        Duration::from_secs(7)
    );
    let wrong = load_with(
        "forward_address: a",
        &[("VENEUR_PROXY_DEBUG", "maybe")],
        None,
    )
    .unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "envconfig.Process: assigning VENEUR_PROXY_DEBUG to debug: \"maybe\" is no boolean"
    );
}

#[test]
fn stream_files_have_sane_defaults_and_named_errors() {
    let config = config("forward_addresses: [a]");
    assert_eq!(config.dial_timeout, Duration::from_secs(10));
    assert_eq!(
        config.grpc_server.connection_timeout,
        Duration::from_secs(120)
    );
    assert_eq!(
        (config.grpc_tls, config.self_metrics),
        (None, SelfMetrics::Off)
    );
    refused(
        "forward_addresses: [a]\ngrpc_tls_address: ':1'",
        "tls.ca_file: must be set",
    );
    refused(
        "forward_addresses: [a]\nignore_tags: [{kind: glob}]",
        "ignore_tags: unknown matcher kind \"glob\"",
    );
    refused(
        "forward_addresses: [a]\ndebug: true\ndebug: false",
        "yaml: ",
    );
    refused(
        "forward_addresses: [a]\nstatsd: {aggregation_interval: 1}",
        "statsd.aggregation_interval: time: missing unit",
    );
    let strict = load(
        "forward_addresses: [a]\nstatsd: {bogus: 1}",
        &|_| None,
        None,
        UnknownKeys::Refuse,
    );
    assert_eq!(
        strict.unwrap_err().to_string(),
        "unknown keys: statsd.bogus"
    );
    let empty = load_with(" \n", &[], Some(Generation::Stream)).unwrap_err();
    assert_eq!(empty, ConfigError::Empty);
    load_with("---\n", &[], Some(Generation::Stream)).unwrap();
}

#[test]
fn stream_files_are_templates_without_data() {
    let stream = config("forward_addresses: ['{{ `a` }}', '{{\"{{\"}}b']{{/* two */}}");
    assert_eq!(stream.grpc_destinations.addresses, ["a", "{{b"]);
    refused(
        "forward_service: a\n# {{ .Name }}",
        "template: line 2: only constants",
    );
}

#[test]
fn span_destinations_are_udp_or_unix() {
    let f = |url: &str, expected: SsfAddress| {
        let config = config(&format!(
            "forward_address: a\nssf_destination_address: {url}"
        ));
        let SelfMetrics::Ssf { address, .. } = config.self_metrics else {
            panic!("not SSF");
        };
        assert_eq!(address, expected);
    };
    f("udp://h:1", SsfAddress::Udp("h:1".into()));
    f("unix:///run/ssf", SsfAddress::Unix("/run/ssf".into()));
    for url in ["tcp://h:1", "h:1"] {
        refused(
            &format!("forward_address: a\nssf_destination_address: {url}"),
            "ssf_destination_address: ",
        );
    }
}

#[test]
fn no_text_makes_loading_panic() {
    let mut rng = fastrand::Rng::with_seed(3);
    let seed = include_str!("../../tests/golden/http/v14-config.input.yaml").as_bytes();
    for _ in 0..3_000 {
        let mut bytes = seed.to_vec();
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        let text = String::from_utf8_lossy(&bytes);
        let outcome = load_with(&text, &[], None).map_err(|reason| reason.to_string());
        assert!(outcome.is_ok() || !outcome.unwrap_err().is_empty());
    }
}
