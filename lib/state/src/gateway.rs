//! What the RPC gateway is told, and what it reports.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Result, error::During, rows};

/// Everything that the gateway must know, as it is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayRows {
    /// `contracts::gateway::RpcPoolConfig` per pool, ordered by place.
    pub pools: Vec<serde_json::Value>,
    /// SHA-256 of each token that may call, with the namespace that it opens.
    pub callers: Vec<(Vec<u8>, String)>,
}

/// Reads it, in one order, so that equal content is equal.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn read(conn: &mut PgConnection) -> Result<GatewayRows> {
    let pools = sqlx::query_scalar!("SELECT config FROM rpc_pools ORDER BY namespace, name")
        .fetch_all(&mut *conn)
        .await
        .during("read RPC pools")?;
    let callers = sqlx::query!(
        "SELECT t.token_sha256, p.namespace FROM pool_tokens t JOIN pools p ON p.pool_id = t.pool_id
         WHERE p.deleted_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp()) ORDER BY t.token_sha256"
    )
    .fetch_all(conn)
    .await
    .during("read callers of the RPC gateway")?;
    Ok(GatewayRows { pools, callers: callers.into_iter().map(|c| (c.token_sha256, c.namespace)).collect() })
}

/// One provider's health, as reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Namespace of the pool.
    pub namespace: String,
    /// Pool.
    pub pool: String,
    /// Provider.
    pub provider: String,
    /// State.
    pub state: String,
    /// Head height.
    pub head: Option<u64>,
    /// Errors per hundred requests.
    pub error_rate_percent: f64,
    /// Why it is not healthy.
    pub message: String,
    /// When the state began.
    pub since: OffsetDateTime,
}

/// Notes what the gateway reports.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn record_health(conn: &mut PgConnection, reports: &[Health]) -> Result<()> {
    for h in reports {
        sqlx::query!(
            "INSERT INTO rpc_provider_health (namespace, pool, provider, state, head, error_rate_percent, message, since)
             -- A report about a pool that is gone must not bring it back.
             SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE EXISTS (SELECT FROM rpc_pools WHERE namespace = $1 AND name = $2)
             ON CONFLICT (namespace, pool, provider) DO UPDATE
             SET state = EXCLUDED.state, head = EXCLUDED.head, error_rate_percent = EXCLUDED.error_rate_percent,
                 message = EXCLUDED.message, since = EXCLUDED.since, reported_at = clock_timestamp()",
            h.namespace,
            h.pool,
            h.provider,
            h.state,
            h.head.map(rows::height_to_pg),
            h.error_rate_percent,
            h.message,
            h.since
        )
        .execute(&mut *conn)
        .await
        .during("note a provider's health")?;
    }
    Ok(())
}
