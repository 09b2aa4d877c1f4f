//! Messages that are to be sent, and the window that keeps queues short.

use dagwright_core::ids::{PoolId, TaskId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Result,
    claim::Offer,
    cursor::{Cursor, Place},
    error::During,
    rows,
    task_rows::signed,
};

/// Pools that have a queue, and something to send as far as an unexpensive look tells: those of `busy`, who published lately, and
/// those that have a message which was never sent, or in vain.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn pools(conn: &mut PgConnection, busy: &[PoolId]) -> Result<Vec<(PoolId, String)>> {
    let busy: Vec<_> = busy.iter().map(|pool| pool.0).collect();
    let found = sqlx::query!(
        r#"SELECT p.pool_id, p.queue_url AS "queue_url!" FROM pools p
           WHERE p.deleted_at IS NULL AND p.queue_url IS NOT NULL AND (p.pool_id = ANY($1)
               -- In the order of the index, so that nothing else than it is read.
               OR EXISTS (SELECT FROM (SELECT FROM outbox o
                   WHERE o.pool_id = p.pool_id AND o.sent_at IS NULL AND o.not_before <= (SELECT clock_timestamp())
                   ORDER BY o.pool_id, o.priority LIMIT 1) unsent)
               OR EXISTS (SELECT FROM (SELECT FROM outbox o
                   WHERE o.pool_id = p.pool_id AND o.sent_at < (SELECT clock_timestamp()) - make_interval(secs => 2 * p.lease_seconds)
                   ORDER BY o.pool_id, o.sent_at LIMIT 1) lost))"#,
        &busy
    )
    .fetch_all(conn)
    .await
    .during("look for pools with messages to send")?;
    Ok(found.into_iter().map(|row| (PoolId(row.pool_id), row.queue_url)).collect())
}

/// The queues of pools; one that is gone or has no queue yet is left out.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn queues(conn: &mut PgConnection, pools: &[PoolId]) -> Result<Vec<(PoolId, String)>> {
    let pools: Vec<_> = pools.iter().map(|pool| pool.0).collect();
    let found = sqlx::query!(
        r#"SELECT pool_id, queue_url AS "queue_url!" FROM pools
           WHERE pool_id = ANY($1) AND deleted_at IS NULL AND queue_url IS NOT NULL"#,
        &pools
    )
    .fetch_all(conn)
    .await
    .during("read the queues of pools")?;
    Ok(found.into_iter().map(|row| (PoolId(row.pool_id), row.queue_url)).collect())
}

/// Makes this transaction the only publisher of a pool, so that two replicas do not both fill its window. It is to hold this lock
/// alone and no row: a claim deletes outbox rows and must not wait for SQS.
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

/// A message to send, and its place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// What it offers.
    pub offer: Offer,
    /// Where it stands.
    pub place: Place,
}

/// Messages that are sent and neither claimed nor lost. One counts as lost when nobody claimed its task within two visibilities;
/// visibility equals the lease.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn outstanding(conn: &mut PgConnection, pool_id: PoolId) -> Result<u64> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM outbox WHERE pool_id = $1 AND sent_at >=
               (SELECT clock_timestamp() - make_interval(secs => 2 * lease_seconds) FROM pools WHERE pool_id = $1)"#,
        pool_id.0
    )
    .fetch_one(conn)
    .await
    .during("count outstanding messages")?;
    Ok(rows::count(count))
}

struct DueRow {
    task_id: Uuid,
    attempt: i32,
    priority: i16,
    not_before: OffsetDateTime,
}

impl From<DueRow> for Due {
    fn from(row: DueRow) -> Self {
        let task_id = TaskId(row.task_id);
        Self {
            offer: Offer { task_id, attempt: rows::small(row.attempt) },
            place: Place { priority: row.priority, not_before: row.not_before, task_id },
        }
    }
}

