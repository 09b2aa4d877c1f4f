use axum::{Json, extract::State};
use dagwright_aws::task_credentials::TaskAccess;
use dagwright_contracts::tasks::{CredentialsRequest, CredentialsResponse};
use dagwright_state::lease;
use dagwright_telemetry::Rejection;
use time::OffsetDateTime;

use super::{
    auth::{Pool, fence, own_tasks},
    reject::{self, Body},
};
use crate::dispatch::Dispatcher;

pub(super) async fn credentials(
    State(dispatcher): State<Dispatcher>,
    pool: Pool,
    Body(request): Body<CredentialsRequest>,
) -> Result<Json<CredentialsResponse>, Rejection> {
    let fence = fence(&request.fence);
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    own_tasks(&mut tx, &pool, &[fence.task_id]).await?;
    let scope = lease::write_scope(&mut tx, &fence).await.map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    let scope = scope.ok_or_else(|| reject::stale_lease(fence.task_id))?;
    let versions: Vec<_> = scope.outputs.iter().map(|(_, version)| *version).collect();
    let access = TaskAccess {
        bucket: &dispatcher.args.data_bucket,
        namespace: &scope.namespace,
        attempt: fence.attempt_id,
        outputs: &versions,
        // No operator of this version reads datasets.
        inputs: &[],
    };
    let session = dispatcher.credentials.session(&access).await.map_err(|e| reject::aws(&e))?;
    Ok(Json(CredentialsResponse {
        access_key_id: session.access_key_id,
        secret_access_key: session.secret_access_key,
        session_token: session.session_token,
        expires_at: OffsetDateTime::from_unix_timestamp(session.expires_at_unix)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH),
    }))
}
