use axum::{Json, extract::State};
use dagwright_contracts::workers::{CheckInRequest, CheckInResponse};
use dagwright_state::{
    finish,
    workers::{self, Heard},
};
use dagwright_telemetry::Rejection;

use super::{
    auth::Pool,
    reject::{self, Body},
};
use crate::dispatch::{Dispatcher, context::jitter};

pub(super) async fn check_in(
    State(dispatcher): State<Dispatcher>,
    pool: Pool,
    Body(request): Body<CheckInRequest>,
) -> Result<Json<CheckInResponse>, Rejection> {
    let pool_id = pool.0.pool_id;
    for (field, name) in [("taskArn", &request.task_arn), ("taskDefinition", &request.task_definition)] {
        if name.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(reject::no_ecs_name(field));
        }
    }
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    let worker = workers::CheckIn {
        worker_id: request.worker_id,
        task_arn: request.task_arn.as_deref(),
        task_definition: request.task_definition.as_deref(),
        drained: request.drained,
    };
    let heard = workers::check_in(&mut tx, pool_id, &worker).await.map_err(reject::state)?;
    if heard == Heard::TooMany {
        return Err(reject::too_many_workers());
    }
    if request.leaving {
        // A claim whose answer was not heard would hold its task until the lease ends, and spend an attempt (I7).
        let left = workers::leases(&mut tx, pool_id, request.worker_id).await.map_err(reject::state)?;
        finish::release(&mut tx, pool_id, &left, &mut jitter).await.map_err(reject::state)?;
        workers::leave(&mut tx, pool_id, &[request.worker_id]).await.map_err(reject::state)?;
    }
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    Ok(Json(CheckInResponse { draining: heard == Heard::Drain }))
}

/// ARNs and names of ECS are short and of ASCII.
fn is_name(text: &str) -> bool {
    text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic())
}
