//! A capture played again: the proxy with its words, the gateway with its answers, the clients with their steps.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde_json::Value;
use shared::testing::{process::Program, wire::connect};

use crate::{
    described,
    deviations::{Change::Words, deviations},
    recorded::{bytes_of, capture, script},
    support::{
        Certificates, command,
        gateway::{Action, Gateway, Tls},
        loopback, port, spawn,
    },
    verdict::batches_of,
};

/// One capture and what it takes to replay it.
pub(crate) struct Replay<'a> {
    pub(crate) case: String,
    pub(crate) capture: Value,
    pub(crate) certificates: &'a Certificates,
    pub(crate) words: Vec<String>,
    /// As recorded, and as used now.
    pub(crate) gateway_port: Option<(u16, u16)>,
    pub(crate) lines_port: u16,
    stat_port: u16,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(case: &str, certificates: &'a Certificates) -> Self {
        let capture = capture(case);
        let [lines_port, stat_port, gateway_port] = std::array::from_fn(|_| port());
        let mut replay = Self {
            case: case.to_owned(),
            words: Vec::new(),
            gateway_port: None,
            lines_port,
            stat_port,
            certificates,
            capture: Value::Null,
        };
        for word in capture["argv"].as_array().unwrap() {
            let word = word
                .as_str()
                .unwrap()
                .replace("/certs/", &format!("{}/", certificates.folder().display()));
            let word = if word.starts_with("-listen-addr=") {
                format!("-listen-addr=127.0.0.1:{lines_port}")
            } else if word.starts_with("-stat-addr=") {
                format!("-stat-addr=127.0.0.1:{stat_port}")
            } else if let Some(recorded) = port_in(&word).filter(|port| *port > 20_000) {
                replay.gateway_port = Some((recorded, gateway_port));
                word.replace(&format!(":{recorded}"), &format!(":{gateway_port}"))
            } else {
                word
            };
            replay.words.push(word);
        }
        for deviation in deviations(case) {
            if let Words(words) = deviation.change {
                replay
                    .words
                    .extend(words.iter().map(|word| (*word).to_owned()));
            }
        }
        replay.capture = capture;
        replay
    }

    pub(crate) fn requests(&self) -> &[Value] {
        self.capture["requests"]
            .as_array()
            .map_or(&[], Vec::as_slice)
    }

    pub(crate) fn spawn(&self) -> Program {
        let mut command = command();
        for (name, value) in self.capture["env"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap().replace(
                "/certs/",
                &format!("{}/", self.certificates.folder().display()),
            );
            command.env(name, value);
        }
        spawn(command.args(&self.words))
    }

    /// The gateway as recorded; `None` where nobody listened.
    pub(crate) fn gateway(&self) -> Option<Gateway> {
        let (_, port) = self.gateway_port?;
        let connected = self.capture["connections"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        let seen = self
            .capture
            .get("requests_seen_by_a_Go_net_http_server")
            .is_some();
        if !connected && !seen {
            return None;
        }
        let script = script(&self.case, self.requests());
        let played = Mutex::new(vec![false; script.len()]);
        Some(Gateway::start_at(
            loopback(port),
            self.tls(),
            move |path, _| {
                let mut played = played.lock();
                let ping = path.ends_with("/ping");
                let next = script.iter().enumerate().position(|(at, (recorded, _))| {
                    !played[at] && recorded.ends_with("/ping") == ping
                });
                match next {
                    Some(at) => {
                        played[at] = true;
                        script[at].1.clone()
                    }
                    None if ping => Action::status(200, "key is valid\n"),
                    None => Action::received(),
                }
            },
        ))
    }

    pub(crate) fn tls(&self) -> Option<Tls> {
        let flag = self.words.iter().find(|word| word.starts_with("-gateway="));
        if !flag?.contains("https://") {
            return None;
        }
        let name = self.case.strip_prefix("tls/").unwrap_or_default();
        let shown = match name {
            "self_ca_true" => "self_ca",
            "self_leaf" | "self_nosan" | "wronghost" | "expired" => name,
            "nosan_ca" => "nosan",
            _ => "server",
        };
        if name == "tls12" {
            let read =
                |end: &str| fs::read(self.certificates.path(&format!("server.{end}"))).unwrap();
            return Some(Tls::new(
                &read("pem"),
                &read("key"),
                &[&rustls::version::TLS12],
            ));
        }
        Some(self.certificates.server(shown))
    }

    /// Plays the clients one after another; each waits until the gateway has heard of it.
    pub(crate) fn play(&self, gateway: Option<&Gateway>) -> Vec<Vec<u8>> {
        let mut sent = described::play(self, gateway);
        for client in self.capture["clients"].as_array().into_iter().flatten() {
            let Some(steps) = client.get("steps").and_then(Value::as_array) else {
                continue;
            };
            let before = gateway.map_or(0, Gateway::ingests);
            let mut stream = connect(loopback(self.lines_port));
            let mut bytes = Vec::new();
            for step in steps {
                let (name, value) = step.as_object().unwrap().iter().next().unwrap();
                match name.as_str() {
                    "send" => {
                        let piece = bytes_of(value);
                        bytes.extend_from_slice(&piece);
                        // The original may hang up in the middle.
                        let _sent = stream.write_all(&piece).is_ok();
                    }
                    "sleep" => thread::sleep(Duration::from_secs_f64(value[0].as_f64().unwrap())),
                    "shut" => drop(stream.shutdown(Shutdown::Write)),
                    "recv" => {
                        stream
                            .set_read_timeout(Some(shared::testing::PATIENCE))
                            .unwrap();
                        let got = stream.read(&mut [0; 16]).unwrap_or(0);
                        assert_eq!(got, 0, "{}: nothing is ever written back", self.case);
                    }
                    "rst" => socket2::SockRef::from(&stream)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap(),
                    other => panic!("{}: {other}", self.case),
                }
            }
            drop(stream);
            let arrives = !bytes.is_empty() && !self.case.contains("noeol_65536");
            if let Some(gateway) = gateway.filter(|_| arrives) {
                shared::testing::eventually(&format!("{}: a request", self.case), || {
                    (gateway.ingests() > before).then_some(())
                });
            }
            sent.push(bytes);
        }
        sent
    }

    /// Replays it, and returns what is different from what was recorded.
    pub(crate) fn run(&self) -> Vec<String> {
        let odd = [
            "tls/plain_server_nocert",
            "tls/plain_server_withcert",
            "tls/tls11",
            "startup/gw_http_to_tls",
        ];
        let is_odd = odd.contains(&self.case.as_str());
        let (silent, gateway) = if is_odd {
            (Some(self.silent_server()), None)
        } else {
            (None, self.gateway())
        };
        let mut program = self.spawn();
        let lives = self.expected_exit() == 0;
        let mut sent = Vec::new();
        if lives {
            program.wait_for_line("Runstats started");
            self.wait_until_listening(&mut program);
            sent = self.play(gateway.as_ref());
        }
        let expected = self.expected_batches(&sent);
        let arrived = || -> Vec<Vec<u8>> {
            let requests = gateway.as_ref().map(Gateway::requests).unwrap_or_default();
            batches_of(&requests)
        };
        if lives {
            let deadline = Instant::now() + shared::testing::PATIENCE;
            while arrived().len() < expected.len() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(2));
            }
            if self.case.starts_with("console/") {
                self.wait_for_output(&program, &sent);
            }
            program.signal(Signal::SIGINT);
        }
        let the_end = format!("{}: the end", self.case);
        shared::testing::eventually(&the_end, || program.exited());
        let status = program.wait();
        drop(silent);

        let mut wrong = Vec::new();
        if status.code().map(i64::from) != Some(self.expected_exit()) {
            wrong.push(format!(
                "exit: expected {}, got {status}",
                self.expected_exit()
            ));
        }
        let requests = gateway.as_ref().map(Gateway::requests).unwrap_or_default();
        wrong.extend(self.compare_batches(&expected, &batches_of(&requests)));
        wrong.extend(self.compare_heads(&requests, &expected));
        wrong.extend(self.compare_logs(&program, &expected));
        if let Some(workers) = self.case.strip_prefix("timing/concurrency_workers_") {
            // Row 23: as many connections are kept as there are workers.
            let connections: BTreeSet<usize> = requests.iter().map(|it| it.connection).collect();
            if connections.len() > workers.parse().unwrap() {
                wrong.push(format!("{} connections", connections.len()));
            }
        }
        wrong
    }

    /// Waits until all that was sent is printed, and own metrics are if there are any; all that was recorded is among it.
    fn wait_for_output(&self, program: &Program, sent: &[Vec<u8>]) {
        let mut expected: BTreeSet<String> = String::from_utf8(sent.concat())
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        for line in self.capture["stdout"].as_array().unwrap() {
            let line = line.as_str().unwrap();
            match line.split_once(".polymur.") {
                Some((_, own)) => _ = expected.insert(own.split(' ').next().unwrap().to_owned()),
                None if line.starts_with("... ") => {}
                None => assert!(expected.contains(line), "{}: {line}", self.case),
            }
        }
        shared::testing::eventually(&format!("{}: all lines", self.case), || {
            let printed: BTreeSet<String> = program
                .stdout()
                .into_iter()
                .map(|line| match line.split_once(".polymur.") {
                    Some((_, own)) => own.split(' ').next().unwrap().to_owned(),
                    None => line,
                })
                .collect();
            let more = |line: &String| line.starts_with("runtime.") || line == "rate";
            let all = expected.is_subset(&printed);
            (all && printed.difference(&expected).all(more)).then_some(())
        });
    }

    /// A proxy that has ended instead says why.
    pub(crate) fn wait_until_listening(&self, program: &mut Program) {
        shared::testing::eventually(&self.case, || {
            let ended = program.exited();
            assert!(ended.is_none(), "{}: {:#?}", self.case, program.stderr());
            let listening = |port| TcpStream::connect(loopback(port)).is_ok();
            // The plaintext listener would count a connection; it is bound after this one.
            listening(self.stat_port).then_some(())
        });
    }

    /// A listener that never speaks TLS, or refuses the version.
    pub(crate) fn silent_server(&self) -> thread::JoinHandle<()> {
        let (_, port) = self.gateway_port.unwrap();
        let listener = shared::testing::eventually("the port", || {
            std::net::TcpListener::bind(loopback(port)).ok()
        });
        let refuses = self.case == "tls/tls11";
        let resets = self.case == "startup/gw_http_to_tls";
        thread::spawn(move || {
            let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
            let mut hello = [0; 16_384];
            let _read = stream.read(&mut hello).unwrap();
            if refuses {
                // Fatal alert 70: protocol version.
                stream.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).unwrap();
            }
            if resets {
                return socket2::SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
            }
            // Until the other side hangs up.
            while matches!(stream.read(&mut hello), Ok(1..)) {}
        })
    }
}

pub(crate) fn port_in(word: &str) -> Option<u16> {
    word.strip_prefix("-gateway=")?;
    let (_, after) = word.rsplit_once(':')?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
