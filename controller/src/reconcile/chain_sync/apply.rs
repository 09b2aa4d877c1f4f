use dagwright_state::desired::chain_syncs::{self, Conflict, Owner};

use crate::{context::Context, error::PassError};

/// Writes everything in one transaction, or nothing when a Dataset is somebody else's.
pub(super) async fn apply(ctx: &Context, owner: &Owner) -> Result<Vec<Conflict>, PassError> {
    let mut tx = ctx.write().await?;
    let conflicts = chain_syncs::apply(&mut tx, owner).await?;
    if conflicts.is_empty() {
        ctx.commit(tx).await?;
    }
    Ok(conflicts)
}
