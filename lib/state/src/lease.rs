//! Leases that live: renewals, the fence itself (I3), and what a lease may write.

use std::collections::{HashMap, HashSet};

use dagwright_core::{
    ids::{PoolId, TaskId, VersionId},
    range::BlockRange,
    task::Fence,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Result, error::During, rows};

/// A heartbeat of one lease.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// The lease.
    pub fence: Fence,
    /// Blocks done so far.
    pub blocks_done: u64,
}

/// Leases that were renewed, with their new end, and those that are lost or cancelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Until when, and how long that is from now, in seconds: the pool's lease may be another than when the task was claimed.
    pub extended: Vec<(TaskId, OffsetDateTime, u32)>,
    /// Stop working on these.
    pub lost: Vec<TaskId>,
}

/// Extends leases, each fenced on its own. An attempt that is past its timeout is not extended: a worker that cannot stop it
/// loses it.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn renew(conn: &mut PgConnection, pool_id: PoolId, beats: &[Beat]) -> Result<Renewed> {
    let tasks: Vec<_> = beats.iter().map(|b| b.fence.task_id.0).collect();
    let attempts: Vec<_> = beats.iter().map(|b| b.fence.attempt_id.0).collect();
    let tokens: Vec<_> = beats.iter().map(|b| b.fence.lease_token.0).collect();
    let done: Vec<_> = beats.iter().map(|b| rows::height_to_pg(b.blocks_done)).collect();
    let renewed = sqlx::query!(
        r#"WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
           held AS MATERIALIZED (
               SELECT t.task_id, b.done
               FROM (SELECT * FROM UNNEST($2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[]) AS b (task_id, attempt_id, lease_token, done)
                     ORDER BY task_id) b
               -- By id, as offers are looked up in a claim.
               CROSS JOIN LATERAL (
                   SELECT t.task_id FROM tasks t JOIN jobs j ON j.job_id = t.job_id
                   WHERE t.task_id = b.task_id AND t.attempt_id = b.attempt_id AND t.lease_token = b.lease_token AND t.pool_id = $1
                     AND t.state || '' = 'Running' AND NOT t.cancel_requested
                     AND (SELECT now FROM clock) < t.started_at + make_interval(secs => j.timeout_seconds)
                   FOR UPDATE OF t) t)
           UPDATE tasks t
           SET lease_expires_at = clock.now + make_interval(secs => p.lease_seconds),
               progress_at = CASE WHEN held.done > t.blocks_done THEN clock.now ELSE t.progress_at END,
               blocks_done = GREATEST(t.blocks_done, held.done)
           FROM held, pools p, clock
           WHERE t.task_id = held.task_id AND p.pool_id = t.pool_id
           RETURNING t.task_id, t.lease_expires_at AS "expires_at!", p.lease_seconds"#,
        pool_id.0,
        &tasks,
        &attempts,
        &tokens,
        &done,
    )
    .fetch_all(conn)
    .await
    .during("renew leases")?;
    let extended: Vec<_> = renewed
        .into_iter()
        .map(|row| (TaskId(row.task_id), row.expires_at, rows::small(row.lease_seconds)))
        .collect();
    let alive: HashSet<_> = extended.iter().map(|(task, ..)| *task).collect();
    let lost = beats.iter().map(|b| b.fence.task_id).filter(|t| !alive.contains(t)).collect();
    Ok(Renewed { extended, lost })
}

/// A task among `tasks` that belongs to another pool, if there is one: a caller that names it oversteps its token.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn foreign_task(
    conn: &mut PgConnection,
    pool_id: PoolId,
    tasks: &[TaskId],
) -> Result<Option<TaskId>> {
    let ids: Vec<_> = tasks.iter().map(|t| t.0).collect();
    let alive = sqlx::query!("SELECT task_id, pool_id FROM tasks WHERE task_id = ANY($1)", &ids)
        .fetch_all(&mut *conn)
        .await
        .during("look for tasks of other pools")?;
    if let Some(foreign) = alive.iter().find(|row| row.pool_id != pool_id.0) {
        return Ok(Some(TaskId(foreign.task_id)));
    }
    let alive: HashSet<_> = alive.iter().map(|row| row.task_id).collect();
    let over: Vec<_> = ids.into_iter().filter(|id| !alive.contains(id)).collect();
    if over.is_empty() {
        return Ok(None);
    }
    let found = sqlx::query_scalar!(
        "SELECT task_id FROM task_history WHERE task_id = ANY($2) AND pool_id <> $1 LIMIT 1",
        pool_id.0,
        &over,
    )
    .fetch_optional(conn)
    .await
    .during("look for ended tasks of other pools")?;
    Ok(found.map(TaskId))
}

/// Where a live lease may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteScope {
    /// Namespace.
    pub namespace: String,
    /// Blocks.
    pub range: BlockRange,
    /// Outputs, ordered by port.
    pub outputs: Vec<(String, VersionId)>,
}

/// What the holder of a current lease may write; none when the lease is not current.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn write_scope(conn: &mut PgConnection, fence: &Fence) -> Result<Option<WriteScope>> {
    Ok(write_scopes(conn, std::slice::from_ref(fence)).await?.remove(fence))
}

/// What the holders of leases may write, of those that are current.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn write_scopes(conn: &mut PgConnection, fences: &[Fence]) -> Result<HashMap<Fence, WriteScope>> {
    let tasks: Vec<_> = fences.iter().map(|f| f.task_id.0).collect();
    let attempts: Vec<_> = fences.iter().map(|f| f.attempt_id.0).collect();
    let tokens: Vec<_> = fences.iter().map(|f| f.lease_token.0).collect();
    let found = sqlx::query!(
        r#"SELECT f.task_id AS "task_id!", f.attempt_id AS "attempt_id!", f.lease_token AS "lease_token!", s.namespace, s.range, s.output,
                  s.version
           FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[]) AS f (task_id, attempt_id, lease_token)
           -- By id, as offers are looked up in a claim; the offset keeps it a look-up.
           CROSS JOIN LATERAL (
               SELECT j.namespace, t.range, o.output, o.version
               FROM tasks t JOIN jobs j ON j.job_id = t.job_id JOIN task_outputs o ON o.task_id = t.task_id
               WHERE t.task_id = f.task_id AND t.attempt_id = f.attempt_id AND t.lease_token = f.lease_token
                 AND t.state || '' = 'Running' AND NOT t.cancel_requested
               OFFSET 0) s
           ORDER BY f.task_id, s.output"#,
        &tasks,
        &attempts,
        &tokens,
    )
    .fetch_all(conn)
    .await
    .during("read what leases may write")?;
    let mut scopes: HashMap<Fence, WriteScope> = HashMap::with_capacity(fences.len());
    for row in found {
        let fence = Fence {
            task_id: row.task_id.into(),
            attempt_id: row.attempt_id.into(),
            lease_token: row.lease_token.into(),
        };
        let range = rows::from_pg("tasks", row.task_id, &row.range)?;
        let scope = scopes.entry(fence).or_insert_with(|| WriteScope {
            namespace: row.namespace,
            range,
            outputs: vec![],
        });
        scope.outputs.push((row.output, VersionId(row.version)));
    }
    Ok(scopes)
}
