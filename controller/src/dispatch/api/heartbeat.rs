use axum::{Json, extract::State};
use dagwright_contracts::tasks::{Extended, HeartbeatRequest, HeartbeatResponse};
use dagwright_state::lease::{self, Beat};
use dagwright_telemetry::Rejection;

use super::{
    auth::{Pool, fence, own_tasks},
    reject::{self, Body},
};
use crate::dispatch::Dispatcher;

pub(super) async fn heartbeat(
    State(dispatcher): State<Dispatcher>,
    pool: Pool,
    Body(request): Body<HeartbeatRequest>,
) -> Result<Json<HeartbeatResponse>, Rejection> {
    let beats: Vec<_> =
        request.beats.iter().map(|b| Beat { fence: fence(&b.fence), blocks_done: b.blocks_done }).collect();
    let tasks: Vec<_> = beats.iter().map(|b| b.fence.task_id).collect();
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    own_tasks(&mut tx, &pool, &tasks).await?;
    let renewed = lease::renew(&mut tx, pool.0.pool_id, &beats).await.map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    let extended = renewed.extended.into_iter();
    let extended =
        extended.map(|(task_id, expires_at, lease_seconds)| Extended { task_id, expires_at, lease_seconds });
    Ok(Json(HeartbeatResponse { extended: extended.collect(), lost: renewed.lost }))
}
