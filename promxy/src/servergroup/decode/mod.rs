//! From the bytes of an answer to series, in one pass.
//!
//! In reading order:
//!
//! * [`columns`], [`samples`]: the answer to a query, onto a grid or as it is; [`Decoded`]
//! * [`Stream`]: the same while the answer comes; [`Shape`]: what is done to labels on the way; [`Size`]: what it takes
//! * [`words`], [`label_sets`]: the answers to `labels`, `label/x/values` and `series`
//! * [`DecodeError`]: what else a server may send
//! * `query`: the visitor that does the work; `annotations`: warnings and infos
//!
//! Nothing is kept of the text: labels go from a buffer that is used again into sorted sets, numbers straight to their places. What
//! a server can make the proxy hold is bounded by the length of the body, which the caller limits, and by `most_samples`, of which
//! a series takes as many as it has room for.

mod annotations;
mod query;
mod shape;
mod stream;

use std::fmt;

use serde::{
    Deserialize, Deserializer as _,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};

use super::time_range::Grid;
use crate::{
    labels::Labels,
    series::{Column, Histogram, Samples, Series},
};

/// What a server says beside the result.
pub use annotations::Annotations;
pub use query::{OnGrid, OwnTimes, Sink, Size};
pub use shape::Shape;
pub use stream::Stream;

/// What kind of value a query has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultType {
    /// A series of samples for each label set.
    Matrix,
    /// A sample for each label set.
    Vector,
    /// A number; here a series without labels.
    Scalar,
    /// A text; here no series.
    String,
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<D> {
    /// What kind of value it is.
    pub result_type: ResultType,
    /// The series, in the answer's order.
    pub series: Vec<Series<D>>,
    /// How many samples were at times that are not on the grid, and are left out.
    pub off_grid: usize,
    /// What the server says beside.
    pub annotations: Annotations,
}

/// Why an answer is not one. The texts follow the name of the target in errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The server says what is wrong.
    #[error("{kind}: {message}")]
    Api {
        /// The kind, as Prometheus names it.
        kind: String,
        /// The rest.
        message: String,
    },
    /// It is not what a Prometheus server sends.
    #[error("bad_response: {0}")]
    Bad(String),
    /// It has too many samples.
    #[error("bad_response: more than {0} samples")]
    TooManySamples(usize),
}

/// Reads the answer to a query onto a grid; `shift_ms` is added to its times first.
///
/// ```
/// use promxy::servergroup::{decode::columns, time_range::Grid};
///
/// let body = br#"{"status":"success","data":{"resultType":"matrix","result":[
///     {"metric":{"__name__":"up"},"values":[[60,"1"],[120,"NaN"]]}]}}"#;
/// let grid = Grid { start: 0, end: 180_000, step: 60_000 };
/// let decoded = columns(200, body, grid, 0, 1000)?;
/// assert_eq!(decoded.series[0].labels.to_string(), r#"{__name__="up"}"#);
/// assert_eq!(decoded.series[0].data.get(1), Some(1.0));
/// assert_eq!(decoded.series[0].data.get(3), None);
/// # Ok::<(), promxy::servergroup::decode::DecodeError>(())
/// ```
pub fn columns(
    status: u16,
    body: &[u8],
    grid: Grid,
    shift_ms: i64,
    most_samples: usize,
) -> Result<Decoded<Column<Histogram>>, DecodeError> {
    let sink = OnGrid::new(grid, shift_ms);
    decode(status, body, sink, &Shape::default(), most_samples).map(|(decoded, _)| decoded)
}

/// Reads the answer to a query as it is.
pub fn samples(
    status: u16,
    body: &[u8],
    most_samples: usize,
) -> Result<Decoded<Samples<Histogram>>, DecodeError> {
    decode(
        status,
        body,
        OwnTimes::new(),
        &Shape::default(),
        most_samples,
    )
    .map(|(decoded, _)| decoded)
}

fn decode<S: Sink>(
    status: u16,
    body: &[u8],
    sink: S,
    shape: &Shape,
    most_samples: usize,
) -> Result<(Decoded<S::Data>, Size), DecodeError> {
    check_status(status, body)?;
    match query::read(body, sink, shape, most_samples, None)? {
        query::Read::Done(decoded, size) => Ok((decoded, size)),
        // The type came behind the result: now it is known.
        query::Read::TypeCameLate(sink, result_type) => {
            match query::read(body, sink, shape, most_samples, Some(result_type))? {
                query::Read::Done(decoded, size) => Ok((decoded, size)),
                query::Read::TypeCameLate(..) => Err(DecodeError::Bad("no result".to_owned())),
            }
        }
    }
}

