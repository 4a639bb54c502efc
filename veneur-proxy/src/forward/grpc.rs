//! gRPC over HTTP/2: a connection, calls with ready-made bytes, statuses.
//!
//! Directly over `h2`, because bytes are framed already where they are placed: nothing is encoded here, and a batch is handed
//! over as one buffer.

use std::{future::poll_fn, io, time::Duration};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use shared::lifecycle::Tasks;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Security, Target, Version};
use crate::observe::Failure;

/// How we introduce ourselves.
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("veneur-proxy/", env!("CARGO_PKG_VERSION")));
/// gRPC's number for a method that is not there.
pub(crate) const UNIMPLEMENTED: u32 = 12;
/// gRPC's number for a call that took too long.
const DEADLINE_EXCEEDED: u32 = 4;
/// What is buffered of a stream before its flow control takes it.
pub(crate) const SEND_BUFFER: usize = 1 << 20;

/// A connection.
pub(crate) struct Channel {
    requests: SendRequest<Bytes>,
    scheme: &'static str,
    authority: String,
    closed: CancellationToken,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

/// Connects. `ended` is called when the connection is over.
pub(crate) async fn connect(
    tasks: &Tasks,
    connector: &Connector,
    target: &Target,
    limit: Duration,
    ended: impl FnOnce() + Send + 'static,
) -> io::Result<Channel> {
    let socket = connector.connect(target, Version::Http2).await?;
    let handshake = h2::client::Builder::new()
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false)
        .handshake(socket);
    let late = || io::Error::new(io::ErrorKind::TimedOut, "context deadline exceeded");
    let (requests, connection) = timeout(limit, handshake)
        .await
        .map_err(|_| late())?
        .map_err(io::Error::other)?;
    let closed = CancellationToken::new();
    let close = closed.clone();
    tasks.spawn("grpc connection", async move {
        // Calls on it hear of its end themselves.
        let _ended = connection.await;
        close.cancel();
        ended();
    });
    let security = connector.security(target, Version::Http2);
    Ok(Channel {
        requests,
        scheme: match security {
            Security::Plain => "http",
            Security::Tls => "https",
        },
        authority: target.authority.clone(),
        closed,
    })
}

impl Channel {
    /// Resolves when the connection is over.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Waits until a call can begin; an error means that none will any more.
    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        let ready = poll_fn(|cx| self.requests.poll_ready(cx)).await;
        ready.map_err(|reason| Failure::Io(reason.to_string()))
    }

    /// Begins a call.
    pub(crate) fn call(
        &mut self,
        path: &'static str,
        limit: Option<Duration>,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), Failure> {
        let uri = Uri::builder()
            .scheme(self.scheme)
            .authority(self.authority.as_str())
            .path_and_query(path)
            .build()
            .map_err(|reason| Failure::Io(reason.to_string()))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .version(http::Version::HTTP_2)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::TE, "trailers");
        if let Some(limit) = limit {
            request = request.header("grpc-timeout", grpc_timeout(limit));
        }
        let request = request
            .body(())
            .map_err(|reason| Failure::Io(reason.to_string()))?;
        self.requests
            .send_request(request, false)
            .map_err(|reason| Failure::Io(reason.to_string()))
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct CallError {
    pub(crate) failure: Failure,
    /// Whether the destination certainly did nothing with it.
    pub(crate) unprocessed: bool,
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            unprocessed: false,
        }
    }
}

/// Waits for the end of a call: OK, or why not.
pub(crate) async fn outcome(response: ResponseFuture) -> Result<(), CallError> {
    let io = |reason: h2::Error| CallError {
        // A server that goes away names the last call that it took; those after it are as if never made.
        unprocessed: reason.is_remote()
            && (reason.reason() == Some(h2::Reason::REFUSED_STREAM)
                || (reason.is_go_away() && reason.reason() == Some(h2::Reason::NO_ERROR))),
        failure: Failure::Io(reason.to_string()),
    };
    let response = response.await.map_err(io)?;
    let (head, mut body) = response.into_parts();
    if let Some(status) = status(&head.headers) {
        return status.map_err(CallError::from);
    }
    if head.status != http::StatusCode::OK {
        return Err(CallError::from(Failure::Grpc {
            // As gRPC maps HTTP's statuses.
            code: if head.status == http::StatusCode::NOT_FOUND {
                UNIMPLEMENTED
            } else {
                14
            },
            message: format!(
                "unexpected HTTP status code received from server: {}",
                head.status
            ),
        }));
    }
    while let Some(data) = body.data().await {
        let length = data.map_err(io)?.len();
        // An answer is empty; whatever is there may go.
        body.flow_control().release_capacity(length).map_err(io)?;
    }
    let trailers = body.trailers().await.map_err(io)?.unwrap_or_default();
    let status = status(&trailers).unwrap_or_else(|| {
        Err(Failure::Grpc {
            code: 13,
            message: "server closed the stream without sending trailers".to_owned(),
        })
    });
    status.map_err(CallError::from)
}

/// The failure of a call that took too long.
pub(crate) fn too_long() -> Failure {
    Failure::Grpc {
        code: DEADLINE_EXCEEDED,
        message: "context deadline exceeded".to_owned(),
    }
}

fn status(headers: &HeaderMap) -> Option<Result<(), Failure>> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    if code == 0 {
        return Some(Ok(()));
    }
    let message = headers.get("grpc-message").map(HeaderValue::as_bytes);
    Some(Err(Failure::Grpc {
        code,
        message: percent_decode(message.unwrap_or_default()),
    }))
}

fn percent_decode(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.split_at_checked(2).and_then(|(digits, after)| {
            let digits = str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        if let (b'%', Some((decoded_byte, after))) = (byte, hex) {
            decoded.push(decoded_byte);
            rest = after;
        } else {
            decoded.push(*byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Writes a time limit as gRPC has it: at most eight digits and a unit.
fn grpc_timeout(limit: Duration) -> String {
    let units = [
        (limit.as_nanos(), 'n'),
        (limit.as_micros(), 'u'),
        (limit.as_millis(), 'm'),
        (u128::from(limit.as_secs()), 'S'),
    ];
    let fits = units.into_iter().find(|(number, _)| *number < 100_000_000);
    let (number, unit) = fits.unwrap_or((99_999_999, 'S'));
    format!("{number}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_have_eight_digits_at_most() {
        let f = |limit, expected: &str| assert_eq!(grpc_timeout(limit), expected);
        f(Duration::from_nanos(5), "5n");
        f(Duration::from_secs(5), "5000000u");
        f(Duration::from_secs(500), "500000m");
        f(Duration::from_secs(u64::MAX), "99999999S");
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_decode(b"a%20b%zz%"), "a b%zz%");
    }
}
