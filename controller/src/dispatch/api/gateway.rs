//! What the RPC gateway reads and reports.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::{Query, State},
};
use dagwright_contracts::gateway::{Caller, GatewayConfig, HealthReport, ProviderHealth, ProviderState};
use dagwright_state::gateway::{self, GatewayRows, Health};
use dagwright_telemetry::Rejection;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    auth::Gateway,
    reject::{self, Body},
};
use crate::dispatch::{
    Dispatcher,
    wake::{Wake, wait},
};

const MAX_WAIT: Duration = Duration::from_secs(20);
/// A waiter looks for itself this often: tokens expire without a notification, and notifications get lost.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
pub(super) struct Known {
    revision: Option<i64>,
}

pub(super) async fn config(
    State(dispatcher): State<Dispatcher>,
    _: Gateway,
    Query(known): Query<Known>,
) -> Result<Json<GatewayConfig>, Rejection> {
    let began = Instant::now();
    let mut wakes = dispatcher.wakes.subscribe();
    loop {
        let mut tx = dispatcher.begin().await.map_err(reject::state)?;
        let rows = gateway::read(&mut tx).await.map_err(reject::state)?;
        dagwright_state::commit(tx).await.map_err(reject::state)?;
        let config = assemble(rows);
        let left = MAX_WAIT.saturating_sub(began.elapsed());
        if known.revision != Some(config.revision) || left.is_zero() || dispatcher.stop.is_cancelled() {
            return Ok(Json(config));
        }
        tokio::select! {
            () = dispatcher.stop.cancelled() => {}
            () = wait(&mut wakes, left.min(LOOK), |wake| wake == Wake::Gateway) => {}
        }
    }
}

/// The revision is a hash of the content: it cannot be seen before the content, as a number that is counted up could.
fn assemble(rows: GatewayRows) -> GatewayConfig {
    let read = |config: serde_json::Value| {
        serde_json::from_value(config)
            .inspect_err(|error| tracing::error!(%error, "an RpcPool is stored in a shape that cannot be read; it is not served"))
            .ok()
    };
    let caller = |(hash, namespace): (Vec<u8>, String)| Caller { token_sha256: hex::encode(hash), namespace };
    let mut config = GatewayConfig {
        revision: 0,
        pools: rows.pools.into_iter().filter_map(read).collect(),
        callers: rows.callers.into_iter().map(caller).collect(),
    };
    let digest = Sha256::digest(serde_json::to_vec(&config).unwrap_or_default());
    let first = digest.first_chunk::<8>().copied().unwrap_or_default();
    // Positive, and exact in clients that read numbers as doubles.
    config.revision = i64::from_be_bytes(first) & ((1 << 53) - 1);
    config
}

pub(super) async fn health(
    State(dispatcher): State<Dispatcher>,
    _: Gateway,
    Body(report): Body<HealthReport>,
) -> Result<(), Rejection> {
    let rows: Vec<Health> = report.providers.into_iter().map(row).collect();
    if rows.len() > 10 * super::MAX_ROWS {
        return Err(reject::too_many(rows.len()));
    }
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    gateway::record_health(&mut tx, &rows).await.map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)
}

fn row(health: ProviderHealth) -> Health {
    let state = match health.state {
        ProviderState::Healthy => "Healthy",
        ProviderState::Degraded => "Degraded",
        ProviderState::Cordoned => "Cordoned",
        ProviderState::Refused => "Refused",
        ProviderState::Unknown => "Unknown",
    };
    Health {
        namespace: health.namespace,
        pool: health.pool,
        provider: health.provider,
        state: state.into(),
        head: health.head,
        error_rate_percent: health.error_rate_percent,
        // Providers' words: Postgres refuses text with a NUL, and one row must not stop the report of all.
        message: health.message.replace('\0', ""),
        since: health.since,
    }
}
