//! Destinations on real sockets: an HTTP server that keeps raw requests, a gRPC server that keeps raw messages, both with
//! the manners that a test wants; and a Consul that answers what it is told to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flate2::read::ZlibDecoder;
use http::{HeaderMap, HeaderValue, Response};
use shared::{lifecycle::Tasks, testing::PATIENCE, tls::server::Server};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    time::sleep,
};
use veneur_proxy::proto::forwardrpc::{SEND_METRICS, SEND_METRICS_V2};

/// How a peer behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Takes everything.
    Takes,
    /// Answers HTTP requests with this status line and headers.
    Answers(String),
    /// Knows no streams.
    NoStreams,
    /// Answers calls with this gRPC status.
    Refuses(u32),
    /// Reads requests and never answers.
    Hangs,
    /// Accepts connections and never reads.
    Deaf,
    /// Closes connections after reading.
    Resets,
    /// Answers, after this time.
    Slow(Duration),
}

/// An HTTP request.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Posted {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut ZlibDecoder::new(&self.body[..]), &mut text).unwrap();
        text
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.iter().filter_map(|line| line.split_once(": "));
        lines
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// A gRPC call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) messages: Vec<Bytes>,
    pub(crate) closed: bool,
}

#[derive(Debug)]
struct State {
    manner: Mutex<Manner>,
    posted: Mutex<Vec<Posted>>,
    calls: Mutex<Vec<Call>>,
}

/// A destination. Gone, with its connections, when dropped or stopped.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) speaks: Speaks,
    state: Arc<State>,
    tasks: Tasks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Grpc,
}

impl Peer {
    pub(crate) async fn http() -> Self {
        Self::bind("127.0.0.1:0".parse().unwrap(), Speaks::Http, Manner::Takes).await
    }

    pub(crate) async fn grpc() -> Self {
        Self::bind("127.0.0.1:0".parse().unwrap(), Speaks::Grpc, Manner::Takes).await
    }

    pub(crate) async fn bind(address: SocketAddr, speaks: Speaks, manner: Manner) -> Self {
        Self::bind_tls(address, speaks, manner, None).await
    }

    /// Speaks TLS if there is something to speak it with.
    pub(crate) async fn bind_tls(
        address: SocketAddr,
        speaks: Speaks,
        manner: Manner,
        tls: Option<Arc<Server>>,
    ) -> Self {
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            manner: Mutex::new(manner),
            posted: Mutex::default(),
            calls: Mutex::default(),
        });
        let tasks = Tasks::new();
        let (shared, connections) = (Arc::clone(&state), tasks.clone());
        let stop = tasks.stop_token();
        tasks.spawn("peer", async move {
            let accepting = async {
                loop {
                    let Ok((stream, _)) = listener.accept().await else {
                        return;
                    };
                    let (shared, stop) = (Arc::clone(&shared), connections.stop_token());
                    let (inner, tls) = (connections.clone(), tls.clone());
                    connections.spawn("peer connection", async move {
                        let serving = async {
                            match tls {
                                None => serve(stream, speaks, &shared, &inner).await,
                                Some(tls) => {
                                    if let Ok(stream) = tls.accept(stream, PATIENCE).await {
                                        serve(stream, speaks, &shared, &inner).await;
                                    }
                                }
                            }
                        };
                        stop.run_until_cancelled(serving).await;
                    });
                }
            };
            stop.run_until_cancelled(accepting).await;
        });
        Self {
            address,
            speaks,
            state,
            tasks,
        }
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.state.posted.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    /// The messages of all calls to a method.
    pub(crate) fn messages(&self, path: &str) -> Vec<Bytes> {
        let calls = self.calls();
        let calls = calls.into_iter().filter(|call| call.path == path);
        calls.flat_map(|call| call.messages).collect()
    }

    /// The metrics of all calls, and of all requests.
    pub(crate) fn metrics(&self) -> usize {
        let lists = self.messages(SEND_METRICS);
        let listed: usize = lists
            .iter()
            .map(|list| veneur_proxy::wire::read_list(list).unwrap().len())
            .sum();
        let posted = self.posted();
        let posted: usize = posted
            .iter()
            .filter_map(|posted| {
                serde_json::from_str::<Vec<serde_json::Value>>(&posted.text()).ok()
            })
            .map(|elements| elements.len())
            .sum();
        listed + posted + self.messages(SEND_METRICS_V2).len()
    }

    pub(crate) async fn stop(&self) {
        self.tasks.stop();
        let _stopped = self.tasks.drain(Duration::from_secs(5)).await;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// The addresses of peers as a list in YAML.
pub(crate) fn addresses(peers: &[&Peer]) -> String {
    let quoted: Vec<String> = peers
        .iter()
        .map(|peer| format!("'{}'", peer.address))
        .collect();
    format!("[{}]", quoted.join(","))
}

/// A Consul with one answer for all.
pub(crate) async fn consul(addresses: &[SocketAddr]) -> Peer {
    let peer = Peer::http().await;
    tell_consul(&peer, addresses);
    peer
}

pub(crate) fn tell_consul(peer: &Peer, addresses: &[SocketAddr]) {
    let entries = addresses.iter().map(|address| {
        let (ip, port) = (address.ip(), address.port());
        format!(r#"{{"Node":{{"Node":"n","Address":"{ip}"}},"Service":{{"ID":"s{port}","Service":"s","Address":"","Port":{port}}},"Checks":[]}}"#)
    });
    let body = format!("[{}]", entries.collect::<Vec<_>>().join(","));
    let length = body.len();
    peer.behave(Manner::Answers(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )));
}

/// What TLS and TCP have in common.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn serve(stream: impl Stream, speaks: Speaks, state: &Arc<State>, tasks: &Tasks) {
    match speaks {
        Speaks::Http => serve_http(stream, state).await,
        Speaks::Grpc => serve_grpc(stream, state, tasks).await,
    }
}

