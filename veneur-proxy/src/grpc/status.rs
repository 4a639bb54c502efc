//! How a call ends, and the answer that says so.

use std::{
    borrow::Cow,
    convert::Infallible,
    fmt::Write as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame};
use tokio::sync::mpsc;

/// The content type of answers.
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// The numbers that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Ok = 0,
    Canceled = 1,
    NotFound = 5,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: Code,
    pub(super) message: Cow<'static, str>,
}

impl Status {
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn write(&self, headers: &mut HeaderMap) {
        headers.insert("grpc-status", HeaderValue::from(self.code as u16));
        if self.message.is_empty() {
            return;
        }
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(&self.message)) {
            headers.insert("grpc-message", message);
        }
    }

    /// Answers with nothing but this.
    pub(super) fn into_response(self) -> Response<Reply> {
        let mut response = Response::new(Reply::Nothing);
        response.headers_mut().insert("content-type", CONTENT_TYPE);
        self.write(response.headers_mut());
        response
    }
}

/// Text in the form that a header can have.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | ..=0x1f | 0x7f.. => write!(out, "%{byte:02X}").expect("a string takes all"),
            byte => out.push(char::from(byte)),
        }
    }
    out
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Reply {
    /// What there is to say stands in the head.
    Nothing,
    /// One message, then OK.
    Message(Bytes),
    /// OK.
    Trailers,
    /// Messages as they come, until the sender is gone; then OK.
    Messages(mpsc::Receiver<Bytes>),
}

impl Reply {
    /// Answers with one message and OK. The message is framed here.
    pub(super) fn one(message: &[u8]) -> Response<Self> {
        Self::response(Self::Message(framed(message)))
    }

    /// Answers with messages, framed with [`framed`], as they come.
    pub(super) fn many(messages: mpsc::Receiver<Bytes>) -> Response<Self> {
        Self::response(Self::Messages(messages))
    }

    fn response(body: Self) -> Response<Self> {
        let mut response = Response::new(body);
        response.headers_mut().insert("content-type", CONTENT_TYPE);
        response
    }
}

/// Puts flag and length before a message.
pub(super) fn framed(message: &[u8]) -> Bytes {
    if message.is_empty() {
        return Bytes::from_static(&[0; 5]);
    }
    let mut framed = Vec::with_capacity(5 + message.len());
    framed.push(0);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed.into()
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut *self {
            Self::Nothing => return Poll::Ready(None),
            Self::Message(message) => {
                let message = std::mem::take(message);
                *self = Self::Trailers;
                Frame::data(message)
            }
            Self::Messages(messages) => match messages.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(message)) => Frame::data(message),
                Poll::Ready(None) => {
                    *self = Self::Nothing;
                    Frame::trailers(ok())
                }
            },
            Self::Trailers => {
                *self = Self::Nothing;
                Frame::trailers(ok())
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    Status::new(Code::Ok, "").write(&mut trailers);
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stands_in_the_head() {
        let status = Status::new(Code::Unimplemented, "no \"x\" 100%\n");
        let response = status.into_response();
        assert_eq!(response.headers()["grpc-status"], "12");
        assert_eq!(response.headers()["grpc-message"], "no \"x\" 100%25%0A");
        assert!(response.body().is_end_stream());
    }
}
