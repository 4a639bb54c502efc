//! One request to a gateway and its answer: connection, time limit, redirects on the same host.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use shared::config::secret::Secret;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, split},
    time::timeout,
};

use super::{
    Gateway,
    connect::{Connection, Means, open},
    http1::{Answer, AnswerError, RequestHead, read_answer},
    proxy_env::Proxies,
    reason::{Failure, system_text},
    url::Target,
};
use crate::counters::RetryReason;

/// As many requests as Go makes before it calls it a loop.
const MAX_REQUESTS: usize = 10;
/// Smaller bodies leave together with their head.
const TOGETHER: usize = 16 * 1024;
/// How long an answer may take once the body could not be sent.
const AFTER_BROKEN_WRITE: Duration = Duration::from_secs(2);
/// How much of a compressed answer is shown.
const MAX_SHOWN: u64 = 64 * 1024;

/// What a gateway answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    /// The body as it is shown.
    pub(crate) text: String,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer that is no redirect.
    Replied(Reply),
    /// A redirect to where neither key nor lines may go. The text says where.
    SentAway(String),
    /// No answer; the text is complete as it is logged.
    Failed(Failure),
}

/// What all requests need.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) means: &'a Means,
    pub(crate) proxies: &'a Proxies,
    pub(crate) key: &'a str,
    pub(crate) limit: Duration,
}

/// Posts `body` to `path` of a gateway.
pub(crate) async fn post(
    gateway: &Gateway,
    path: &str,
    body: &Bytes,
    terms: &Terms<'_>,
) -> Outcome {
    let target = &gateway.target;
    let first = target.path(path);
    let posted = |text: String| format!("Post {:?}: {text}", target.shown(&first));
    if !is_header_value(terms.key) {
        let text = "net/http: invalid header field value for \"X-Polymur-Key\"".to_owned();
        return Outcome::Failed(Failure::new(RetryReason::Protocol, posted(text)));
    }
    match timeout(terms.limit, follow(gateway, &first, body, terms)).await {
        Err(_) => {
            let failure = Failure::timeout();
            Outcome::Failed(Failure::new(failure.reason, posted(failure.text)))
        }
        Ok(Err(Broken::Whole(failure))) => Outcome::Failed(failure),
        Ok(Err(Broken::Post(failure))) => {
            Outcome::Failed(Failure::new(failure.reason, posted(failure.text)))
        }
        Ok(Ok(outcome)) => outcome,
    }
}

/// A failure, and whether `Post "URL": ` goes before its text.
enum Broken {
    Post(Failure),
    Whole(Failure),
}

async fn follow(
    gateway: &Gateway,
    first: &str,
    body: &Bytes,
    terms: &Terms<'_>,
) -> Result<Outcome, Broken> {
    let mut path = first.to_owned();
    let mut referer: Option<String> = None;
    for _ in 0..MAX_REQUESTS {
        let answer = once(gateway, &path, referer.as_deref(), body, terms).await?;
        let moved = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
        let Some(location) = answer.location.as_deref().filter(|_| moved) else {
            return Ok(Outcome::Replied(reply(answer)));
        };
        match resolve(&gateway.target, &path, location) {
            Some(next) => referer = Some(gateway.target.url(&std::mem::replace(&mut path, next))),
            None => return Ok(Outcome::SentAway(location.to_owned())),
        }
    }
    let text = format!("Post {path:?}: stopped after {MAX_REQUESTS} redirects");
    Err(Broken::Whole(Failure::new(RetryReason::Protocol, text)))
}

/// One request on a kept or a new connection.
async fn once(
    gateway: &Gateway,
    path: &str,
    referer: Option<&str>,
    body: &Bytes,
    terms: &Terms<'_>,
) -> Result<Answer, Broken> {
    let target = &gateway.target;
    let proxy = terms.proxies.on_the_way_to(target);
    let plain_proxy = proxy.filter(|_| !target.https);
    let request_target = match plain_proxy {
        Some(_) => target.url(path),
        None => path.to_owned(),
    };
    let head = RequestHead {
        target: &request_target,
        host: &target.authority,
        content_length: body.len(),
        authorization: target.authorization.as_ref().map(Secret::reveal),
        proxy_authorization: plain_proxy
            .and_then(|proxy| proxy.authorization.as_ref())
            .map(Secret::reveal),
        referer,
        key: terms.key.trim_matches([' ', '\t']),
    };
    let mut connection = match gateway.idle.take(terms.means.generation) {
        Some(connection) => connection,
        None => open(target, proxy, terms.means)
            .await
            .map_err(Broken::Post)?,
    };
    let (answer, whole) = exchange(&mut connection, &head.write(), body).await?;
    if answer.keep_alive && whole {
        gateway.idle.put(connection);
    }
    Ok(answer)
}

