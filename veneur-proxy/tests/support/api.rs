//! A Kubernetes API server over HTTPS, which answers what the test says to those who have the right token.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use shared::{
    lifecycle::Tasks,
    testing::{
        PATIENCE,
        pki::{Authority, named},
    },
    tls::server::{Server, Settings},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::mpsc,
};

use super::outbound::{Outbound, try_start};

/// What follows a request.
pub(crate) enum Reply {
    /// A status and an object.
    Said(u16, Value),
    /// Events as they come, until there is no sender any more.
    Watched(mpsc::Receiver<Value>),
}

/// An API server, and the folder of a service account that it knows.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) heads: Arc<Mutex<Vec<Vec<String>>>>,
    tasks: Tasks,
}

impl Api {
    /// Answers with what `reply` makes of the target of a request, if its token is right.
    pub(crate) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let authority = Authority::new("cluster");
        let identity = authority.issue(&named(&["127.0.0.1"])).identity();
        let tls = Arc::new(Server::new(Settings::new(identity, &[])).unwrap());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        fs::write(folder.path().join("token"), "TOKEN123\n").unwrap();
        fs::write(folder.path().join("namespace"), "monitoring\n").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, tasks) = (Arc::<Mutex<Vec<Vec<String>>>>::default(), Tasks::new());
        let (seen, group, stop) = (Arc::clone(&heads), tasks.clone(), tasks.stop_token());
        let reply = Arc::new(reply);
        tasks.spawn("api", async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (tls, seen, reply) = (Arc::clone(&tls), Arc::clone(&seen), Arc::clone(&reply));
                let stop = group.stop_token();
                group.spawn("api connection", async move {
                    let serving = async {
                        let Ok(stream) = tls.accept(stream, PATIENCE).await else {
                            return;
                        };
                        let mut stream = BufReader::new(stream);
                        while let Some(head) = read_head(&mut stream).await {
                            let target = head[0].split(' ').nth(1).unwrap().to_owned();
                            let known = head
                                .iter()
                                .any(|line| line == "authorization: Bearer TOKEN123");
                            seen.lock().unwrap().push(head);
                            let reply = if known {
                                reply(&target)
                            } else {
                                Reply::Said(401, json!({"message": "Unauthorized"}))
                            };
                            if write(&mut stream, reply).await.is_err() {
                                return;
                            }
                        }
                    };
                    stop.run_until_cancelled(serving).await;
                });
            }
        });
        Self {
            address,
            folder,
            heads,
            tasks,
        }
    }

    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("KUBERNETES_SERVICE_HOST", self.address.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT", self.address.port().to_string()),
        ]
    }

    /// A configuration that looks for a service here.
    pub(crate) fn file(&self, key: &str, more: &str) -> String {
        let interval = if key == "forward_service" {
            "discovery_interval"
        } else {
            "consul_refresh_interval"
        };
        let folder = self.folder.path().display();
        format!("{key}: ignored\n{interval}: 100ms\nkubernetes_service_account: {folder}\n{more}")
    }

    pub(crate) async fn outbound(&self, key: &str, more: &str) -> Outbound {
        let file = self.file(key, more);
        try_start(&file, &self.variables(), None).await.unwrap()
    }

    /// The first lines of the requests so far, each once.
    pub(crate) fn lines(&self) -> BTreeSet<String> {
        let heads = self.heads.lock().unwrap();
        heads.iter().map(|head| head[0].clone()).collect()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn read_head<S: tokio::io::AsyncRead + Unpin>(
    stream: &mut BufReader<S>,
) -> Option<Vec<String>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            return Some(head);
        }
        head.push(line);
    }
}

async fn write<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    reply: Reply,
) -> std::io::Result<()> {
    let head = |status: u16, kind: &str| {
        format!("HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n{kind}\r\n\r\n")
    };
    match reply {
        Reply::Said(status, body) => {
            let body = body.to_string();
            let head = head(status, &format!("Content-Length: {}", body.len()));
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
            stream.flush().await
        }
        Reply::Watched(mut events) => {
            let head = head(200, "Transfer-Encoding: chunked");
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await?;
            while let Some(event) = events.recv().await {
                let line = format!("{event}\n");
                let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                stream.write_all(chunk.as_bytes()).await?;
                stream.flush().await?;
            }
            stream.write_all(b"0\r\n\r\n").await?;
            stream.flush().await
        }
    }
}
