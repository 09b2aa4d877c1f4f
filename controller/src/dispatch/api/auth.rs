//! Who calls: a pool, by its token, or the RPC gateway, by the secret that it shares with us.

use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use dagwright_contracts::token::{bearer, token_hash};
use dagwright_core::{ids::TaskId, task::Fence};
use dagwright_state::{lease, pools};
use dagwright_telemetry::Rejection;
use sqlx::PgConnection;

use super::reject;
use crate::dispatch::Dispatcher;

/// A pool's worker.
pub(super) struct Pool(pub(super) pools::PoolPrincipal);

impl FromRequestParts<Dispatcher> for Pool {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, dispatcher: &Dispatcher) -> Result<Self, Rejection> {
        let token = presented(parts).ok_or_else(reject::unauthorized)?;
        let mut tx = dispatcher.begin().await.map_err(reject::state)?;
        let pool = pools::by_token(&mut tx, &token).await.map_err(reject::state)?;
        dagwright_state::commit(tx).await.map_err(reject::state)?;
        pool.map(Self).ok_or_else(reject::unauthorized)
    }
}

/// The RPC gateway.
pub(super) struct Gateway;

impl FromRequestParts<Dispatcher> for Gateway {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, dispatcher: &Dispatcher) -> Result<Self, Rejection> {
        // Hashes are compared, so that the time it takes tells nothing about the secret.
        let expected = token_hash(&dispatcher.args.gateway_token);
        if presented(parts) == Some(expected) { Ok(Self) } else { Err(reject::unauthorized()) }
    }
}

fn presented(parts: &Parts) -> Option<[u8; 32]> {
    let header = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    bearer(header).map(token_hash)
}

/// Refuses the whole call when it names a task of another pool.
pub(super) async fn own_tasks(
    conn: &mut PgConnection,
    pool: &Pool,
    tasks: &[TaskId],
) -> Result<(), Rejection> {
    if tasks.len() > super::MAX_ROWS {
        return Err(reject::too_many(tasks.len()));
    }
    match lease::foreign_task(conn, pool.0.pool_id, tasks).await.map_err(reject::state)? {
        Some(task) => Err(reject::wrong_pool(task)),
        None => Ok(()),
    }
}

/// A fence of the wire, as `core` has it.
pub(super) fn fence(wire: &dagwright_contracts::tasks::Fence) -> Fence {
    Fence { task_id: wire.task_id, attempt_id: wire.attempt_id, lease_token: wire.lease_token }
}
