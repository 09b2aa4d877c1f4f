//! Messages that are to be sent, and the window that keeps queues short.

use dagwright_core::ids::PoolId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Result, claim::Offer, error::During, rows, task_rows::signed};

/// Pools that have a queue and something to send: due, not suspended, never sent or sent in vain.
///
/// A message counts as lost when nobody claimed its task within two visibilities; visibility equals the lease.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn pools(conn: &mut PgConnection) -> Result<Vec<(PoolId, String)>> {
    let found = sqlx::query!(
        r#"SELECT p.pool_id, p.queue_url AS "queue_url!" FROM pools p
           WHERE p.deleted_at IS NULL AND p.queue_url IS NOT NULL AND EXISTS (
               SELECT FROM outbox o WHERE o.pool_id = p.pool_id AND o.not_before <= clock_timestamp()
                 AND (o.sent_at IS NULL OR o.sent_at < clock_timestamp() - make_interval(secs => 2 * p.lease_seconds)))"#
    )
    .fetch_all(conn)
    .await
    .during("look for pools with messages to send")?;
    Ok(found.into_iter().map(|row| (PoolId(row.pool_id), row.queue_url)).collect())
}

/// Makes this transaction the only publisher of a pool, so that two replicas do not both fill its window. No row stays locked
/// while messages are sent: a claim deletes outbox rows and must not wait for SQS.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn try_lock(conn: &mut PgConnection, pool_id: PoolId) -> Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_xact_lock(hashtextextended('outbox ' || $1, 0)) AS "locked!""#,
        pool_id.to_string()
    )
    .fetch_one(conn)
    .await
    .during("take a pool's publishing lock")
}

/// What to send now, by priority, then age: at most what is left of the window of `window` messages outstanding.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn due(conn: &mut PgConnection, pool_id: PoolId, window: u64) -> Result<Vec<Offer>> {
    let found = sqlx::query!(
        r#"WITH lost AS (SELECT clock_timestamp() - make_interval(secs => 2 * lease_seconds) AS before FROM pools WHERE pool_id = $1),
           outstanding AS (SELECT count(*) AS n FROM outbox WHERE pool_id = $1 AND sent_at >= (SELECT before FROM lost))
           SELECT o.task_id, o.attempt FROM outbox o JOIN tasks t ON t.task_id = o.task_id JOIN jobs j ON j.job_id = t.job_id
           WHERE o.pool_id = $1 AND o.not_before <= clock_timestamp() AND (o.sent_at IS NULL OR o.sent_at < (SELECT before FROM lost))
             AND NOT t.cancel_requested AND NOT j.suspended
           ORDER BY o.priority, o.not_before, o.task_id
           LIMIT GREATEST(0, $2 - (SELECT n FROM outstanding))"#,
        pool_id.0,
        rows::height_to_pg(window)
    )
    .fetch_all(conn)
    .await
    .during("choose messages to send")?;
    let offer = |task_id: Uuid, attempt| Offer { task_id: task_id.into(), attempt: rows::small(attempt) };
    Ok(found.into_iter().map(|row| offer(row.task_id, row.attempt)).collect())
}

/// Notes what SQS took. A row that a claim deleted meanwhile stays deleted. Returns how many rows are left of the sent ones.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn mark_sent(conn: &mut PgConnection, sent: &[Offer]) -> Result<u64> {
    let tasks: Vec<_> = sent.iter().map(|o| o.task_id.0).collect();
    let attempts: Vec<_> = sent.iter().map(|o| signed(o.attempt)).collect();
    let marked = sqlx::query!(
        "UPDATE outbox o SET sent_at = clock_timestamp(), sends = sends + 1
         FROM UNNEST($1::uuid[], $2::int[]) AS s (task_id, attempt) WHERE o.task_id = s.task_id AND o.attempt = s.attempt",
        &tasks,
        &attempts
    )
    .execute(conn)
    .await
    .during("mark messages as sent")?;
    Ok(marked.rows_affected())
}
