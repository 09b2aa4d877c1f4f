use dagwright_core::ids::PoolId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Result, error::During, rows};

/// What a pool has to do and who does it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolProgress {
    /// Tasks that wait and are due.
    pub backlog: u64,
    /// Since when the oldest of them waits.
    pub oldest_queued_at: Option<OffsetDateTime>,
    /// Tasks that run.
    pub running_tasks: u64,
    /// Workers that the scaler wants.
    pub desired_workers: u32,
    /// Workers that ECS runs.
    pub running_workers: u32,
    /// Workers that hold a lease.
    pub busy_workers: u64,
    /// Messages in the dead-letter queue.
    pub dead_letters: u64,
    /// Why workers cannot be started, in ECS's words; none when they can.
    pub start_error: Option<String>,
}

/// What a pool has to do; none when there is no such row.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn pool(conn: &mut PgConnection, pool_id: PoolId) -> Result<Option<PoolProgress>> {
    let row = sqlx::query!(
        r#"SELECT p.desired_workers, p.running_workers, p.dead_letters, p.start_error, t.backlog AS "backlog!", t.oldest, t.running AS "running!", t.busy AS "busy!"
           FROM pools p CROSS JOIN LATERAL (
               SELECT count(*) FILTER (WHERE state = 'Queued' AND not_before <= clock_timestamp()) AS backlog,
                      min(queued_at) FILTER (WHERE state = 'Queued' AND not_before <= clock_timestamp()) AS oldest,
                      count(*) FILTER (WHERE state = 'Running') AS running,
                      count(DISTINCT worker_id) FILTER (WHERE state = 'Running') AS busy
               FROM tasks WHERE pool_id = p.pool_id) t
           WHERE p.pool_id = $1"#,
        pool_id.0
    )
    .fetch_optional(conn)
    .await
    .during("read what a pool has to do")?;
    Ok(row.map(|r| PoolProgress {
        backlog: rows::count(r.backlog),
        oldest_queued_at: r.oldest,
        running_tasks: rows::count(r.running),
        desired_workers: rows::small(r.desired_workers),
        running_workers: rows::small(r.running_workers),
        busy_workers: rows::count(r.busy),
        dead_letters: rows::count(r.dead_letters),
        start_error: r.start_error,
    }))
}
