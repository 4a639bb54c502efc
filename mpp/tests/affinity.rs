//! How clients stick to servers: every recorded flow is repeated.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and golden tests print their counts"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use shared::testing::golden;
use support::{
    Mpp,
    client::{Response, request},
    prometheus::Reply,
    trio::Trio,
};

/// What many requests have come to.
#[derive(Debug, Default)]
struct Summary {
    served_by: BTreeMap<String, usize>,
    statuses: BTreeSet<u16>,
    cookies: BTreeSet<String>,
    responses_with_cookie: usize,
}

struct Stage {
    servers: Trio,
    mpp: Mpp,
}

impl Stage {
    fn start(args: &[&str]) -> Self {
        Self::with_addresses(args, "")
    }

    fn with_addresses(args: &[&str], after: &str) -> Self {
        let servers = Trio::usual();
        let endpoints = servers.endpoints().replace('\n', &format!("{after}\n"));
        let mpp = Mpp::start(
            &endpoints,
            &[args, &["--selection-interval", "1h"]].concat(),
        );
        mpp.wait_until_answering(3);
        Self { servers, mpp }
    }

    fn ask(&self, headers: &str) -> Response {
        let bytes = format!("GET /x HTTP/1.1\r\nHost: mpp.example:9090\r\n{headers}\r\n");
        let bytes = self.servers.real(&bytes);
        request(self.mpp.port, bytes.as_bytes()).unwrap()
    }

    fn summary(&self, count: usize, headers: impl Fn(usize) -> String) -> Summary {
        let mut summary = Summary::default();
        for number in 0..count {
            let answer = self.ask(&headers(number));
            summary.statuses.insert(answer.status);
            let by = self
                .servers
                .recorded(answer.header("mpp.servedby").unwrap_or("nobody"));
            *summary.served_by.entry(by).or_default() += 1;
            if let Some(cookie) = answer.header("set-cookie") {
                summary.responses_with_cookie += 1;
                summary.cookies.insert(self.servers.recorded(cookie));
            }
        }
        summary
    }
}

const B1: &str = "http://127.0.0.1:24001";
const B2: &str = "http://127.0.0.1:24002";
const B3: &str = "http://127.0.0.1:24003";
const RANDOM: [&str; 2] = ["--routing-strategy", "random"];

fn cookie(value: &str) -> impl Fn(usize) -> String {
    let line = format!("Cookie: MPP.Route={value}\r\n");
    move |_| line.clone()
}

fn from(address: &str) -> impl Fn(usize) -> String {
    let line = format!("X-Forwarded-For: {address}\r\n");
    move |_| line.clone()
}

fn all_from(summary: &Summary, server: &str) {
    let served: Vec<&String> = summary.served_by.keys().collect();
    assert_eq!(served, [server], "{summary:?}");
    assert_eq!(summary.statuses, BTreeSet::from([200]), "{summary:?}");
}

/// The names of the recorded flows; each is one of the tests here.
#[test]
fn every_recorded_flow_has_its_test() {
    let flows: Vec<Value> = golden::json(support::golden("http/affinity.json"));
    let names: Vec<&str> = flows
        .iter()
        .map(|flow| flow["scenario"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "cookies-random",
            "cookies-single",
            "cookies-dead-backend",
            "cookies-502-backend",
            "cookies-trailing-slash-endpoints",
            "sourceip-random",
            "sourceip-shared-key",
            "sourceip-lru",
            "sourceip-dead-backend",
            "sourceip-single",
            "cookies-and-sourceip",
            "sourceip-and-cookies-order",
        ]
    );
    println!("affinity: {} flows", names.len());
}

#[test]
fn cookies_random() {
    let stage = Stage::start(&RANDOM);
    let first = stage.summary(90, |_| String::new());
    assert_eq!(first.served_by.len(), 3, "{first:?}");
    // A1: recorded without a path.
    let expected = [B1, B2, B3].map(|origin| format!("MPP.Route={origin}; Path=/; HttpOnly"));
    assert_eq!(first.cookies, BTreeSet::from(expected));
    assert_eq!(first.responses_with_cookie, 90);
    let sticky = stage.summary(20, cookie(B2));
    all_from(&sticky, B2);
    assert_eq!(sticky.responses_with_cookie, 0);
    assert_eq!(
        stage.mpp.metric("mpp_affinity_hits{type=\"cookies\"}") as usize / 20,
        1
    );
}

/// Where a form means something else: the start of its label, the row of the specification, and the server it leads to.
const FORMS: &[(&str, &str, &str)] = &[
    (
        "cookie: trailing slash",
        "8: scheme, host and port alone",
        B2,
    ),
    ("cookie: path", "8: scheme, host and port alone", B2),
    ("cookie: stale first", "8: all cookies of the name", B3),
];

