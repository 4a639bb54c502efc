//! A Consul as the demo needs it: it has one answer for every service.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use parking_lot::RwLock;

use axum::{Json, Router, extract::State, routing::get};
use serde_json::{Value, json};
use shared::{
    http::{Limits, serve},
    lifecycle::Tasks,
};
use tokio::net::TcpListener;

/// A Consul on loopback. Gone when dropped.
#[derive(Debug)]
pub(super) struct Consul {
    pub(super) address: SocketAddr,
    members: Members,
    tasks: Tasks,
}

type Members = Arc<RwLock<Vec<SocketAddr>>>;

impl Consul {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (tasks, members) = (Tasks::new(), Members::default());
        let router = Router::new()
            .route("/v1/health/service/{service}", get(healthy))
            .with_state(Arc::clone(&members));
        serve(&tasks, listener, router, Limits::ADMIN);
        Ok(Self {
            address,
            members,
            tasks,
        })
    }

    /// Lists these from now on.
    pub(super) fn list<'a>(&self, labels: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
        let members: Vec<SocketAddr> = labels.map(str::parse).collect::<Result<_, _>>()?;
        *self.members.write() = members;
        Ok(())
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn healthy(State(members): State<Members>) -> Json<Vec<Value>> {
    let members = members.read();
    let entries = members.iter().map(|member| {
        json!({
            "Node": {"Node": "loopback", "Address": member.ip()},
            "Service": {"ID": member, "Service": "veneur-global", "Address": "", "Port": member.port()},
            "Checks": [],
        })
    });
    Json(entries.collect())
}
