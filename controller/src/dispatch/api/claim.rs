use std::time::{Duration, Instant};

use axum::{Json, extract::State};
use dagwright_contracts::tasks::{ClaimRequest, ClaimResponse, Fence, Offer, Output, TaskLease, Work};
use dagwright_core::{
    ids::{PoolId, WorkerId},
    objects::attempt_prefix,
};
use dagwright_state::{
    claim::{self, Claimed, Lease},
    cursor::Cursor,
};
use dagwright_telemetry::Rejection;
use sqlx::PgConnection;

use super::{
    auth::{Pool, own_tasks},
    lanes::Place,
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
/// The shortest pause between two looks of a waiter that nobody woke.
const SOON: Duration = Duration::from_millis(50);
/// Between looks from the beginning of a queue while there is enough to take without, and between glances back while these are dear.
const FULL_LOOK: Duration = Duration::from_secs(1);
/// Tasks that one call takes at most.
const MAX_FURTHER: u32 = 100;

pub(super) async fn claim(
    State(dispatcher): State<Dispatcher>,
    pool: Pool,
    mut place: Place,
    Body(request): Body<ClaimRequest>,
) -> Result<Json<ClaimResponse>, Rejection> {
    let began = Instant::now();
    let patience = Duration::from_millis(request.wait_ms).min(MAX_WAIT);
    let mut wakes = dispatcher.wakes.subscribe();
    let mut turn = None;
    loop {
        // What was announced until now is seen by this look.
        wakes = wakes.resubscribe();
        let answer = take(&dispatcher, &pool, &request).await?;
        let left = patience.saturating_sub(began.elapsed());
        // Offers are answered at once: their messages are to be deleted or left alone. Who wants nothing further has nothing to wait for.
        if !answer.leases.is_empty()
            || !request.offered.is_empty()
            || request.max_further == 0
            || left.is_zero()
            || dispatcher.stop.is_cancelled()
        {
            metrics::counter!("dagwright_tasks_claimed_total").increment(answer.leases.len() as u64);
            return Ok(Json(answer));
        }
        let pool_id = pool.0.pool_id;
        // Never at once again, and sooner than a look from the beginning that is dear: what falls due is found without one.
        let look = dispatcher.hints.claims(pool_id).due_in(Instant::now(), LOOK).min(LOOK);
        // However many claims of a pool wait, one looks: it waits for news, and the others for its turn. Who gets the turn looks at once,
        // because there may be more than the one before could take.
        let news = async {
            if turn.is_some() {
                wait(&mut wakes, left.min(look.max(SOON)), |wake| wake == Wake::Tasks(pool_id)).await;
            } else {
                let scout = dispatcher.hints.scout(pool_id);
                turn = tokio::time::timeout(left, scout.lock_owned()).await.ok();
            }
        };
        let woken = async {
            tokio::select! {
                () = dispatcher.stop.cancelled() => {}
                () = news => {}
            }
        };
        place.outside(woken).await;
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
    let claimed = look(dispatcher, &mut tx, pool.0.pool_id, request.worker_id, &offers, further)
        .await
        .map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    if !claimed.leases.is_empty() {
        dispatcher.hints.claimed(pool.0.pool_id, claimed.leases.len() as u64);
        dispatcher.wakes.tell(Wake::Room(pool.0.pool_id));
    }
    let wire = |o: claim::Offer| Offer { task_id: o.task_id, attempt: o.attempt };
    Ok(ClaimResponse {
        leases: claimed.leases.into_iter().map(|l| lease(&dispatcher.args.data_bucket, l)).collect(),
        stale: claimed.stale.into_iter().map(wire).collect(),
        not_now: claimed.not_now.into_iter().map(wire).collect(),
    })
}

/// Claims, going on where the last claim of further tasks ended, or a little before. The beginning of the queue is looked at once in a
/// while, and whenever too little is found without.
async fn look(
    dispatcher: &Dispatcher,
    conn: &mut PgConnection,
    pool: PoolId,
    worker: WorkerId,
    offers: &[claim::Offer],
    further: u32,
) -> dagwright_state::Result<Claimed> {
    let hint = dispatcher.hints.claims(pool);
    let mut claimed = Claimed::default();
    let anew = further > 0 && hint.due_in(Instant::now(), FULL_LOOK).is_zero();
    if !anew {
        let glance = hint.glance(Instant::now(), FULL_LOOK).filter(|_| further > 0);
        let from = glance.unwrap_or(hint.cursor());
        claimed = claim::claim(conn, pool, worker, offers, further, &from).await?;
        dispatcher.hints.note_claims(pool, |hint| {
            hint.went_on(&claimed.further);
            if glance.is_some() {
                hint.glanced(Instant::now());
            }
        });
    }
    let left = further.saturating_sub(u32::try_from(claimed.further.len()).unwrap_or(further));
    if !anew && (left == 0 || !hint.due_in(Instant::now(), Duration::ZERO).is_zero()) {
        return Ok(claimed);
    }
    let began = Instant::now();
    let offers = if anew { offers } else { &[] };
    let found = claim::claim(conn, pool, worker, offers, left, &Cursor::START).await?;
    let full = found.further.len() == left as usize;
    dispatcher
        .hints
        .note_claims(pool, |hint| hint.began_anew(&found.further, full, Instant::now(), began.elapsed()));
    claimed.leases.extend(found.leases);
    claimed.stale.extend(found.stale);
    claimed.not_now.extend(found.not_now);
    Ok(claimed)
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