/// Sends a request while waiting for its answer, which may come before the request has left. The flag says whether all of
/// it has.
async fn exchange(
    connection: &mut Connection,
    head: &str,
    body: &Bytes,
) -> Result<(Answer, bool), Broken> {
    let ends = &connection.ends;
    let (mut reader, mut writer) = split(&mut connection.wire);
    let sending = send(&mut writer, head, body);
    let receiving = read_answer(&mut reader);
    tokio::pin!(sending, receiving);
    let written = tokio::select! {
        written = &mut sending => written,
        received = &mut receiving => {
            return received.map(|answer| (answer, false)).map_err(|reason| unread(ends, reason));
        }
    };
    match written {
        Ok(()) => receiving
            .await
            .map(|answer| (answer, true))
            .map_err(|reason| unread(ends, reason)),
        Err(reason) => match timeout(AFTER_BROKEN_WRITE, receiving).await {
            Ok(Ok(answer)) => Ok((answer, false)),
            _ => Err(Broken::Post(Failure::new(
                RetryReason::Closed,
                format!("write tcp {ends}: write: {}", system_text(&reason)),
            ))),
        },
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), head: &str, body: &Bytes) -> io::Result<()> {
    if body.len() <= TOGETHER {
        writer.write_all(&[head.as_bytes(), body].concat()).await?;
    } else {
        writer.write_all(head.as_bytes()).await?;
        writer.write_all(body).await?;
    }
    writer.flush().await
}

fn unread(ends: &str, reason: AnswerError) -> Broken {
    let kind = match reason {
        AnswerError::Malformed(_) => RetryReason::Protocol,
        _ => RetryReason::Closed,
    };
    match reason {
        // Go reads the body after the request is done, and names no URL then.
        AnswerError::BodyCut => Broken::Whole(Failure::new(kind, "unexpected EOF")),
        AnswerError::Broken(reason) => Broken::Post(Failure::broken_read(ends, &reason)),
        other => Broken::Post(Failure::new(kind, other.to_string())),
    }
}

fn reply(answer: Answer) -> Reply {
    let mut text = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.gzip {
        let mut decoded = Vec::new();
        let mut decoder = MultiGzDecoder::new(&answer.body[..]).take(MAX_SHOWN);
        if decoder.read_to_end(&mut decoded).is_ok() {
            text = String::from_utf8_lossy(&decoded).into_owned();
        }
    }
    Reply {
        status: answer.status,
        retry_after: answer.retry_after,
        text,
    }
}

/// The path that a redirect leads to, if it stays with the gateway: same scheme, host and port.
fn resolve(target: &Target, path: &str, location: &str) -> Option<String> {
    if let Some(rest) = location.strip_prefix("//") {
        return resolve(target, path, &format!("{}://{rest}", target.scheme()));
    }
    if location.starts_with('/') {
        return Some(location.to_owned());
    }
    if location.contains("://") {
        let next = Target::parse(location, "").ok()?;
        let same = next.https == target.https
            && next.host.eq_ignore_ascii_case(&target.host)
            && next.port == target.port;
        return same.then(|| next.path(""));
    }
    let folder = path
        .split('?')
        .next()
        .and_then(|path| path.rsplit_once('/'));
    let folder = folder.map_or("", |(folder, _)| folder);
    Some(format!("{folder}/{location}"))
}

/// What Go lets through in a header.
pub(crate) fn is_header_value(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_followed_only_to_the_same_place() {
        let target = Target::parse("https://h:8443/p", "").unwrap();
        let f = |location: &str, next: Option<&str>| {
            assert_eq!(
                resolve(&target, "/p/ingest?x=1", location).as_deref(),
                next,
                "{location}"
            );
        };
        f("/other", Some("/other"));
        f("other", Some("/p/other"));
        f("https://H:8443/q?z", Some("/q?z"));
        f("//h:8443/q", Some("/q"));
        f("https://h/q", None);
        f("http://h:8443/q", None);
        f("https://elsewhere:8443/q", None);
        f("//elsewhere/q", None);
        f("ftp://h:8443/q", None);
    }
}
