//! A gRPC client that sends the bytes that a test says.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: u32,
    pub(crate) text: String,
    pub(crate) body: Bytes,
}

/// What a call that is taken ends with: OK and an empty message.
pub(crate) fn ok() -> Outcome {
    Outcome {
        code: 0,
        text: String::new(),
        body: vec![0; 5].into(),
    }
}

/// Puts flag and length before a message.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// Calls a method with framed messages.
pub(crate) async fn call(address: SocketAddr, path: &str, body: Vec<u8>) -> Outcome {
    call_with(address, path, &[], body).await
}

pub(crate) async fn call_with(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Outcome {
    let stream = TcpStream::connect(address).await.unwrap();
    call_on(stream, path, headers, body).await
}

pub(crate) async fn call_on<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Outcome {
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let mut request = Request::post(format!("http://proxy{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let outcome = async {
        let (response, mut sending) = client
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        let mut body = Bytes::from(body);
        // The window opens as the server reads; a call that is refused early stops reading.
        while !body.is_empty() {
            sending.reserve_capacity(body.len());
            match std::future::poll_fn(|context| sending.poll_capacity(context)).await {
                Some(Ok(room)) => {
                    let piece = body.split_to(room.min(body.len()));
                    if sending.send_data(piece, false).is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
        let _ended = sending.send_data(Bytes::new(), true).is_ok();
        let response = response.await.unwrap();
        let header = |headers: &http::HeaderMap, name: &str| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let mut found = (
            header(response.headers(), "grpc-status"),
            header(response.headers(), "grpc-message"),
        );
        let mut stream = response.into_body();
        let mut whole = BytesMut::new();
        while let Some(Ok(data)) = stream.data().await {
            let _released = stream.flow_control().release_capacity(data.len()).is_ok();
            whole.extend_from_slice(&data);
        }
        if let Ok(Some(trailers)) = stream.trailers().await {
            found = (
                header(&trailers, "grpc-status"),
                header(&trailers, "grpc-message"),
            );
        }
        Outcome {
            code: found.0.expect("a call ends with a status").parse().unwrap(),
            text: found.1.unwrap_or_default(),
            body: whole.freeze(),
        }
    };
    tokio::select! {
        outcome = outcome => outcome,
        ended = connection => panic!("the connection ended before the call: {ended:?}"),
    }
}
