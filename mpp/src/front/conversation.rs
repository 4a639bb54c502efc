//! One connection of a client: TLS where the web configuration has it, then requests, in HTTP/1.1 or HTTP/2.

use std::{convert::Infallible, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::{
    http::{
        pace::{Answer, Answers, Paced, STALL},
        web_config,
    },
    lifecycle::Tasks,
    tls::Stream,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::io::InspectReader;
use tracing::debug;

use super::{
    BUFFER, Front, HEAD,
    lengths::{Lengths, Watch},
};
use crate::proxy::{Client, body::ResponseBody, refusal};

/// Requests that one HTTP/2 connection may have under way.
const STREAMS: u32 = 128;

/// One connection of a client.
pub(super) struct Connection {
    pub(super) front: Arc<Front>,
    /// The worker thread that it lives on.
    pub(super) worker: usize,
    pub(super) peer: SocketAddr,
    pub(super) listening: Tasks,
}

impl Connection {
    /// Serves the client until it leaves, or until the listener closes and what it asked is answered.
    pub(super) async fn serve(self, stream: TcpStream) {
        let stop = self.listening.stop_token();
        let _fast = stream.set_nodelay(true).is_ok();
        // A client that says nothing costs a descriptor and this small task; buffers come with its first byte.
        // Peeked at, because a stream may be called readable when it is not.
        let mut byte = [0];
        let first_byte = timeout(HEAD, stream.peek(&mut byte));
        if !matches!(stop.run_until_cancelled(first_byte).await, Some(Ok(Ok(1)))) {
            return;
        }
        let web = self.front.web.as_ref();
        let Some(acceptor) = web.and_then(|web| web.acceptor()) else {
            return self.speaking(Stream::Plain(stream)).await;
        };
        let handshake = Box::pin(acceptor.accept(stream, HEAD));
        match stop.run_until_cancelled(handshake).await {
            Some(Ok(stream)) => self.speaking(stream.into()).await,
            Some(Err(reason)) => debug!("no TLS with {}: {reason}", self.peer),
            None => {}
        }
    }

    /// Puts what speaks HTTP on the heap: it is large, and would be most of an idle connection's memory. Not done in place, as
    /// the compiler would keep room for it there.
    fn speaking(self, stream: Stream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if stream.has_chosen(b"h2") {
            Box::pin(self.speak_http2(stream))
        } else {
            Box::pin(self.speak_http1(stream))
        }
    }

    async fn speak_http1(self, stream: Stream) {
        let is_tls = matches!(stream, Stream::Tls(_));
        let lengths = Arc::<Lengths>::default();
        let mut watch = Watch::new(Arc::clone(&lengths));
        let stream = InspectReader::new(Paced::new(stream, STALL), move |bytes| watch.look(bytes));
        let conversation = self.conversation(is_tls, lengths);
        let service = service_fn(|request| Arc::clone(&conversation).answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        self.finish(connection, http1::UpgradeableConnection::graceful_shutdown)
            .await;
    }

    /// Its frames say lengths once, so that nothing needs to be watched.
    async fn speak_http2(self, stream: Stream) {
        let conversation = self.conversation(true, Arc::default());
        let service = service_fn(move |request| {
            let answer = Arc::clone(&conversation).answer(request);
            async move { Ok::<_, Infallible>(answer.await?.map(Answer::new)) }
        });
        let connection = http2::Builder::new(Answers::new(STALL))
            .timer(TokioTimer::new())
            .keep_alive_interval(HEAD)
            .keep_alive_timeout(HEAD)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(BUFFER as u32)
            .serve_connection(TokioIo::new(Paced::new(stream, STALL)), service);
        self.finish(connection, http2::Connection::graceful_shutdown)
            .await;
    }

    fn conversation(&self, is_tls: bool, lengths: Arc<Lengths>) -> Arc<Conversation> {
        let peer = self.peer.ip().to_canonical();
        Arc::new(Conversation {
            front: Arc::clone(&self.front),
            client: Client::new(peer, is_tls, self.worker),
            lengths,
        })
    }

    /// Drives the connection to its end; `shut_down` has it take no more requests.
    async fn finish<C>(&self, connection: C, shut_down: impl FnOnce(Pin<&mut C>))
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let stop = self.listening.stop_token();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                shut_down(connection.as_mut());
                connection.await
            }
        };
        if let Err(reason) = ended {
            debug!("connection of {} ended early: {reason}", self.peer);
        }
    }
}

/// What the requests of a connection share.
struct Conversation {
    front: Arc<Front>,
    client: Client,
    lengths: Arc<Lengths>,
}

impl Conversation {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        if self.lengths.conflict() {
            let reason = "both Content-Length and Transfer-Encoding";
            return Ok(refusal::bad_request(&reason));
        }
        let response = match &self.front.web {
            None => self.front.answer(&self.client, request).await,
            Some(web) => {
                let admission = web.admit(request.headers()).await;
                let mut response = if admission.is_granted() {
                    self.front.answer(&self.client, request).await
                } else {
                    web_config::unauthorized()
                        .map(|text| ResponseBody::Whole(Bytes::from_static(text.as_bytes())))
                };
                admission.complete(response.headers_mut());
                response
            }
        };
        self.lengths.next();
        Ok(response)
    }
}
