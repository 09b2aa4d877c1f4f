use dagwright_crds::{ChainSync, REQUESTED_AT};
use dagwright_state::desired::chain_syncs::{self, Conflict, Owner};
use kube::ResourceExt;

use crate::{context::Context, error::PassError};

/// Whether the state holds it already. A ChainSync that copies a chain is looked at every other second, and wants the same for days.
pub(super) fn is_applied(ctx: &Context, sync: &ChainSync, owner: &Owner) -> bool {
    ctx.memory.is_applied(&sync.uid().unwrap_or_default(), &(owner, requested_at(sync)))
}

/// Writes everything in one transaction, or nothing when a Dataset is somebody else's.
pub(super) async fn apply(
    ctx: &Context,
    sync: &ChainSync,
    owner: &Owner,
) -> Result<Vec<Conflict>, PassError> {
    let mut tx = ctx.write().await?;
    let conflicts = chain_syncs::apply(&mut tx, owner).await?;
    if conflicts.is_empty() {
        ctx.commit(tx).await?;
        ctx.memory.applied(&sync.uid().unwrap_or_default(), &(owner, requested_at(sync)));
    }
    Ok(conflicts)
}

/// Who asks for a pass wants all of it.
fn requested_at(sync: &ChainSync) -> Option<&String> {
    sync.annotations().get(REQUESTED_AT)
}
