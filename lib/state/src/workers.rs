//! Worker processes as they report themselves, and who of them is on its way out.

use dagwright_core::{
    ids::{AttemptId, LeaseToken, PoolId, TaskId, WorkerId},
    scale::roster::{Member, Phase},
    task::Fence,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Result, error::During};

/// What a worker says of itself.
#[derive(Clone, Debug)]
pub struct CheckIn<'a> {
    /// Who.
    pub worker_id: WorkerId,
    /// Its ECS task, as it says itself: nobody has looked whether that is true.
    pub task_arn: Option<&'a str>,
    /// `family:revision` that it was started with.
    pub task_definition: Option<&'a str>,
    /// Whether it holds nothing and claims nothing.
    pub drained: bool,
}

/// Workers that a pool has rows of: those that are there and those that were lately. Far more than a pool may have, so that only a
/// caller that makes workers up meets it.
pub const MAX_PER_POOL: i64 = 20_000;

/// What a worker hears when it checks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Go on.
    Stay,
    /// Claim nothing more.
    Drain,
    /// Its pool has [`MAX_PER_POOL`] workers: nothing was noted.
    TooMany,
}

/// Notes that a worker is there. One that was counted as gone stays gone.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn check_in(conn: &mut PgConnection, pool_id: PoolId, worker: &CheckIn<'_>) -> Result<Heard> {
    let known = sqlx::query!(
        r#"UPDATE workers AS w SET seen_at = clock_timestamp(), drained = $5 AND w.draining,
               task_arn = COALESCE(w.task_arn, $3), task_definition = COALESCE(w.task_definition, $4)
           WHERE w.worker_id = $1 AND w.pool_id = $2
           RETURNING w.draining OR w.left_at IS NOT NULL AS "draining!""#,
        worker.worker_id.0,
        pool_id.0,
        worker.task_arn,
        worker.task_definition,
        worker.drained
    )
    .fetch_optional(&mut *conn)
    .await
    .during("note a worker")?;
    match known {
        Some(row) if row.draining => Ok(Heard::Drain),
        Some(_) => Ok(Heard::Stay),
        None => first_check_in(conn, pool_id, worker).await,
    }
}

async fn first_check_in(conn: &mut PgConnection, pool_id: PoolId, worker: &CheckIn<'_>) -> Result<Heard> {
    let row = sqlx::query!(
        r#"WITH room AS MATERIALIZED (
               SELECT count(*) < $5 AS there FROM (SELECT FROM workers WHERE pool_id = $2 LIMIT $5) w),
           made AS (
               INSERT INTO workers (worker_id, pool_id, task_arn, task_definition)
               SELECT $1, $2, $3, $4 FROM room WHERE there ON CONFLICT (worker_id) DO NOTHING RETURNING worker_id)
           SELECT there AS "there!", EXISTS (SELECT FROM made) AS "made!" FROM room"#,
        worker.worker_id.0,
        pool_id.0,
        worker.task_arn,
        worker.task_definition,
        MAX_PER_POOL
    )
    .fetch_one(conn)
    .await
    .during("note a new worker")?;
    Ok(match (row.there, row.made) {
        (_, true) => Heard::Stay,
        // Another pool's worker has this id.
        (true, false) => Heard::Drain,
        (false, false) => Heard::TooMany,
    })
}

/// Notes that workers are gone, or about to be and without work.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn leave(conn: &mut PgConnection, pool_id: PoolId, workers: &[WorkerId]) -> Result<()> {
    sqlx::query!(
        "UPDATE workers SET left_at = clock_timestamp() WHERE pool_id = $1 AND worker_id = ANY($2) AND left_at IS NULL",
        pool_id.0,
        &ids(workers)
    )
    .execute(conn)
    .await
    .during("note that workers left")?;
    Ok(())
}

/// The leases that a worker holds, whether it knows or not.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn leases(conn: &mut PgConnection, pool_id: PoolId, worker: WorkerId) -> Result<Vec<Fence>> {
    let found = sqlx::query!(
        r#"SELECT task_id, attempt_id AS "attempt_id!", lease_token AS "lease_token!" FROM tasks
           WHERE pool_id = $1 AND state = 'Running' AND worker_id = $2"#,
        pool_id.0,
        worker.0
    )
    .fetch_all(conn)
    .await
    .during("read a worker's leases")?;
    let fence = found.into_iter().map(|row| Fence {
        task_id: TaskId(row.task_id),
        attempt_id: AttemptId(row.attempt_id),
        lease_token: LeaseToken(row.lease_token),
    });
    Ok(fence.collect())
}

