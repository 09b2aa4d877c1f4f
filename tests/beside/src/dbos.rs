//! DBOS Transact: a workflow without steps. Direct: started in the process that runs it, by as many callers as keep the
//! database busy. By queue: enqueued in the database, dequeued and run by the same process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::dbos::{Config, DBOS, Enqueue, QueueConflict, QueueOptions, StartOptions, WorkflowRef};
use anyhow::Context as _;
use futures::future::try_join_all;

use crate::count::Counter;

/// Ten by default; with more than these the rate grows no further on two cores.
const CONNECTIONS: u32 = 32;
/// Workflows in flight at once.
const CALLERS: u64 = 128;
/// Who enqueues, and how many enqueued workflows wait.
const ENQUEUERS: u64 = 32;
const BACKLOG: u64 = 2_000;
const QUEUE: &str = "bench";

async fn launch(url: &str, done: Counter) -> anyhow::Result<(DBOS, WorkflowRef<u64, u64>)> {
    let config =
        Config { max_connections: CONNECTIONS, app_version: Some("1".into()), ..Config::new("bench", url) };
    let dbos = DBOS::new(config);
    let body = move |n: u64| {
        done.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(n))
    };
    let workflow = dbos.register_workflow("noop", body).context("register a workflow with dbos")?;
    dbos.launch().await.context("launch dbos")?;
    Ok((dbos, workflow))
}

/// Started and awaited: the outcome is recorded when the call returns, and counted then.
pub(crate) async fn direct(url: &str, done: &Counter) -> anyhow::Result<()> {
    let (_dbos, workflow) = launch(url, Counter::default()).await?;
    let caller = |n: u64| {
        let workflow = &workflow;
        async move {
            loop {
                workflow.run(n).await.context("run a workflow of dbos")?;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    try_join_all((0..CALLERS).map(caller)).await.map(|_: Vec<()>| ())
}

/// Enqueued ahead of the worker.
pub(crate) async fn queued(url: &str, done: &Counter) -> anyhow::Result<()> {
    let (dbos, workflow) = launch(url, Arc::clone(done)).await?;
    let options = QueueOptions {
        worker_concurrency: Some(256),
        polling_interval: Duration::from_millis(10),
        ..QueueOptions::default()
    };
    dbos.register_queue(QUEUE, options, QueueConflict::AlwaysUpdate).await.context("register a queue")?;
    let enqueued = AtomicU64::new(0);
    let caller = |_| {
        let (enqueued, workflow) = (&enqueued, &workflow);
        async move {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            loop {
                let n = enqueued.load(Ordering::Relaxed);
                if n.saturating_sub(done.load(Ordering::Relaxed)) > BACKLOG {
                    tick.tick().await;
                    continue;
                }
                enqueued.fetch_add(1, Ordering::Relaxed);
                let options = StartOptions { queue: Some(Enqueue::new(QUEUE)), ..StartOptions::default() };
                workflow.start_with(n, options).await.context("enqueue a workflow of dbos")?;
            }
        }
    };
    try_join_all((0..ENQUEUERS).map(caller)).await.map(|_: Vec<()>| ())
}
