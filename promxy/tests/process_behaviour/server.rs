//! The server that was behind the recorded process: three series, as slow as a step wants it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::Value;

use super::compare::answer;
use crate::support::{
    Promxy,
    stub::{Asked, Reply, Stub},
};

/// The labels of the series, in the recorded order.
const SERIES: [&str; 3] = [
    r#""instance":"127.0.0.1:25020","job":"demo","shard":"A""#,
    r#""instance":"127.0.0.1:25002","job":"prometheus""#,
    r#""instance":"127.0.0.1:25001","job":"prometheus""#,
];

pub(crate) struct Server {
    pub(crate) stub: Stub,
    delay: Arc<AtomicU64>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let delay = Arc::new(AtomicU64::new(0));
        let wait = Arc::clone(&delay);
        let stub = Stub::start(move |asked| {
            let reply = Reply::json(answer_to(asked));
            match wait.load(Relaxed) {
                0 => reply,
                millis => Reply::After(Duration::from_millis(millis), Box::new(reply)),
            }
        });
        Self { stub, delay }
    }

    pub(crate) fn slow_down(&self, delay: Duration) {
        self.delay.store(delay.as_millis() as u64, Relaxed);
    }

    /// A configuration with this server, whose series get a label that tells it apart.
    pub(crate) fn config(&self, version: u32) -> String {
        let port = self.stub.port;
        format!(
            "promxy:\n  server_groups:\n  - labels: {{v: {version}}}\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
        )
    }
}

fn answer_to(asked: &Asked) -> String {
    let parameters = asked.parameters();
    let parameter = |name: &str| {
        let found = parameters.iter().find(|(other, _)| other == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let data = match (asked.path(), parameter("query")) {
        ("/api/v1/query", "up") => {
            let time = parameter("time");
            let vector = SERIES.map(|labels| {
                format!(r#"{{"metric":{{"__name__":"up",{labels}}},"value":[{time},"1"]}}"#)
            });
            format!(
                r#"{{"resultType":"vector","result":[{}]}}"#,
                vector.join(",")
            )
        }
        ("/api/v1/query", "0 * up") => {
            let time = parameter("time");
            let vector =
                SERIES.map(|labels| format!(r#"{{"metric":{{{labels}}},"value":[{time},"0"]}}"#));
            format!(
                r#"{{"resultType":"vector","result":[{}]}}"#,
                vector.join(",")
            )
        }
        ("/api/v1/query", "sum(up)") => {
            let time = parameter("time");
            format!(
                r#"{{"resultType":"vector","result":[{{"metric":{{}},"value":[{time},"3"]}}]}}"#
            )
        }
        ("/api/v1/query", _) => r#"{"resultType":"vector","result":[]}"#.to_owned(),
        ("/api/v1/query_range", _) => {
            let start = parameter("start");
            let matrix = SERIES.map(|labels| {
                format!(r#"{{"metric":{{"__name__":"up",{labels}}},"values":[[{start},"1"]]}}"#)
            });
            format!(
                r#"{{"resultType":"matrix","result":[{}]}}"#,
                matrix.join(",")
            )
        }
        ("/api/v1/metadata", _) => "{}".to_owned(),
        _ => "[]".to_owned(),
    };
    format!(r#"{{"status":"success","data":{data}}}"#)
}

/// Asks what was asked, at the time at which it was, which the recorded answer tells.
pub(crate) fn query(promxy: &Promxy, recorded: &Value) -> String {
    let target = target(recorded);
    answer(&promxy.get(&target))
}

/// The recorded request's target, with its time.
pub(crate) fn target(recorded: &Value) -> String {
    let request = recorded["request"].as_str().unwrap();
    let (_, target) = request.split_once(' ').unwrap();
    let body = recorded["body"].as_str().unwrap();
    let time = body.split_once("\"value\":[").map(|(_, rest)| rest);
    match time.and_then(|rest| rest.split_once(',')) {
        Some((time, _)) => format!("{target}&time={time}"),
        None => target.to_owned(),
    }
}
