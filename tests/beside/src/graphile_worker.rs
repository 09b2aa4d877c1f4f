//! graphile_worker: a job with next to no payload, with the settings of the crate's own throughput benchmark
//! (`benches/perf_test.rs`): a local queue of 5,000, 500 at once, completions in batches.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ::graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
    WorkerUtils,
};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::count::Counter;

/// Jobs that wait; more than the local queue holds.
const BACKLOG: u64 = 20_000;
/// Jobs that are added in one call.
const BATCH: u64 = 1_000;

#[derive(Clone, Debug)]
struct Done(Counter);

#[derive(Deserialize, Serialize)]
struct Noop {
    id: u64,
}

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, ctx: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(done) = ctx.get_ext::<Done>() {
            done.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), String>(())
    }
}

/// Jobs are added ahead of the worker.
pub(crate) async fn run(url: &str, done: &Counter) -> anyhow::Result<()> {
    let worker = WorkerOptions::default()
        .database_url(url)
        .max_pg_conn(32)
        .concurrency(500)
        .poll_interval(Duration::from_millis(5))
        .complete_job_batch_delay(Duration::from_millis(5))
        .local_queue(LocalQueueConfig::default().with_size(5_000))
        .add_extension(Done(Arc::clone(done)))
        .define_job::<Noop>()
        .init()
        .await
        .context("start graphile_worker")?;
    let utils = worker.create_utils();
    tokio::select! {
        ended = worker.run() => ended.context("graphile_worker ended"),
        fed = feed(&utils, done) => fed,
    }
}

async fn feed(utils: &WorkerUtils, done: &Counter) -> anyhow::Result<()> {
    let mut added = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        if added - done.load(Ordering::Relaxed).min(added) > BACKLOG - BATCH {
            tick.tick().await;
            continue;
        }
        let job = |id| RawJobSpec {
            identifier: Noop::IDENTIFIER.to_owned(),
            payload: serde_json::json!({"id": id}),
            spec: JobSpec::default(),
        };
        let jobs: Vec<_> = (added..added + BATCH).map(job).collect();
        utils.add_raw_jobs(&jobs).await.context("add jobs to graphile_worker")?;
        added += BATCH;
    }
}