/// What to send next, by priority, then age, from `from` on: at most `limit` messages that were never sent. What a suspended job has
/// to offer waits.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn due(conn: &mut PgConnection, pool_id: PoolId, from: &Cursor, limit: u64) -> Result<Vec<Due>> {
    let (priorities, times, ids) = from.columns();
    let found = sqlx::query_as!(
        DueRow,
        r#"SELECT o.task_id, o.attempt, o.priority, o.not_before
           FROM UNNEST($2::smallint[], $3::timestamptz[], $4::uuid[]) AS c (priority, not_before, task_id)
           -- A class has its own stretch of the index; none is read further than the limit.
           CROSS JOIN LATERAL (
               SELECT o.task_id, o.attempt, o.priority, o.not_before
               FROM outbox o
               -- Looked up one by one: to weigh a join of all by id, the planner reads the ends of its index, and a queue is worked
               -- off from there, so that it read more dead entries than the statement reads living ones.
               CROSS JOIN LATERAL (
                   SELECT FROM tasks t WHERE t.task_id = o.task_id AND NOT t.cancel_requested
                     AND t.job_id <> ALL (ARRAY(SELECT job_id FROM jobs WHERE suspended)) OFFSET 0) wanted
               WHERE o.pool_id = $1 AND o.sent_at IS NULL AND o.priority = c.priority
                 AND (o.not_before, o.task_id) > (c.not_before, c.task_id) AND o.not_before <= (SELECT clock_timestamp())
               ORDER BY o.not_before, o.task_id LIMIT $5) o
           ORDER BY o.priority, o.not_before, o.task_id LIMIT $5"#,
        pool_id.0,
        &priorities,
        &times,
        &ids,
        rows::height_to_pg(limit)
    )
    .fetch_all(conn)
    .await
    .during("choose messages to send")?;
    Ok(found.into_iter().map(Into::into).collect())
}

/// Messages that were sent in vain, those sent longest ago first.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn lost(conn: &mut PgConnection, pool_id: PoolId, limit: u64) -> Result<Vec<Due>> {
    let found = sqlx::query_as!(
        DueRow,
        "SELECT o.task_id, o.attempt, o.priority, o.not_before
         FROM outbox o CROSS JOIN LATERAL (
             SELECT FROM tasks t WHERE t.task_id = o.task_id AND NOT t.cancel_requested
               AND t.job_id <> ALL (ARRAY(SELECT job_id FROM jobs WHERE suspended)) OFFSET 0) wanted
         WHERE o.pool_id = $1 AND o.not_before <= (SELECT clock_timestamp())
           AND o.sent_at < (SELECT clock_timestamp() - make_interval(secs => 2 * lease_seconds) FROM pools WHERE pool_id = $1)
         ORDER BY o.sent_at LIMIT $2",
        pool_id.0,
        rows::height_to_pg(limit)
    )
    .fetch_all(conn)
    .await
    .during("look for messages that were lost")?;
    Ok(found.into_iter().map(Into::into).collect())
}

/// Notes what SQS took (I6). A row that a claim takes away at this moment is left to it, so that neither waits for the other.
/// Returns how many rows are left of the sent ones.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn mark_sent(conn: &mut PgConnection, sent: &[Offer]) -> Result<u64> {
    let tasks: Vec<_> = sent.iter().map(|o| o.task_id.0).collect();
    let attempts: Vec<_> = sent.iter().map(|o| signed(o.attempt)).collect();
    let marked = sqlx::query!(
        "WITH there AS MATERIALIZED (
             SELECT o.task_id, o.attempt
             FROM (SELECT * FROM UNNEST($1::uuid[], $2::int[]) AS s (task_id, attempt) ORDER BY task_id) s
             CROSS JOIN LATERAL (
                 SELECT o.task_id, o.attempt FROM outbox o WHERE o.task_id = s.task_id AND o.attempt = s.attempt
                 FOR UPDATE OF o SKIP LOCKED) o)
         UPDATE outbox o SET sent_at = clock_timestamp(), sends = sends + 1
         FROM there WHERE o.task_id = there.task_id AND o.attempt = there.attempt",
        &tasks,
        &attempts
    )
    .execute(conn)
    .await
    .during("mark messages as sent")?;
    Ok(marked.rows_affected())
}
