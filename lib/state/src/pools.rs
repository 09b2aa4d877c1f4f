//! WorkerPools: who speaks for one, and what the scaler reads and writes.

use dagwright_core::{
    ids::PoolId,
    scale::{Observed, Run, Service},
};
use serde::Deserialize;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use crate::{Error, Result, error::During, rows};

/// The principal of a pool's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPrincipal {
    /// The pool.
    pub pool_id: PoolId,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The pool that a token speaks for; none when the token is unknown, expired, or its pool is gone.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn by_token(conn: &mut PgConnection, token_sha256: &[u8; 32]) -> Result<Option<PoolPrincipal>> {
    let row = sqlx::query!(
        "SELECT p.pool_id, p.namespace, p.name FROM pool_tokens t JOIN pools p ON p.pool_id = t.pool_id
         WHERE t.token_sha256 = $1 AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp()) AND p.deleted_at IS NULL",
        token_sha256.as_slice()
    )
    .fetch_optional(conn)
    .await
    .during("look up a pool token")?;
    Ok(row.map(|r| PoolPrincipal { pool_id: PoolId(r.pool_id), namespace: r.namespace, name: r.name }))
}

/// Messages of a pool that may be outstanding: enough that no worker waits, few enough that priority holds.
///
/// # Errors
/// When Postgres cannot be reached or the row is invalid.
pub async fn window(conn: &mut PgConnection, pool_id: PoolId) -> Result<u64> {
    let row = sqlx::query!("SELECT slots, run FROM pools WHERE pool_id = $1", pool_id.0)
        .fetch_one(conn)
        .await
        .during("read a pool's window")?;
    let workers = u64::from(run(pool_id, row.slots, row.run)?.max_workers());
    Ok(2 * u64::from(rows::small(row.slots)) * workers)
}

/// A pool as the scaler sees it.
#[derive(Clone, Debug)]
pub struct ScaledPool {
    /// The pool.
    pub pool_id: PoolId,
    /// `namespace/name`, for logs.
    pub subject: String,
    /// ECS cluster, when the controller has set one.
    pub ecs_cluster: Option<String>,
    /// ECS service.
    pub service_arn: String,
    /// How it runs.
    pub run: Run,
    /// What the decision needs.
    pub observed: Observed,
    /// The clock of Postgres.
    pub now: OffsetDateTime,
}

struct PoolRow {
    pool_id: uuid::Uuid,
    subject: String,
    ecs_cluster: Option<String>,
    service_arn: String,
    slots: i32,
    run: serde_json::Value,
    desired_workers: i32,
    last_backlog_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
    demand: i64,
}

/// All pools that have a service, with their demand: tasks that are due and not suspended, and tasks that run.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn to_scale(conn: &mut PgConnection) -> Result<Vec<ScaledPool>> {
    let found = sqlx::query_as!(
        PoolRow,
        r#"SELECT p.pool_id, p.namespace || '/' || p.name AS "subject!", p.ecs_cluster, p.service_arn AS "service_arn!", p.slots, p.run,
                  p.desired_workers, p.last_backlog_at, clock_timestamp() AS "now!",
                  (SELECT count(*) FROM tasks t JOIN jobs j ON j.job_id = t.job_id
                   WHERE t.pool_id = p.pool_id AND (t.state = 'Running'
                       OR (t.state = 'Queued' AND t.not_before <= clock_timestamp() AND NOT j.suspended AND NOT t.cancel_requested)))
                       AS "demand!"
           FROM pools p WHERE p.deleted_at IS NULL AND p.service_arn IS NOT NULL"#
    )
    .fetch_all(conn)
    .await
    .during("read pools to scale")?;
    let pool = |row: PoolRow| {
        let pool_id = PoolId(row.pool_id);
        let observed = Observed {
            demand: rows::count(row.demand),
            desired: rows::small(row.desired_workers),
            needed_at: row.last_backlog_at,
        };
        let run = run(pool_id, row.slots, row.run)?;
        let (subject, service_arn, ecs_cluster) = (row.subject, row.service_arn, row.ecs_cluster);
        Ok(ScaledPool { pool_id, subject, ecs_cluster, service_arn, run, observed, now: row.now })
    };
    found.into_iter().map(pool).collect()
}

/// Notes what the scaler decided and saw. `needed`: the demand justifies the count now.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn scaled(
    conn: &mut PgConnection,
    pool_id: PoolId,
    desired: u32,
    running: u32,
    needed: bool,
) -> Result<()> {
    sqlx::query!(
        "UPDATE pools SET desired_workers = $2, running_workers = $3,
             scaled_at = CASE WHEN desired_workers <> $2 THEN clock_timestamp() ELSE scaled_at END,
             last_backlog_at = CASE WHEN $4 THEN clock_timestamp() ELSE last_backlog_at END
         WHERE pool_id = $1",
        pool_id.0,
        crate::task_rows::signed(desired),
        crate::task_rows::signed(running),
        needed
    )
    .execute(conn)
    .await
    .during("note a pool's workers")?;
    Ok(())
}

/// Pools with a dead-letter queue, and its URL.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn dead_letter_queues(conn: &mut PgConnection) -> Result<Vec<(PoolId, String)>> {
    let found = sqlx::query!(
        r#"SELECT pool_id, dead_letter_queue_url AS "url!" FROM pools WHERE deleted_at IS NULL AND dead_letter_queue_url IS NOT NULL"#
    )
    .fetch_all(conn)
    .await
    .during("read dead-letter queues")?;
    Ok(found.into_iter().map(|row| (PoolId(row.pool_id), row.url)).collect())
}

/// Notes how many messages lie in a pool's dead-letter queue.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn set_dead_letters(conn: &mut PgConnection, pool_id: PoolId, count: u64) -> Result<()> {
    sqlx::query!(
        "UPDATE pools SET dead_letters = $2 WHERE pool_id = $1 AND dead_letters <> $2",
        pool_id.0,
        rows::height_to_pg(count)
    )
    .execute(conn)
    .await
    .during("note a pool's dead letters")?;
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum RunJson {
    Service(ServiceJson),
    OnDemand { max: u32 },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceJson {
    #[serde(default)]
    min: u32,
    max: u32,
    tasks_per_worker: Option<u32>,
    #[serde(default)]
    cooldown_seconds: i64,
}

fn run(pool_id: PoolId, slots: i32, json: serde_json::Value) -> Result<Run> {
    let parsed: RunJson =
        serde_json::from_value(json).map_err(|e| Error::invalid("pools", "run", pool_id, e))?;
    Ok(match parsed {
        RunJson::OnDemand { max } => Run::OnDemand { max },
        RunJson::Service(s) => Run::Service(Service {
            min: s.min,
            max: s.max,
            tasks_per_worker: s.tasks_per_worker.unwrap_or_else(|| rows::small(slots)),
            cooldown: Duration::seconds(s.cooldown_seconds),
        }),
    })
}