#[test]
fn every_recorded_form_of_the_cookie_means_the_same() {
    let stage = Stage::start(&RANDOM);
    let flows: Vec<Value> = golden::json(support::golden("http/affinity.json"));
    let (mut forms, mut deviating) = (0, 0);
    for step in flows[0]["steps"].as_array().unwrap() {
        let label = step["label"].as_str().unwrap();
        if let Some(sent) = step["client_sent"].as_str() {
            // One exchange; the cookie in it leads to its server, or there is none and one is set.
            let answer = request(stage.mpp.port, stage.servers.real(sent).as_bytes()).unwrap();
            let got = step["client_got"].as_str().unwrap();
            let sets = got.contains("Set-Cookie");
            assert_eq!(answer.status, 200, "{label}");
            assert_eq!(answer.header("set-cookie").is_some(), sets, "{label}");
            let by = stage
                .servers
                .recorded(answer.header("mpp.servedby").unwrap());
            assert!(
                sets || got.contains(&format!("Mpp.servedby: {by}\r\n")),
                "{label}"
            );
            forms += 1;
            continue;
        }
        let Some(form) = label.strip_prefix("cookie: ") else {
            continue;
        };
        forms += 1;
        // "what it is: the pairs x20"
        let (_, pairs) = form.split_once(": ").unwrap();
        let (pairs, count) = pairs.rsplit_once(" x").unwrap();
        let count: usize = count.parse().unwrap();
        let got = stage.summary(count, |_| format!("Cookie: {pairs}\r\n"));
        assert_eq!(got.statuses, BTreeSet::from([200]), "{label}");
        let recorded = &step["summary"];
        let servers = recorded["served_by"].as_object().unwrap();
        let deviation = FORMS.iter().find(|(start, ..)| label.starts_with(start));
        deviating += usize::from(deviation.is_some());
        let bound = match deviation {
            Some((.., server)) => Some(*server),
            None => servers
                .keys()
                .next()
                .map(String::as_str)
                .filter(|_| servers.len() == 1),
        };
        if let Some(server) = bound {
            all_from(&got, server);
            assert_eq!(got.responses_with_cookie, 0, "{label}");
        } else {
            assert!(got.served_by.len() > 1, "{label}: {got:?}");
            assert_eq!(got.responses_with_cookie, count, "{label}");
        }
    }
    println!("affinity: {forms} forms of the cookie, {deviating} deviate as listed");
    assert_eq!(deviating, FORMS.len());
}

#[test]
fn every_recorded_form_of_an_address_sticks() {
    let stage = Stage::start(&[&RANDOM[..], &["--affinity-options", "sourceip"]].concat());
    let flows: Vec<Value> = golden::json(support::golden("http/affinity.json"));
    let flow = flows
        .iter()
        .find(|flow| flow["scenario"] == "sourceip-random");
    let first = stage.summary(1, from("10.0.0.1"));
    let bound = first.served_by.keys().next().unwrap();
    let mut forms = 0;
    for step in flow.unwrap()["steps"].as_array().unwrap() {
        let label = step["label"].as_str().unwrap();
        let Some(form) = label.strip_prefix("X-Forwarded-For: '") else {
            continue;
        };
        let (address, count) = form.rsplit_once("' x").unwrap();
        let got = stage.summary(count.parse().unwrap(), from(address));
        // A3: recorded with one key for all that is not exactly one IPv4 address. Blanks and an IPv6 around IPv4 mean the same.
        let same = [" 10.0.0.1 ", "::ffff:10.0.0.1"].contains(&address);
        let server = if same {
            bound
        } else {
            got.served_by.keys().next().unwrap()
        };
        all_from(&got, server);
        assert_eq!(got.responses_with_cookie, 0, "{label}");
        forms += 1;
    }
    println!("affinity: {forms} forms of an address");
    assert_eq!(forms, 6);
}

#[test]
fn cookies_single() {
    let stage = Stage::start(&[]);
    let without = stage.summary(5, |_| String::new());
    all_from(&without, B2);
    assert_eq!(without.responses_with_cookie, 5);
    // A2: recorded with a cookie although the client has it.
    let with = stage.summary(5, cookie(B2));
    all_from(&with, B2);
    assert_eq!(with.responses_with_cookie, 0);
    let other = stage.summary(5, cookie(B1));
    all_from(&other, B2);
    assert_eq!(other.responses_with_cookie, 5);
    assert_eq!(stage.mpp.metric("mpp_affinity_hits{type=\"cookies\"}"), 0.0);
}

#[test]
fn cookies_dead_backend() {
    let mut stage = Stage::start(&RANDOM);
    all_from(&stage.summary(3, cookie(B2)), B2);
    stage.servers[1].stop();
    let after = stage.summary(20, cookie(B2));
    assert_eq!(after.statuses, BTreeSet::from([200]));
    assert!(!after.served_by.contains_key(B2), "{after:?}");
    assert_eq!(after.responses_with_cookie, 20);
    let retries = stage
        .servers
        .real(&format!("mpp_retries{{backend=\"{B2}\"}}"));
    assert!(stage.mpp.metric(&retries) >= 1.0);
}

/// R2: recorded with both attempts at the failing server, and 502 for the client.
#[test]
fn cookies_502_backend() {
    let stage = Stage::start(&RANDOM);
    stage.servers[1].set(|manners| manners.proxied = Reply::Status(502, "bad"));
    let summary = stage.summary(5, cookie(B2));
    assert_eq!(summary.statuses, BTreeSet::from([200]));
    assert!(!summary.served_by.contains_key(B2));
}

