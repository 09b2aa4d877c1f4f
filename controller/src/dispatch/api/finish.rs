use axum::{Json, extract::State};
use dagwright_contracts::tasks::{FailRequest, Failure, Outcome, OutcomeResponse, ReleaseRequest, Verdict};
use dagwright_core::ids::TaskId;
use dagwright_state::{
    Cause,
    finish::{self, FailedAttempt},
};
use dagwright_telemetry::Rejection;

use super::{
    auth::{Pool, fence, own_tasks},
    reject::{self, Body},
};
use crate::dispatch::{Dispatcher, context::jitter};

/// What is kept of a worker's message: enough for a person, bounded for the row.
const MAX_MESSAGE: usize = 2000;

pub(super) async fn fail(
    State(dispatcher): State<Dispatcher>,
    pool: Pool,
    Body(request): Body<FailRequest>,
) -> Result<Json<OutcomeResponse>, Rejection> {
    let failures: Vec<_> = request.failures.into_iter().map(failed).collect();
    let tasks: Vec<_> = failures.iter().map(|f| f.fence.task_id).collect();
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    own_tasks(&mut tx, &pool, &tasks).await?;
    let verdicts =
        finish::fail(&mut tx, pool.0.pool_id, &failures, &mut jitter).await.map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    metrics::counter!("dagwright_tasks_failed_total").increment(failures.len() as u64);
    Ok(Json(outcomes(verdicts)))
}

pub(super) async fn release(
    State(dispatcher): State<Dispatcher>,
    pool: Pool,
    Body(request): Body<ReleaseRequest>,
) -> Result<Json<OutcomeResponse>, Rejection> {
    let leases: Vec<_> = request.leases.iter().map(fence).collect();
    let tasks: Vec<_> = leases.iter().map(|f| f.task_id).collect();
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    own_tasks(&mut tx, &pool, &tasks).await?;
    let verdicts =
        finish::release(&mut tx, pool.0.pool_id, &leases, &mut jitter).await.map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    metrics::counter!("dagwright_tasks_released_total").increment(leases.len() as u64);
    Ok(Json(outcomes(verdicts)))
}

fn failed(failure: Failure) -> FailedAttempt {
    // A provider's words may be in it, and Postgres refuses text with a NUL: one answer must not block all reports.
    let message = failure.message.chars().filter(|c| *c != '\0').take(MAX_MESSAGE).collect();
    let cause = Cause { reason: Some(failure.reason), message: Some(message), provider: failure.provider };
    FailedAttempt { fence: fence(&failure.fence), retryable: failure.retryable, cause }
}

fn outcomes(verdicts: Vec<(TaskId, finish::Verdict)>) -> OutcomeResponse {
    OutcomeResponse { outcomes: verdicts.into_iter().map(|(task, verdict)| outcome(task, verdict)).collect() }
}

fn outcome(task_id: TaskId, verdict: finish::Verdict) -> Outcome {
    match verdict {
        finish::Verdict::Accepted => Outcome { task_id, verdict: Verdict::Accepted, detail: String::new() },
        finish::Verdict::StaleLease => stale(task_id),
    }
}

pub(super) fn stale(task_id: TaskId) -> Outcome {
    Outcome { task_id, verdict: Verdict::StaleLease, detail: "the lease is not the current one".into() }
}
