//! RpcPools as the gateway is to serve them.

use dagwright_core::ids::RpcPoolId;
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Result, error::During};

/// An RpcPool as the controller wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcPool {
    /// Id.
    pub rpc_pool_id: RpcPoolId,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Chain.
    pub chain_id: i64,
    /// `contracts::gateway::RpcPoolConfig`.
    pub config: Value,
    /// Generation of the object.
    pub generation: i64,
}

/// What the gateway last reported of one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Provider.
    pub provider: String,
    /// State.
    pub state: String,
    /// Head that it told.
    pub head: Option<i64>,
    /// Errors per hundred requests.
    pub error_rate_percent: f64,
    /// Why it is not healthy.
    pub message: String,
    /// When the state began.
    pub since: OffsetDateTime,
}

/// Writes the pool and tells the gateway when its config changed. Returns whether it did.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn upsert(conn: &mut PgConnection, pool: &RpcPool) -> Result<bool> {
    let old = sqlx::query_scalar!(
        "SELECT config FROM rpc_pools WHERE rpc_pool_id = $1 FOR UPDATE",
        pool.rpc_pool_id.0
    )
    .fetch_optional(&mut *conn)
    .await
    .during("read an RPC pool")?;
    sqlx::query!(
        "INSERT INTO rpc_pools (rpc_pool_id, namespace, name, chain_id, config, generation) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (rpc_pool_id) DO UPDATE SET
            chain_id = excluded.chain_id, config = excluded.config, generation = excluded.generation
         WHERE (rpc_pools.chain_id, rpc_pools.config, rpc_pools.generation)
               IS DISTINCT FROM (excluded.chain_id, excluded.config, excluded.generation)",
        pool.rpc_pool_id.0,
        pool.namespace,
        pool.name,
        pool.chain_id,
        pool.config,
        pool.generation
    )
    .execute(&mut *conn)
    .await
    .during("write an RPC pool")?;
    let changed = old.as_ref() != Some(&pool.config);
    if changed {
        bump_revision(conn).await?;
    }
    Ok(changed)
}

/// The config that was written last.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn config(conn: &mut PgConnection, id: RpcPoolId) -> Result<Option<Value>> {
    sqlx::query_scalar!("SELECT config FROM rpc_pools WHERE rpc_pool_id = $1", id.0)
        .fetch_optional(conn)
        .await
        .during("read an RPC pool's config")
}

/// Removes a pool: the gateway stops serving it.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn delete(conn: &mut PgConnection, namespace: &str, name: &str) -> Result<()> {
    sqlx::query!("DELETE FROM rpc_pools WHERE namespace = $1 AND name = $2", namespace, name)
        .execute(&mut *conn)
        .await
        .during("delete an RPC pool")?;
    sqlx::query!("DELETE FROM rpc_provider_health WHERE namespace = $1 AND pool = $2", namespace, name)
        .execute(&mut *conn)
        .await
        .during("delete an RPC pool's health")?;
    bump_revision(conn).await
}

/// What the gateway last reported of the pool's providers.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn health(conn: &mut PgConnection, namespace: &str, name: &str) -> Result<Vec<Health>> {
    sqlx::query_as!(
        Health,
        "SELECT provider, state, head, error_rate_percent, message, since FROM rpc_provider_health
         WHERE namespace = $1 AND pool = $2 ORDER BY provider",
        namespace,
        name
    )
    .fetch_all(conn)
    .await
    .during("read providers' health")
}

/// Makes the gateway's long poll return.
pub(super) async fn bump_revision(conn: &mut PgConnection) -> Result<()> {
    sqlx::query_scalar!(r#"SELECT nextval('gateway_revision') AS "revision!""#)
        .fetch_one(conn)
        .await
        .during("raise the gateway revision")?;
    Ok(())
}
