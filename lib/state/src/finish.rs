//! Attempts that end without a commit: failed, released, expired, dead-lettered, cancelled; and tasks that are redriven. What each
//! costs is counted here (I7), and each leaves a way on (I9).

use std::collections::{HashMap, HashSet};

use dagwright_core::{
    ids::{JobId, PoolId, TaskId},
    task::{Event, Fence, TaskState},
};
use sqlx::PgConnection;
use time::Duration;

use crate::{
    Result,
    claim::Offer,
    error::During,
    task_rows::{Cause, Change, Jitter, Locked, apply, decide, locked, locked_tasks, signed},
};

/// What became of one row of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Applied, now or by an earlier delivery of the same call.
    Accepted,
    /// The lease is not the current one: nothing changed.
    StaleLease,
}

/// One failed attempt.
#[derive(Clone, Debug)]
pub struct FailedAttempt {
    /// The lease.
    pub fence: Fence,
    /// Whether another attempt can help.
    pub retryable: bool,
    /// Why.
    pub cause: Cause,
}

/// Ends attempts that failed, each fenced on its own.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn fail(
    conn: &mut PgConnection,
    pool_id: PoolId,
    failures: &[FailedAttempt],
    jitter: Jitter<'_>,
) -> Result<Vec<(TaskId, Verdict)>> {
    let events = failures.iter().map(|f| (f.fence, Event::Fail { retryable: f.retryable }, f.cause.clone()));
    finish(conn, pool_id, events.collect(), "Errored", jitter).await
}

/// Hands leases back, each fenced on its own.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn release(
    conn: &mut PgConnection,
    pool_id: PoolId,
    leases: &[Fence],
    jitter: Jitter<'_>,
) -> Result<Vec<(TaskId, Verdict)>> {
    let events = leases.iter().map(|fence| (*fence, Event::Release, Cause::default()));
    finish(conn, pool_id, events.collect(), "Released", jitter).await
}

async fn finish(
    conn: &mut PgConnection,
    pool_id: PoolId,
    events: Vec<(Fence, Event, Cause)>,
    ended_as: &str,
    jitter: Jitter<'_>,
) -> Result<Vec<(TaskId, Verdict)>> {
    let fences: Vec<_> = events.iter().map(|(fence, ..)| *fence).collect();
    let rows = lock_leases(conn, pool_id, &fences).await?;
    let mut held: HashMap<Fence, Locked> =
        rows.into_iter().filter_map(|row| Some((row.fence()?, row))).collect();
    let gone: Vec<_> = fences.iter().copied().filter(|fence| !held.contains_key(fence)).collect();
    let mut accepted = ended_before(conn, &gone, ended_as).await?;
    let mut changes = Vec::new();
    for (fence, event, cause) in events {
        if let Some(change) = held.remove(&fence).and_then(|row| decide(&row, event, cause, jitter)) {
            accepted.insert(fence);
            changes.push(change);
        }
    }
    apply(conn, &changes).await?;
    let verdict = |f: &Fence| if accepted.contains(f) { Verdict::Accepted } else { Verdict::StaleLease };
    Ok(fences.iter().map(|fence| (fence.task_id, verdict(fence))).collect())
}