/// Section 8: recorded without a match, as the whole address was compared.
#[test]
fn cookies_trailing_slash_endpoints() {
    let stage = Stage::with_addresses(&RANDOM, "/");
    all_from(&stage.summary(30, cookie(B2)), B2);
    all_from(&stage.summary(30, cookie(&format!("{B2}/"))), B2);
}

#[test]
fn sourceip_random() {
    let stage = Stage::start(&[&RANDOM[..], &["--affinity-options", "sourceip"]].concat());
    let first = stage.summary(20, from("10.0.0.1"));
    assert_eq!(first.served_by.len(), 1, "{first:?}");
    assert_eq!(first.responses_with_cookie, 0);
    let of = |number: usize| from(&format!("10.0.1.{number}"))(0);
    let once = stage.summary(60, of);
    assert!(once.served_by.len() > 1, "{once:?}");
    let again = stage.summary(60, of);
    assert_eq!(once.served_by, again.served_by);
    let direct = stage.summary(20, |_| String::new());
    assert_eq!(direct.served_by.len(), 1, "{direct:?}");
}

/// A3: recorded with one key for all of these.
#[test]
fn sourceip_shared_key() {
    let stage = Stage::start(&[&RANDOM[..], &["--affinity-options", "sourceip"]].concat());
    let forms = ["10.0.2.1, 10.0.0.9", "2001:db8::1", "10.0.3.1, 10.0.0.9"];
    let mut differ = false;
    // Each form has its own key, so that in time they land on different servers.
    for round in 0..40 {
        let served: Vec<String> = forms
            .iter()
            .map(|form| {
                let form = form
                    .replace("10.0.2.", &format!("10.{round}.2."))
                    .replace("db8::", &format!("db8:{round}::"));
                let one = stage.summary(3, from(&form));
                assert_eq!(one.served_by.len(), 1, "{one:?}");
                one.served_by.keys().next().unwrap().clone()
            })
            .collect();
        differ |= served.iter().any(|server| *server != served[0]);
    }
    assert!(differ);
}

#[test]
fn sourceip_lru() {
    let stage = Stage::start(&[&RANDOM[..], &["--affinity-options", "sourceip"]].concat());
    let of = |number: usize| from(&format!("10.1.{}.{}", number / 200, number % 200))(0);
    let hits = || stage.mpp.metric("mpp_affinity_hits{type=\"sourceip\"}");
    stage.summary(1, |_| of(0));
    assert_eq!(hits(), 0.0);
    stage.summary(255, |number| of(number + 1));
    stage.summary(1, |_| of(0));
    assert_eq!(hits(), 1.0);
    // The 257th key puts out the one that was used longest ago, which is the second.
    stage.summary(1, |_| of(256));
    stage.summary(1, |_| of(1));
    assert_eq!(hits(), 1.0);
}

/// A4: recorded with 502 for ever.
#[test]
fn sourceip_dead_backend() {
    let mut stage = Stage::start(&[&RANDOM[..], &["--affinity-options", "sourceip"]].concat());
    let first = stage.summary(1, from("10.0.0.9"));
    let bound = first.served_by.keys().next().unwrap().clone();
    let place = [B1, B2, B3].iter().position(|one| *one == bound).unwrap();
    stage.servers[place].stop();
    let after = stage.summary(10, from("10.0.0.9"));
    assert_eq!(after.statuses, BTreeSet::from([200]));
    assert_eq!(
        after.served_by.len(),
        1,
        "it sticks to its new server: {after:?}"
    );
}

#[test]
fn sourceip_single() {
    let stage = Stage::start(&["--affinity-options", "sourceip"]);
    all_from(&stage.summary(5, |_| String::new()), B2);
    assert_eq!(
        stage.mpp.metric("mpp_affinity_hits{type=\"sourceip\"}"),
        0.0
    );
}

#[test]
fn cookies_and_sourceip() {
    for options in ["cookies,sourceip", "sourceip,cookies"] {
        let stage = Stage::start(&[&RANDOM[..], &["--affinity-options", options]].concat());
        let first = stage.summary(1, from("10.0.0.1"));
        assert_eq!(first.responses_with_cookie, 1);
        let bound = first.served_by.keys().next().unwrap().clone();
        let again = stage.summary(5, from("10.0.0.1"));
        all_from(&again, &bound);
        assert_eq!(again.responses_with_cookie, 0);
        let other = if bound == B1 { B3 } else { B1 };
        let both = |number| format!("{}{}", from("10.0.0.1")(number), cookie(other)(number));
        let cookie_wins = stage.summary(5, both);
        all_from(&cookie_wins, other);
        // The address follows.
        all_from(&stage.summary(5, from("10.0.0.1")), other);
    }
}

#[test]
fn affinity_none_sets_and_reads_nothing() {
    let stage = Stage::start(&[&RANDOM[..], &["--affinity-options", "none"]].concat());
    let summary = stage.summary(60, cookie(B2));
    assert!(summary.served_by.len() > 1, "{summary:?}");
    assert_eq!(summary.responses_with_cookie, 0);
}
