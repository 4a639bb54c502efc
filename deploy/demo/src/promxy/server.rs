//! A server that answers queries as Prometheus does, over series in memory.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Form, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use promql::{
    CancelToken, Engine, EngineOptions, Query, QueryError, parser::ParserOptions,
    storage::SeriesData, testing::MemoryStorage, value::Value,
};
use promxy::{api::write_json, servergroup::decode::Annotations};
use shared::{
    http::{self, Limits},
    lifecycle::Tasks,
};
use tokio::net::TcpListener;

/// How long an answer under way may take when the server is killed.
const END: Duration = Duration::from_secs(1);

/// The server.
pub(crate) struct Server {
    address: SocketAddr,
    tasks: Option<Tasks>,
    answered: Arc<AtomicU64>,
}

/// Series, and what evaluates queries over them.
#[derive(Clone)]
pub(crate) struct Store {
    engine: Engine,
    storage: MemoryStorage,
}

#[derive(Clone)]
struct Shelf {
    store: Arc<Store>,
    answered: Arc<AtomicU64>,
}

impl Store {
    /// Returns a store of series.
    pub(crate) fn new(series: Vec<SeriesData>) -> Self {
        Self {
            engine: Engine::new(EngineOptions::new(ParserOptions::v3_5())),
            storage: MemoryStorage::of_series(series),
        }
    }

    /// Evaluates what the parameters of `/api/v1/query` or `/api/v1/query_range` say.
    pub(crate) async fn answer(
        &self,
        endpoint: &str,
        parameters: &HashMap<String, String>,
    ) -> anyhow::Result<Value> {
        let text = parameters.get("query").context("no query")?;
        let millis = |name: &str| -> anyhow::Result<i64> {
            let seconds: f64 = parameters.get(name).context("no time")?.parse()?;
            Ok((seconds * 1000.0).round() as i64)
        };
        let query: Result<Query, QueryError> = if endpoint == "query" {
            self.engine.instant_query(text, millis("time")?)
        } else {
            let (start, end, step) = (millis("start")?, millis("end")?, millis("step")?);
            self.engine.range_query(text, start, end, step)
        };
        let outcome = query?.run(&self.storage, &CancelToken::default()).await;
        Ok(outcome.value?)
    }
}

impl Server {
    /// Serves a store on a free port.
    pub(crate) async fn start(store: Store) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let answered = Arc::<AtomicU64>::default();
        let shelf = Shelf {
            store: Arc::new(store),
            answered: Arc::clone(&answered),
        };
        let router = Router::new()
            .route("/api/v1/{endpoint}", post(answer))
            .with_state(shelf);
        let tasks = Tasks::new();
        http::serve(
            &tasks,
            listener,
            router,
            Limits {
                drain: END,
                ..Limits::ADMIN
            },
        );
        Ok(Self {
            address,
            tasks: Some(tasks),
            answered,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many queries were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    /// Closes the listener and every connection, as the end of a process does.
    pub(crate) async fn kill(&mut self) {
        if let Some(tasks) = self.tasks.take() {
            tasks.stop();
            let _closed = tasks.drain(END).await;
        }
    }
}

async fn answer(
    State(shelf): State<Shelf>,
    Path(endpoint): Path<String>,
    Form(parameters): Form<HashMap<String, String>>,
) -> Response {
    let annotations = Annotations::default();
    match shelf.store.answer(&endpoint, &parameters).await {
        Ok(value) => {
            shelf.answered.fetch_add(1, Relaxed);
            write_json::success(&write_json::value(&value), &annotations).into_response()
        }
        Err(reason) => {
            let text = write_json::error("bad_data", &reason.to_string(), &annotations);
            (StatusCode::BAD_REQUEST, text).into_response()
        }
    }
}
