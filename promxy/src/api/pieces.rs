//! The answer to a query, written while it is sent.
//!
//! A result is columns of numbers; its text is several times as large, and never exists whole: a piece of it is written when the
//! client is about to take it, and what was written is let go of. Answers that fit into one piece are sent as a whole.

use std::{io, vec};

use axum::body::{Body, Bytes};
use futures_util::stream;
use promql::value::{MatrixSeries, Value, VectorSample};
use tokio::task::spawn_blocking;

use super::write_json::{self, Times};
use crate::servergroup::decode::Annotations;

/// From which length on a piece is sent. It ends with a series.
const PIECE: usize = 128 << 10;

/// An answer that is being written.
#[derive(Debug)]
pub struct Pieces {
    /// What stands before the series, until it is written.
    begin: String,
    result: Written,
    times: Times,
    /// Whether no series was written yet.
    is_first: bool,
    /// What stands behind the series, until it is written.
    end: String,
}

/// What is left to write.
#[derive(Debug)]
enum Written {
    Vector(vec::IntoIter<VectorSample>),
    Matrix(vec::IntoIter<MatrixSeries>),
    /// It stands in the beginning.
    Nothing,
}

impl Pieces {
    /// Starts to write a successful answer; `stats` is JSON, or empty if nobody asked for it.
    pub fn new(value: Value, stats: &str, annotations: &Annotations) -> Self {
        let mut begin = String::from(r#"{"status":"success","data":"#);
        let mut end = String::new();
        let result = match value {
            Value::Vector(samples) => {
                begin.push_str(r#"{"resultType":"vector","result":["#);
                end.push(']');
                Written::Vector(samples.into_iter())
            }
            Value::Matrix(series) => {
                begin.push_str(r#"{"resultType":"matrix","result":["#);
                end.push(']');
                Written::Matrix(series.into_iter())
            }
            value @ (Value::Scalar { .. } | Value::String { .. }) => {
                let text = write_json::value(&value);
                begin.push_str(text.strip_suffix('}').unwrap_or(&text));
                Written::Nothing
            }
        };
        if !stats.is_empty() {
            end.push_str(r#","stats":"#);
            end.push_str(stats);
        }
        end.push('}');
        write_json::annotations(annotations, &mut end);
        end.push('}');
        Self {
            begin,
            result,
            times: Times::default(),
            is_first: true,
            end,
        }
    }

    /// Returns what is to be sent: the whole answer if it is short, else pieces on demand.
    pub fn into_body(mut self) -> Body {
        let Some(first) = self.next() else {
            return Body::empty();
        };
        if self.end.is_empty() {
            return Body::from(first);
        }
        let rest = stream::unfold(Some((Some(first), self)), |state| async move {
            let (written, pieces) = state?;
            if let Some(first) = written {
                return Some((Ok(Bytes::from(first)), Some((None, pieces))));
            }
            let write = move |mut pieces: Self| pieces.next().map(|piece| (piece, pieces));
            match spawn_blocking(move || write(pieces)).await {
                Ok(Some((piece, pieces))) => Some((Ok(Bytes::from(piece)), Some((None, pieces)))),
                Ok(None) => None,
                // The client must not take what it has for the whole.
                Err(_) => Some((Err(io::Error::other("the answer cannot be written")), None)),
            }
        });
        Body::from_stream(rest)
    }

    fn write_one(&mut self, out: &mut String) -> bool {
        let comma = if self.is_first { "" } else { "," };
        match &mut self.result {
            Written::Vector(samples) => samples.next().is_some_and(|sample| {
                out.push_str(comma);
                write_json::vector_sample(&sample, out);
                true
            }),
            Written::Matrix(series) => series.next().is_some_and(|series| {
                out.push_str(comma);
                write_json::matrix_series(&series, &mut self.times, out);
                true
            }),
            Written::Nothing => false,
        }
    }
}

impl Iterator for Pieces {
    type Item = String;

    /// Writes the next piece. The last one empties `end`.
    fn next(&mut self) -> Option<String> {
        if self.end.is_empty() {
            return None;
        }
        let mut out = std::mem::take(&mut self.begin);
        while out.len() < PIECE {
            if !self.write_one(&mut out) {
                out.push_str(&std::mem::take(&mut self.end));
                return Some(out);
            }
            self.is_first = false;
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use promql::{
        CancelToken, Engine, EngineOptions,
        parser::ParserOptions,
        testing::{MemoryStorage, block_on},
    };

    use super::*;

    #[test]
    fn pieces_are_the_answer_that_is_written_at_once() {
        let engine = Engine::new(EngineOptions::new(ParserOptions::v3_5()));
        let f = |text: &str, steps: i64, at_least: usize| {
            let query = engine.range_query(text, 0, steps * 1000, 1000).unwrap();
            let value = block_on(query.run(&MemoryStorage::new(), &CancelToken::default()))
                .value
                .unwrap();
            let mut annotations = Annotations::default();
            annotations.add_warnings(["careful".to_owned()]);
            let whole = write_json::success(&write_json::value(&value), &annotations);
            let pieces: Vec<String> = Pieces::new(value, "", &annotations).collect();
            assert!(pieces.len() >= at_least, "{text}: {}", pieces.len());
            assert_eq!(pieces.concat(), whole, "{text}");
        };
        f("vector(1.5)", 3, 1);
        f("absent(none) * vector(time())", 10_000, 2);
        f("none", 3, 1);
    }
}
