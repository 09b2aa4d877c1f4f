//! WorkerPools: who speaks for one, and what the scaler reads and writes.

use dagwright_core::{
    ids::PoolId,
    scale::{Observed, OnDemand, Run, Service, backoff::Starts},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use crate::{
    Error, Result,
    cursor::{Cursor, Place},
    demand::{self, Asked, Demand},
    error::During,
    rows,
};

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
    /// ECS service, of a pool that runs as one.
    pub service_arn: Option<String>,
    /// What its workers are started with.
    pub launch: Launch,
    /// How it runs.
    pub run: Run,
    /// What the decision needs.
    pub observed: Observed,
    /// Per priority, where the first of the waiting tasks is due: the next look may go on from there.
    pub first_waiting: Vec<Place>,
    /// Failures to start workers.
    pub starts: Starts,
    /// When ECS, by its own clock, stopped the last task that was counted as such a failure.
    pub failure_seen: Option<OffsetDateTime>,
    /// The clock of Postgres.
    pub now: OffsetDateTime,
}

/// What a pool's workers are started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// Family of the task definitions.
    pub family: String,
    /// Task definition with revision.
    pub task_definition_arn: String,
    /// Subnets.
    pub subnets: Vec<String>,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// Whether workers get a public address.
    pub assign_public_ip: bool,
    /// Shares of capacity providers.
    pub capacity: Vec<Share>,
}

/// A capacity provider's share of a pool's workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// Name.
    pub provider: String,
    /// Share above the bases.
    pub weight: i32,
    /// Workers placed first.
    pub base: i32,
}

struct PoolRow {
    pool_id: uuid::Uuid,
    subject: String,
    ecs_cluster: Option<String>,
    service_arn: Option<String>,
    launch: serde_json::Value,
    slots: i32,
    run: serde_json::Value,
    desired_workers: i32,
    last_backlog_at: Option<OffsetDateTime>,
    start_failures: i32,
    start_failed_at: Option<OffsetDateTime>,
    start_failure_seen: Option<OffsetDateTime>,
    now: OffsetDateTime,
}

/// All pools that can start workers, with their demand: tasks that are due and not suspended, and tasks that run. What is due is
/// counted up to what the most workers can be justified by, per priority, from the place of the queue that `from` names for a pool.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn to_scale(conn: &mut PgConnection, from: impl Fn(PoolId) -> Cursor) -> Result<Vec<ScaledPool>> {
    let found = sqlx::query_as!(
        PoolRow,
        r#"SELECT pool_id, namespace || '/' || name AS "subject!", ecs_cluster, service_arn, launch AS "launch!", slots, run,
                  desired_workers, last_backlog_at, start_failures, start_failed_at, start_failure_seen, clock_timestamp() AS "now!"
           FROM pools WHERE deleted_at IS NULL AND launch IS NOT NULL"#
    )
    .fetch_all(&mut *conn)
    .await
    .during("read pools to scale")?;
    let (mut pools, mut asked) = (Vec::with_capacity(found.len()), Vec::with_capacity(found.len()));
    for row in found {
        let (pool_id, slots) = (PoolId(row.pool_id), rows::small(row.slots));
        let run = run(pool_id, row.slots, row.run.clone())?;
        let most = u64::from(run.max_workers()) * u64::from(run.tasks_per_worker().max(2 * slots));
        asked.push(Asked { pool_id, from: from(pool_id), most });
        pools.push((row, run));
    }
    let mut demands = demand::of(conn, &asked).await?;
    let with_demand = |(row, run): (PoolRow, Run)| {
        let demand = demands.remove(&PoolId(row.pool_id)).unwrap_or_default();
        scaled_pool(row, run, demand)
    };
    pools.into_iter().map(with_demand).collect()
}

fn scaled_pool(row: PoolRow, run: Run, demand: Demand) -> Result<ScaledPool> {
    let pool_id = PoolId(row.pool_id);
    Ok(ScaledPool {
        pool_id,
        observed: Observed {
            demand: demand.due + demand.running,
            waiting: demand.oldest.map_or(Duration::ZERO, |at| row.now - at),
            desired: rows::small(row.desired_workers),
            needed_at: row.last_backlog_at,
        },
        first_waiting: demand.first,
        starts: Starts { failures: rows::small(row.start_failures), failed_at: row.start_failed_at },
        failure_seen: row.start_failure_seen,
        run,
        launch: serde_json::from_value(row.launch)
            .map_err(|e| Error::invalid("pools", "launch", pool_id, e))?,
        subject: row.subject,
        service_arn: row.service_arn,
        ecs_cluster: row.ecs_cluster,
        now: row.now,
    })
}

/// Notes what the scaler decided and saw, when it differs. `needed`: the demand justifies the count now.
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
         WHERE pool_id = $1 AND (desired_workers <> $2 OR running_workers <> $3
             -- A cooldown counts in minutes: its beginning need not move every other second.
             OR ($4 AND $2 > 0 AND COALESCE(last_backlog_at < clock_timestamp() - interval '5 seconds', true)))",
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

/// Notes that workers could not be started, in ECS's words. A failure that ECS dates `seen` counts once.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn start_failed(
    conn: &mut PgConnection,
    pool_id: PoolId,
    message: &str,
    seen: Option<OffsetDateTime>,
) -> Result<()> {
    sqlx::query!(
        "UPDATE pools SET start_failures = start_failures + 1, start_failed_at = clock_timestamp(), start_error = $2,
             start_failure_seen = GREATEST(start_failure_seen, $3)
         WHERE pool_id = $1 AND ($3::timestamptz IS NULL OR start_failure_seen IS NULL OR start_failure_seen < $3)",
        pool_id.0,
        message,
        seen
    )
    .execute(conn)
    .await
    .during("note that a pool cannot start workers")?;
    Ok(())
}

/// Notes that a worker came up: earlier failures are over.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn started(conn: &mut PgConnection, pool_id: PoolId) -> Result<()> {
    sqlx::query!(
        "UPDATE pools SET start_failures = 0, start_failed_at = NULL, start_error = NULL WHERE pool_id = $1 AND start_failures > 0",
        pool_id.0
    )
    .execute(conn)
    .await
    .during("note that a pool starts workers")?;
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
        RunJson::OnDemand { max } => {
            Run::OnDemand(OnDemand { max, tasks_per_worker: 2 * rows::small(slots) })
        }
        RunJson::Service(s) => Run::Service(Service {
            min: s.min,
            max: s.max,
            tasks_per_worker: s.tasks_per_worker.unwrap_or_else(|| rows::small(slots)),
            cooldown: Duration::seconds(s.cooldown_seconds),
        }),
    })
}
