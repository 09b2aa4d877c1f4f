use std::time::{Duration, Instant};

use axum::{Json, extract::State};
use dagwright_contracts::tasks::{ClaimRequest, ClaimResponse, Fence, Offer, Output, TaskLease, Work};
use dagwright_core::objects::attempt_prefix;
use dagwright_state::claim::{self, Lease};
use dagwright_telemetry::Rejection;

use super::{
    auth::{Pool, own_tasks},
    reject::{self, Body},
};
use crate::dispatch::{
    Dispatcher,
    wake::{Wake, wait},
};

/// Longest wait of a claim.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// A waiter looks for itself this often: retries fall due without a notification, and notifications get lost.
const LOOK: Duration = Duration::from_secs(2);
/// Tasks that one call takes at most.
const MAX_FURTHER: u32 = 100;

pub(super) async fn claim(
    State(dispatcher): State<Dispatcher>,
    pool: Pool,
    Body(request): Body<ClaimRequest>,
) -> Result<Json<ClaimResponse>, Rejection> {
    let began = Instant::now();
    let patience = Duration::from_millis(request.wait_ms).min(MAX_WAIT);
    let mut wakes = dispatcher.wakes.subscribe();
    loop {
        let answer = take(&dispatcher, &pool, &request).await?;
        let left = patience.saturating_sub(began.elapsed());
        // Offers are answered at once: their messages are to be deleted or left alone.
        if !answer.leases.is_empty()
            || !request.offered.is_empty()
            || left.is_zero()
            || dispatcher.stop.is_cancelled()
        {
            metrics::counter!("dagwright_tasks_claimed_total").increment(answer.leases.len() as u64);
            return Ok(Json(answer));
        }
        let pool_id = pool.0.pool_id;
        tokio::select! {
            () = dispatcher.stop.cancelled() => {}
            () = wait(&mut wakes, left.min(LOOK), |wake| wake == Wake::Tasks(pool_id)) => {}
        }
    }
}

async fn take(
    dispatcher: &Dispatcher,
    pool: &Pool,
    request: &ClaimRequest,
) -> Result<ClaimResponse, Rejection> {
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    let tasks: Vec<_> = request.offered.iter().map(|o| o.task_id).collect();
    own_tasks(&mut tx, pool, &tasks).await?;
    let offers: Vec<_> =
        request.offered.iter().map(|o| claim::Offer { task_id: o.task_id, attempt: o.attempt }).collect();
    let further = request.max_further.min(MAX_FURTHER);
    let claimed = claim::claim(&mut tx, pool.0.pool_id, request.worker_id, &offers, further)
        .await
        .map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    let wire = |o: claim::Offer| Offer { task_id: o.task_id, attempt: o.attempt };
    Ok(ClaimResponse {
        leases: claimed.leases.into_iter().map(|l| lease(&dispatcher.args.data_bucket, l)).collect(),
        stale: claimed.stale.into_iter().map(wire).collect(),
        not_now: claimed.not_now.into_iter().map(wire).collect(),
    })
}

fn lease(bucket: &str, lease: Lease) -> TaskLease {
    let (fence, range) = (lease.fence, lease.range);
    let unit = if lease.owner_kind == "ChainSync" { "stream" } else { "job" };
    let subject =
        format!("{} {}/{} {unit} {}", lease.owner_kind, lease.namespace, lease.owner_name, lease.job);
    let output = |(name, version)| Output {
        prefix: attempt_prefix(&lease.namespace, version, range, fence.attempt_id),
        bucket: bucket.to_owned(),
        name,
        version,
    };
    let outputs = lease.outputs.into_iter().map(output).collect();
    TaskLease {
        fence: Fence { task_id: fence.task_id, attempt_id: fence.attempt_id, lease_token: fence.lease_token },
        attempt: lease.attempt,
        expires_at: lease.expires_at,
        lease_seconds: lease.lease_seconds,
        timeout_seconds: lease.timeout_seconds,
        work: Work {
            subject,
            operator: lease.operator,
            semantics: lease.semantics,
            config: lease.config,
            range,
            outputs,
            avoid_providers: lease.avoid_providers,
            namespace: lease.namespace,
        },
    }
}