/// Locks the rows whose current lease is among `fences`.
pub(crate) async fn lock_leases(
    conn: &mut PgConnection,
    pool_id: PoolId,
    fences: &[Fence],
) -> Result<Vec<Locked>> {
    let tasks: Vec<_> = fences.iter().map(|f| f.task_id.0).collect();
    let attempts: Vec<_> = fences.iter().map(|f| f.attempt_id.0).collect();
    let tokens: Vec<_> = fences.iter().map(|f| f.lease_token.0).collect();
    let rows = locked_tasks!(
        in
        "SELECT t.* FROM (SELECT DISTINCT * FROM UNNEST($2::uuid[], $3::uuid[], $4::uuid[]) AS f (task_id, attempt_id, lease_token) ORDER BY 1) f
           CROSS JOIN LATERAL (",
        // By id, as offers are looked up in a claim.
        "t.task_id = f.task_id AND t.attempt_id = f.attempt_id AND t.lease_token = f.lease_token AND t.pool_id = $1
           AND t.state || '' = 'Running'
         FOR UPDATE OF t",
        ") t",
        pool_id.0,
        &tasks,
        &attempts,
        &tokens
    )
    .fetch_all(conn)
    .await
    .during("lock leases")?;
    locked(rows)
}

/// The fences whose attempts ended in this way before: the same call, delivered again.
async fn ended_before(conn: &mut PgConnection, fences: &[Fence], state: &str) -> Result<HashSet<Fence>> {
    if fences.is_empty() {
        return Ok(HashSet::new());
    }
    let tasks: Vec<_> = fences.iter().map(|f| f.task_id.0).collect();
    let found = sqlx::query!(
        "SELECT task_id, attempt_id FROM attempts WHERE task_id = ANY($1) AND state = $2",
        &tasks,
        state
    )
    .fetch_all(conn)
    .await
    .during("look for an earlier delivery")?;
    let ended: HashSet<_> = found.into_iter().map(|row| (row.task_id, row.attempt_id)).collect();
    Ok(fences.iter().copied().filter(|f| ended.contains(&(f.task_id.0, f.attempt_id.0))).collect())
}

/// Ends attempts whose lease is over, at most `limit`, or of these only what ended lately: leases that are done with leave dead entries
/// at the beginning of their index, as in a queue (see [`crate::cursor`]). Returns how many.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn expire(
    conn: &mut PgConnection,
    lately: Option<Duration>,
    limit: u32,
    jitter: Jitter<'_>,
) -> Result<usize> {
    let rows = locked_tasks!(
        "t.state = 'Running' AND t.lease_expires_at <= (SELECT clock_timestamp())
         AND t.lease_expires_at > (SELECT COALESCE(clock_timestamp() - make_interval(secs => $2), '-infinity'))
         ORDER BY t.lease_expires_at LIMIT $1 FOR UPDATE OF t SKIP LOCKED",
        i64::from(limit),
        lately.map(Duration::as_seconds_f64)
    )
    .fetch_all(&mut *conn)
    .await
    .during("look for leases that are over")?;
    let cause = Cause::new(
        "LeaseExpired",
        "the worker stopped sending heartbeats, or the attempt exceeded its timeout",
    );
    let rows = locked(rows)?;
    let changes: Vec<_> =
        rows.iter().filter_map(|row| decide(row, Event::Expire, cause.clone(), jitter)).collect();
    apply(conn, &changes).await?;
    Ok(changes.len())
}

/// Ends tasks that nobody wants any more: what the controller marked, and what belongs to removed jobs. Returns how many.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn cancel_unwanted(conn: &mut PgConnection, limit: u32, jitter: Jitter<'_>) -> Result<usize> {
    let rows = locked_tasks!(
        "t.task_id IN (
             SELECT marked.task_id FROM (
                 SELECT task_id FROM tasks WHERE cancel_requested ORDER BY task_id LIMIT $1) marked
             UNION ALL SELECT left_over.task_id FROM (
                 SELECT of_job.task_id FROM jobs removed CROSS JOIN LATERAL (
                     SELECT task_id FROM tasks WHERE job_id = removed.job_id ORDER BY job_id, state LIMIT $1) of_job
                 WHERE removed.removed_at IS NOT NULL LIMIT $1) left_over)
         ORDER BY t.task_id FOR UPDATE OF t SKIP LOCKED",
        i64::from(limit)
    )
    .fetch_all(&mut *conn)
    .await
    .during("look for tasks to cancel")?;
    let rows = revive_failed(conn, locked(rows)?, jitter).await?;
    let cause = Cause::new("Canceled", "the job was removed or its task is not wanted any more");
    let changes: Vec<_> =
        rows.iter().filter_map(|row| decide(row, Event::Cancel, cause.clone(), jitter)).collect();
    apply(conn, &changes).await?;
    Ok(changes.len())
}