/// Reads the answer to `labels` or `label/x/values`.
pub fn words(status: u16, body: &[u8]) -> Result<(Vec<String>, Annotations), DecodeError> {
    list(status, body)
}

/// Reads the answer to `series`.
pub fn label_sets(status: u16, body: &[u8]) -> Result<(Vec<Labels>, Annotations), DecodeError> {
    let (sets, annotations) = list::<LabelSet>(status, body)?;
    Ok((sets.into_iter().map(|set| set.0).collect(), annotations))
}

/// A label set as the API writes it.
pub(crate) struct LabelSet(pub(crate) Labels);

impl<'de> Deserialize<'de> for LabelSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs.into_iter().collect())
            }
        }

        deserializer.deserialize_map(Pairs).map(LabelSet)
    }
}

#[derive(Deserialize)]
struct Envelope<T> {
    status: Option<String>,
    data: Option<T>,
    #[serde(rename = "errorType", default)]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    #[serde(default)]
    infos: Option<Vec<String>>,
}

fn list<T: DeserializeOwned>(
    status: u16,
    body: &[u8],
) -> Result<(Vec<T>, Annotations), DecodeError> {
    check_status(status, body)?;
    let envelope: Envelope<Vec<T>> = serde_json::from_slice(body).map_err(|error| bad(&error))?;
    check_envelope(
        envelope.status.as_deref(),
        &envelope.error_type,
        &envelope.error,
    )?;
    let mut annotations = Annotations::default();
    annotations.add_warnings(envelope.warnings.unwrap_or_default());
    annotations.add_infos(envelope.infos.unwrap_or_default());
    Ok((envelope.data.unwrap_or_default(), annotations))
}

/// Reads an answer of any other form: `metadata`, `query_exemplars`.
pub(crate) fn other<T: DeserializeOwned + Default>(
    status: u16,
    body: &[u8],
) -> Result<T, DecodeError> {
    check_status(status, body)?;
    let envelope: Envelope<T> = serde_json::from_slice(body).map_err(|error| bad(&error))?;
    check_envelope(
        envelope.status.as_deref(),
        &envelope.error_type,
        &envelope.error,
    )?;
    Ok(envelope.data.unwrap_or_default())
}

/// Judges an answer by its status: whatever is not 200 is an error (D15), in the server's words if it has some.
pub(crate) fn check_status(status: u16, body: &[u8]) -> Result<(), DecodeError> {
    if status == 200 {
        return Ok(());
    }
    if let Ok(envelope) = serde_json::from_slice::<Envelope<IgnoredAny>>(body)
        && envelope.status.as_deref() == Some("error")
    {
        let (kind, message) = (envelope.error_type, envelope.error);
        return Err(DecodeError::Api { kind, message });
    }
    Err(match status {
        400..=499 => DecodeError::Api {
            kind: "client_error".to_owned(),
            message: format!("client error: {status}"),
        },
        500..=599 => DecodeError::Api {
            kind: "server_error".to_owned(),
            message: format!("server error: {status}"),
        },
        _ => DecodeError::Bad(format!("status {status}")),
    })
}

fn check_envelope(status: Option<&str>, kind: &str, message: &str) -> Result<(), DecodeError> {
    match status {
        Some("success") => Ok(()),
        Some("error") => Err(DecodeError::Api {
            kind: kind.to_owned(),
            message: message.to_owned(),
        }),
        Some(other) => Err(DecodeError::Bad(format!("unknown status {other:?}"))),
        None => Err(DecodeError::Bad("no status".to_owned())),
    }
}

fn bad(error: &serde_json::Error) -> DecodeError {
    DecodeError::Bad(error.to_string())
}

/// Starts reading one JSON value from bytes.
fn reader(body: &[u8]) -> serde_json::Deserializer<serde_json::de::SliceRead<'_>> {
    serde_json::Deserializer::from_slice(body)
}

/// Reads one JSON object with a visitor and makes sure that nothing follows.
fn read_object<'de, V: Visitor<'de>>(
    body: &'de [u8],
    visitor: V,
) -> Result<V::Value, serde_json::Error> {
    let mut reader = reader(body);
    let value = reader.deserialize_map(visitor)?;
    reader.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests;
