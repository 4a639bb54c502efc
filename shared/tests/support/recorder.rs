//! Servers that keep what they are asked and answer as the test says, and a proxy.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, http::Response};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use shared::{
    http::{
        Limits,
        client::{Client, ClientError, Settings},
        serve, serve_tls,
    },
    lifecycle::Tasks,
    testing::PATIENCE,
    tls::server::Server,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The method and the target as it was written.
    pub(crate) line: String,
    pub(crate) version: http::Version,
    pub(crate) peer: SocketAddr,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }
}

/// What a server answers: a status, headers, a body.
pub(crate) type Answer = (u16, Vec<(&'static str, String)>, String);

pub(crate) fn ok(body: &str) -> Answer {
    (200, Vec::new(), body.to_owned())
}

/// A server.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    pub(crate) tasks: Tasks,
}

impl Recorder {
    /// Listens on loopback; `answer` gets the number of the request, from 0, and the request.
    pub(crate) async fn start(
        tls: Option<Arc<Server>>,
        answer: impl Fn(usize, &Asked) -> Answer + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let handler = async move |request: Request<Body>| {
            let (head, body) = request.into_parts();
            let peer = head
                .extensions
                .get::<axum::extract::ConnectInfo<SocketAddr>>();
            let peer = peer.unwrap().0;
            let body = body.collect().await.unwrap().to_bytes();
            let request = Asked {
                line: format!("{} {}", head.method, head.uri),
                version: head.version,
                peer,
                headers: head.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            };
            let number = {
                let mut kept = kept.lock().unwrap();
                kept.push(request.clone());
                kept.len() - 1
            };
            let (status, headers, body) = answer(number, &request);
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        };
        let router = Router::new().fallback(handler);
        let tasks = Tasks::new();
        let limits = Limits {
            connections: 64,
            request_head: PATIENCE,
            stall: PATIENCE,
            drain: PATIENCE,
        };
        match tls {
            None => serve(&tasks, listener, router, limits),
            Some(tls) => serve_tls(&tasks, listener, tls, router, limits),
        }
        Self {
            address,
            asked,
            tasks,
        }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// A proxy that knows `CONNECT` only, and refuses with a line of status if it is given one. Keeps the heads.
pub(crate) async fn tunnelling_proxy(
    tasks: &Tasks,
    refusal: Option<&'static str>,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&heads);
    let group = tasks.clone();
    tasks.spawn("proxy", async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            group.spawn("tunnel", async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let place = head.split(' ').nth(1).unwrap().to_owned();
                kept.lock().unwrap().push(head);
                if let Some(refusal) = refusal {
                    client.write_all(refusal.as_bytes()).await.unwrap();
                    return;
                }
                let mut server = TcpStream::connect(place).await.unwrap();
                client
                    .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    .await
                    .unwrap();
                let _over = copy_bidirectional(&mut client, &mut server).await.is_ok();
            });
        }
    });
    (address, heads)
}

pub(crate) fn client(settings: Settings) -> Client {
    Client::new(settings).unwrap()
}

/// Posts a query and returns the status and the body.
pub(crate) async fn post(client: &Client, url: &str) -> Result<(u16, String), ClientError> {
    let request = Request::post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::from_static(b"query=up"))
        .unwrap();
    let response = client.send(request, Some(PATIENCE)).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}