async fn serve_http(mut stream: impl Stream, state: &State) {
    if *state.manner.lock().unwrap() == Manner::Deaf {
        std::future::pending::<()>().await;
    }
    let mut buffer = BytesMut::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break buffer.split_to(end + 4);
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        };
        let head: Vec<String> = String::from_utf8_lossy(&head)
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        let mut posted = Posted {
            head,
            body: Vec::new(),
        };
        let length: usize = posted
            .header("content-length")
            .unwrap_or("0")
            .parse()
            .unwrap();
        while buffer.len() < length {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
        posted.body = buffer.split_to(length).to_vec();
        let manner = state.manner.lock().unwrap().clone();
        let answer = match manner {
            Manner::Answers(answer) => answer,
            Manner::Resets => return,
            Manner::Hangs => std::future::pending().await,
            Manner::Slow(time) => {
                sleep(time).await;
                "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned()
            }
            _ => "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned(),
        };
        state.posted.lock().unwrap().push(posted);
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn serve_grpc(stream: impl Stream, state: &Arc<State>, tasks: &Tasks) {
    if *state.manner.lock().unwrap() == Manner::Deaf {
        std::future::pending::<()>().await;
    }
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        if *state.manner.lock().unwrap() == Manner::Resets {
            return;
        }
        let (state, stop) = (Arc::clone(state), tasks.stop_token());
        tasks.spawn("peer call", async move {
            stop.run_until_cancelled(serve_call(request, respond, &state))
                .await;
        });
    }
}

async fn serve_call(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    state: &State,
) {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let manner = state.manner.lock().unwrap().clone();
    let status = |code: u32| {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(code));
        response
    };
    let refusal = match manner {
        Manner::NoStreams if path == SEND_METRICS_V2 => Some(12),
        Manner::Refuses(code) => Some(code),
        _ => None,
    };
    if let Some(code) = refusal {
        let _sent = respond.send_response(status(code), true).is_ok();
        return;
    }
    let place = {
        let mut calls = state.calls.lock().unwrap();
        calls.push(Call {
            path,
            headers: head.headers,
            messages: Vec::new(),
            closed: false,
        });
        calls.len() - 1
    };
    if manner == Manner::Hangs {
        std::future::pending::<()>().await;
    }
    let mut buffer = BytesMut::new();
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        if let Manner::Slow(time) = manner {
            sleep(time).await;
        }
        let _released = body.flow_control().release_capacity(data.len()).is_ok();
        buffer.extend_from_slice(&data);
        while buffer.len() >= 5 {
            let length = u32::from_be_bytes(buffer[1..5].try_into().unwrap()) as usize;
            if buffer.len() < 5 + length {
                break;
            }
            let message = buffer.split_to(5 + length).freeze().slice(5..);
            state.calls.lock().unwrap()[place].messages.push(message);
        }
    }
    assert!(buffer.is_empty(), "a call ended inside a message");
    state.calls.lock().unwrap()[place].closed = true;
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if let Ok(mut sending) = respond.send_response(response, false) {
        // An empty message, then OK.
        let _sent = sending
            .send_data(Bytes::from_static(&[0; 5]), false)
            .is_ok();
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )]);
        let _ended = sending.send_trailers(trailers).is_ok();
    }
}