/// Only a redrive leads out of Failed, so a failed task that is not wanted takes that way to Canceled: its claim on the range
/// must not outlive its job.
async fn revive_failed(
    conn: &mut PgConnection,
    rows: Vec<Locked>,
    jitter: Jitter<'_>,
) -> Result<Vec<Locked>> {
    let (failed, mut rows): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.task.state == TaskState::Failed);
    let revived: Vec<_> =
        failed.iter().filter_map(|row| decide(row, Event::Redrive, Cause::default(), jitter)).collect();
    apply(conn, &revived).await?;
    rows.extend(revived.into_iter().map(|c| Locked { task: c.to.task, lease: None, ..c.row }));
    Ok(rows)
}

/// Cancels leased tasks: their ranges were committed by another job meanwhile.
pub(crate) async fn supersede(conn: &mut PgConnection, rows: &[Locked], jitter: Jitter<'_>) -> Result<()> {
    let cause = Cause::new(
        "AlreadyCommitted",
        "another job that declares the same computation committed this range first",
    );
    let changes: Vec<Change> =
        rows.iter().filter_map(|row| decide(row, Event::Cancel, cause.clone(), jitter)).collect();
    apply(conn, &changes).await
}

/// Ends the attempt whose message reached a dead-letter queue. False when that attempt is over already.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn dead_letter(
    conn: &mut PgConnection,
    pool_id: PoolId,
    offer: Offer,
    jitter: Jitter<'_>,
) -> Result<bool> {
    let rows = locked_tasks!(
        "t.task_id = $1 AND t.attempt = $2 AND t.pool_id = $3 FOR UPDATE OF t",
        offer.task_id.0,
        signed(offer.attempt),
        pool_id.0
    )
    .fetch_all(&mut *conn)
    .await
    .during("lock the task of a dead letter")?;
    let cause = Cause::new(
        "DeadLetter",
        "its message was received too often without being finished: a worker dies of it, or no worker can reach the dispatcher",
    );
    let rows = locked(rows)?;
    let changes: Vec<_> =
        rows.iter().filter_map(|row| decide(row, Event::DeadLetter, cause.clone(), jitter)).collect();
    apply(conn, &changes).await?;
    Ok(!changes.is_empty())
}

/// Gives the failed tasks of a job another round of attempts, those that failed before the job's last edit: who edited the
/// spec, or suspended and resumed it, has looked at them. Returns how many.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn redrive_edited(conn: &mut PgConnection, job_id: JobId, jitter: Jitter<'_>) -> Result<usize> {
    let rows = locked_tasks!(
        "t.job_id = $1 AND t.state = 'Failed' AND t.failed_generation < j.generation
         ORDER BY t.task_id FOR UPDATE OF t SKIP LOCKED",
        job_id.0
    )
    .fetch_all(&mut *conn)
    .await
    .during("lock tasks that failed before an edit")?;
    redrive_rows(conn, &locked(rows)?, jitter).await
}

/// Gives the failed tasks of a job another round of attempts, at most `limit`. Returns how many.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn redrive(
    conn: &mut PgConnection,
    job_id: JobId,
    limit: u32,
    jitter: Jitter<'_>,
) -> Result<usize> {
    let rows = locked_tasks!(
        "t.job_id = $1 AND t.state = 'Failed' ORDER BY t.task_id LIMIT $2 FOR UPDATE OF t SKIP LOCKED",
        job_id.0,
        i64::from(limit)
    )
    .fetch_all(&mut *conn)
    .await
    .during("lock failed tasks")?;
    redrive_rows(conn, &locked(rows)?, jitter).await
}

async fn redrive_rows(conn: &mut PgConnection, rows: &[Locked], jitter: Jitter<'_>) -> Result<usize> {
    let decided = rows.iter().filter_map(|row| decide(row, Event::Redrive, Cause::default(), jitter));
    let changes: Vec<_> = decided.collect();
    apply(conn, &changes).await?;
    Ok(changes.len())
}
