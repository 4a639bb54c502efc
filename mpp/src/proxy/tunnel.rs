//! Requests that leave HTTP: websockets. Once a server has agreed, bytes pass both ways until either side ends.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, HOST, UPGRADE},
};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, client::conn::http1, upgrade::on};
use hyper_util::rt::TokioIo;
use tokio::{
    io::copy_bidirectional,
    time::{Duration, timeout},
};
use tracing::debug;

use super::{
    Client, Proxy, attempt,
    attempt::Broken,
    body::{Attempt, RequestBody, ResponseBody},
    headers, refusal,
};
use crate::backend::{Backend, Failure};

/// How long a server may take to agree or not.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// The longest refusal of a server that is passed on.
const LONGEST_REFUSAL: usize = 1 << 20;

/// Answers a request to leave HTTP.
pub(super) async fn serve(
    proxy: &Proxy,
    client: &Client,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let client_side = on(&mut request);
    let (mut parts, _no_body) = request.into_parts();
    let protocol = parts.headers.get(UPGRADE).cloned();
    // Unlike other requests these keep the client's host: browsers compare it with the origin.
    let host = parts.headers.get(HOST).cloned();
    proxy.rewrite(&mut parts, client, "ws");
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(protocol) = protocol {
        parts.headers.insert(UPGRADE, protocol);
    }
    let mut failed = Vec::new();
    let mut last = None;
    while failed.len() <= proxy.attempts.retries {
        let Some(choice) = proxy.choose(&parts.headers, client.peer, &failed) else {
            break;
        };
        let backend = choice.backend;
        let mut message = Request::new(RequestBody::Whole(Bytes::new()));
        message.method_mut().clone_from(&parts.method);
        message.uri_mut().clone_from(&parts.uri);
        message.headers_mut().clone_from(&parts.headers);
        let host = host.clone().unwrap_or_else(|| backend.host_value.clone());
        message.headers_mut().insert(HOST, host);
        let started = Attempt::start(&backend);
        match shake_hands(proxy, &backend, message).await {
            Ok(mut response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                backend.succeeded();
                let server_side = on(&mut response);
                proxy.tasks.spawn("tunnel", async move {
                    let _started = started;
                    pass(client_side, server_side, &backend).await;
                });
                return response.map(|_| ResponseBody::EMPTY);
            }
            Ok(response) => return refused(response, &backend).await,
            Err(broken) => {
                proxy.note(&backend, &broken);
                backend.retried(broken.why);
                proxy.selector.nudge();
                last = Some((Arc::clone(&backend), broken));
                failed.push(backend);
            }
        }
    }
    match last {
        None => refusal::nobody(),
        Some((backend, broken)) => {
            let mut response = refusal::failed(broken.why, &broken.text);
            headers::served_by(response.headers_mut(), &backend);
            response
        }
    }
}

async fn shake_hands(
    proxy: &Proxy,
    backend: &Backend,
    message: Request<RequestBody>,
) -> Result<Response<Incoming>, Broken> {
    let stream = attempt::dial(proxy, backend).await?;
    let reset = |reason: hyper::Error| Broken::new(Failure::Reset, reason.to_string());
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(reset)?;
    let stop = proxy.tasks.stop_token();
    proxy.tasks.spawn("tunnel handshake", async move {
        // Ends once the stream has been handed over, or with the connection.
        let _ended = stop.run_until_cancelled(driver.with_upgrades()).await;
    });
    match timeout(HANDSHAKE, sender.send_request(message)).await {
        Ok(answer) => answer.map_err(reset),
        Err(_) => Err(Broken::new(
            Failure::Hang,
            format!("no answer within {HANDSHAKE:?}"),
        )),
    }
}

/// Passes bytes both ways.
async fn pass(
    client_side: hyper::upgrade::OnUpgrade,
    server_side: hyper::upgrade::OnUpgrade,
    backend: &Backend,
) {
    match futures_util::future::try_join(client_side, server_side).await {
        Ok((client, server)) => {
            let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
            let ended = copy_bidirectional(&mut client, &mut server).await;
            debug!("tunnel to {} ended: {ended:?}", backend.endpoint);
        }
        Err(reason) => debug!("no tunnel to {}: {reason}", backend.endpoint),
    }
}

/// Passes on what a server says instead of agreeing.
async fn refused(response: Response<Incoming>, backend: &Backend) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    headers::served_by(&mut parts.headers, backend);
    match timeout(HANDSHAKE, Limited::new(body, LONGEST_REFUSAL).collect()).await {
        Ok(Ok(body)) => {
            parts.headers.remove(http::header::CONTENT_LENGTH);
            Response::from_parts(parts, ResponseBody::Whole(body.to_bytes()))
        }
        _ => refusal::failed(Failure::Cut, "its answer broke off"),
    }
}
