//! WorkerPools and the tokens that speak for them.

use dagwright_core::ids::PoolId;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::{Error, Result, error::During, pools::Launch};

/// A WorkerPool as the controller wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Id.
    pub pool_id: PoolId,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Tasks at once per worker.
    pub slots: i32,
    /// `{"service": {"min", "max", "tasksPerWorker", "cooldownSeconds"}}` or `{"onDemand": {"max"}}`.
    pub run: Value,
    /// Length of a lease.
    pub lease_seconds: i32,
    /// Generation of the object.
    pub generation: i64,
}

/// Where the pool's AWS resources are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Queue.
    pub queue_url: Option<String>,
    /// Dead-letter queue.
    pub dead_letter_queue_url: Option<String>,
    /// ECS cluster.
    pub ecs_cluster: Option<String>,
    /// ECS service.
    pub service_arn: Option<String>,
    /// What workers are started with, once its parts are there.
    pub launch: Option<Launch>,
}

/// Writes the pool. A pool of the same name but another object is gone from then on: its tokens open nothing any more.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn upsert(conn: &mut PgConnection, pool: &Pool) -> Result<()> {
    let older = sqlx::query_scalar!(
        "SELECT pool_id FROM pools WHERE namespace = $1 AND name = $2 AND pool_id <> $3 AND deleted_at IS NULL",
        pool.namespace,
        pool.name,
        pool.pool_id.0
    )
    .fetch_all(&mut *conn)
    .await
    .during("find older pools of the name")?;
    for id in older {
        delete(conn, PoolId(id)).await?;
    }
    sqlx::query!(
        "INSERT INTO pools (pool_id, namespace, name, slots, run, lease_seconds, generation)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (pool_id) DO UPDATE SET
            slots = excluded.slots, run = excluded.run, lease_seconds = excluded.lease_seconds,
            generation = excluded.generation, deleted_at = NULL
         WHERE (pools.slots, pools.run, pools.lease_seconds, pools.generation)
               IS DISTINCT FROM (excluded.slots, excluded.run, excluded.lease_seconds, excluded.generation)
            OR pools.deleted_at IS NOT NULL",
        pool.pool_id.0,
        pool.namespace,
        pool.name,
        pool.slots,
        pool.run,
        pool.lease_seconds,
        pool.generation
    )
    .execute(conn)
    .await
    .during("write a pool")?;
    Ok(())
}

/// Notes where the pool's AWS resources are. What changes how workers are started ends the rest of a pool that could not start any.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn set_addresses(conn: &mut PgConnection, pool_id: PoolId, at: &Addresses) -> Result<()> {
    let launch = at.launch.as_ref().map(|launch| json!(launch));
    sqlx::query!(
        "UPDATE pools SET queue_url = $2, dead_letter_queue_url = $3, ecs_cluster = $4, service_arn = $5, launch = $6,
             start_failures = CASE WHEN launch IS DISTINCT FROM $6 THEN 0 ELSE start_failures END,
             start_failed_at = CASE WHEN launch IS DISTINCT FROM $6 THEN NULL ELSE start_failed_at END,
             start_error = CASE WHEN launch IS DISTINCT FROM $6 THEN NULL ELSE start_error END
         WHERE pool_id = $1
           AND (queue_url, dead_letter_queue_url, ecs_cluster, service_arn, launch) IS DISTINCT FROM ($2, $3, $4, $5, $6)",
        pool_id.0,
        at.queue_url,
        at.dead_letter_queue_url,
        at.ecs_cluster,
        at.service_arn,
        launch
    )
    .execute(conn)
    .await
    .during("note where a pool's resources are")?;
    Ok(())
}

/// The pool of an object, as stored: its row, where its resources are.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn get(conn: &mut PgConnection, pool_id: PoolId) -> Result<Option<(Pool, Addresses)>> {
    let row = sqlx::query!(
        "SELECT namespace, name, slots, run, lease_seconds, generation, queue_url, dead_letter_queue_url, ecs_cluster, service_arn,
                launch
         FROM pools WHERE pool_id = $1 AND deleted_at IS NULL",
        pool_id.0
    )
    .fetch_optional(conn)
    .await
    .during("read a pool")?;
    row.map(|r| {
        let launch = r.launch.map(serde_json::from_value).transpose();
        let pool = Pool {
            pool_id,
            namespace: r.namespace,
            name: r.name,
            slots: r.slots,
            run: r.run,
            lease_seconds: r.lease_seconds,
            generation: r.generation,
        };
        let addresses = Addresses {
            queue_url: r.queue_url,
            dead_letter_queue_url: r.dead_letter_queue_url,
            ecs_cluster: r.ecs_cluster,
            service_arn: r.service_arn,
            launch: launch.map_err(|e| Error::invalid("pools", "launch", pool_id, e))?,
        };
        Ok((pool, addresses))
    })
    .transpose()
}

/// Whether a token's hash opens the pool.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn token_known(conn: &mut PgConnection, pool_id: PoolId, sha256: &[u8]) -> Result<bool> {
    let known = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM pool_tokens WHERE pool_id = $1 AND token_sha256 = $2 AND expires_at IS NULL) AS "known!""#,
        pool_id.0,
        sha256
    )
    .fetch_one(conn)
    .await
    .during("look a pool token up")?;
    Ok(known)
}

/// Lets a new token in. Older ones end after an hour, by when every worker that holds them has been replaced.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn add_token(conn: &mut PgConnection, pool_id: PoolId, sha256: &[u8]) -> Result<()> {
    sqlx::query!(
        "UPDATE pool_tokens SET expires_at = LEAST(expires_at, clock_timestamp() + interval '1 hour') WHERE pool_id = $1",
        pool_id.0
    )
    .execute(&mut *conn)
    .await
    .during("end older pool tokens")?;
    sqlx::query!(
        "INSERT INTO pool_tokens (token_sha256, pool_id) VALUES ($1, $2) ON CONFLICT (token_sha256) DO NOTHING",
        sha256,
        pool_id.0
    )
    .execute(&mut *conn)
    .await
    .during("write a pool token")?;
    super::rpc_pools::bump_revision(conn).await
}

/// Removes a pool: no token opens it, what it had queued is cancelled; its history stays.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn delete(conn: &mut PgConnection, pool_id: PoolId) -> Result<()> {
    sqlx::query!(
        "UPDATE pools SET deleted_at = clock_timestamp() WHERE pool_id = $1 AND deleted_at IS NULL",
        pool_id.0
    )
    .execute(&mut *conn)
    .await
    .during("delete a pool")?;
    sqlx::query!("DELETE FROM pool_tokens WHERE pool_id = $1", pool_id.0)
        .execute(&mut *conn)
        .await
        .during("delete a pool's tokens")?;
    sqlx::query!(
        "UPDATE tasks SET cancel_requested = true WHERE pool_id = $1 AND state <> 'Failed' AND NOT cancel_requested",
        pool_id.0
    )
    .execute(&mut *conn)
    .await
    .during("cancel a pool's tasks")?;
    super::rpc_pools::bump_revision(conn).await
}