/// A worker that was heard of lately, with its ECS task.
#[derive(Clone, Debug)]
pub struct Present {
    /// What decisions need.
    pub member: Member,
    /// Its ECS task, as it says itself.
    pub task_arn: Option<String>,
}

/// The workers of a pool that were heard of in the last half minute. Current are those of the task definition `arn`, and those that
/// do not know theirs.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn present(conn: &mut PgConnection, pool_id: PoolId, arn: &str) -> Result<Vec<Present>> {
    let revision = arn.rsplit('/').next().unwrap_or(arn);
    let found = sqlx::query!(
        r#"SELECT w.worker_id, w.task_arn, w.started_at, w.draining, w.drained,
                  COALESCE(w.task_definition = $2, true) AS "current!",
                  EXISTS (SELECT FROM tasks t WHERE t.pool_id = $1 AND t.state = 'Running' AND t.worker_id = w.worker_id
                          -- As in `demand`: what ended before is not read again.
                          AND t.lease_expires_at > (SELECT clock_timestamp() - interval '1 minute')) AS "busy!"
           FROM workers w
           WHERE w.pool_id = $1 AND w.left_at IS NULL AND w.seen_at > clock_timestamp() - interval '30 seconds'
           ORDER BY w.worker_id"#,
        pool_id.0,
        revision
    )
    .fetch_all(conn)
    .await
    .during("read a pool's workers")?;
    let present = found.into_iter().map(|row| Present {
        member: Member {
            id: WorkerId(row.worker_id),
            phase: match (row.draining, row.drained) {
                (false, _) => Phase::Active,
                (true, false) => Phase::Draining,
                (true, true) => Phase::Drained,
            },
            busy: row.busy,
            current: row.current,
            since: row.started_at,
        },
        task_arn: row.task_arn,
    });
    Ok(present.collect())
}

/// Tells workers to drain, or to go on.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn set_draining(
    conn: &mut PgConnection,
    pool_id: PoolId,
    workers: &[WorkerId],
    draining: bool,
) -> Result<()> {
    if workers.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "UPDATE workers SET draining = $3, drained = false WHERE pool_id = $1 AND worker_id = ANY($2) AND draining <> $3",
        pool_id.0,
        &ids(workers),
        draining
    )
    .execute(conn)
    .await
    .during("tell workers to drain")?;
    Ok(())
}

/// Which of these ECS tasks brought a worker of the pool up, ever.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn came_up(conn: &mut PgConnection, pool_id: PoolId, task_arns: &[String]) -> Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT task_arn AS "arn!" FROM workers WHERE task_arn = ANY($2) AND pool_id = $1"#,
        pool_id.0,
        task_arns
    )
    .fetch_all(conn)
    .await
    .during("read which tasks brought workers up")
}

/// Whether a worker of the pool reported for the first time after `since`.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn any_since(conn: &mut PgConnection, pool_id: PoolId, since: OffsetDateTime) -> Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM workers WHERE pool_id = $1 AND started_at > $2) AS "any!""#,
        pool_id.0,
        since
    )
    .fetch_one(conn)
    .await
    .during("read whether workers came up")
}

/// Forgets workers that were not heard of for two hours, and launches that ended more than a day ago; ECS forgets its tasks within the
/// hour.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn prune(conn: &mut PgConnection) -> Result<()> {
    sqlx::query!("DELETE FROM workers WHERE seen_at < clock_timestamp() - interval '2 hours'")
        .execute(&mut *conn)
        .await
        .during("forget workers")?;
    sqlx::query!("DELETE FROM worker_launches WHERE ended_at < clock_timestamp() - interval '1 day'")
        .execute(conn)
        .await
        .during("forget launches")?;
    Ok(())
}

fn ids(workers: &[WorkerId]) -> Vec<uuid::Uuid> {
    workers.iter().map(|w| w.0).collect()
}
