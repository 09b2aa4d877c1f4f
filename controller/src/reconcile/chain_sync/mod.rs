//! ChainSyncs: their streams become jobs, their outputs versions and wants, in one transaction.
//!
//! The controller reads nothing from a chain: what the tip is, and which block lies at a border, is the dispatcher's to find out.

mod apply;
mod decide;
mod observe;
mod status;
mod validate;

use dagwright_crds::{ChainSync, ChainSyncStatus};
use dagwright_state::desired::chain_syncs;

use super::place;
use crate::{
    context::Context,
    engine::{Cleanup, Kind, Pass},
    error::PassError,
    references::Target,
};

/// ChainSyncs.
pub struct ChainSyncs;

impl Kind for ChainSyncs {
    type Object = ChainSync;
    type Status = ChainSyncStatus;
    const KIND: &'static str = "ChainSync";
    const FINALIZER: bool = true;
    const CONCURRENCY: u16 = 16;

    /// 1. Resolve what the spec names.
    /// 2. Check.
    /// 3. Decide jobs, versions and wants.
    /// 4. Write them, unless they are, or a Dataset is somebody else's.
    /// 5. Read the progress and say it.
    async fn reconcile(ctx: &Context, sync: &ChainSync) -> Result<Pass<ChainSyncStatus>, PassError> {
        let seen = observe::observe(ctx, sync);
        let wanted = match validate::validate(sync, &seen) {
            Ok(wanted) => decide::owner(ctx.cluster_id, sync, &wanted),
            Err(stall) => {
                let progress = observe::earlier(ctx, sync).await?;
                return Ok(status::stalled(sync, &progress, stall));
            }
        };
        if !apply::is_applied(ctx, sync, &wanted) {
            if observe::early(ctx, &wanted).await? {
                let progress = observe::earlier(ctx, sync).await?;
                return Ok(status::early(sync, &progress));
            }
            let conflicts = apply::apply(ctx, sync, &wanted).await?;
            if let Some(stall) = status::conflict(sync, &wanted, &conflicts) {
                let progress = observe::progress(ctx, sync).await?;
                return Ok(status::stalled(sync, &progress, stall));
            }
        }
        let progress = observe::progress(ctx, sync).await?;
        Ok(status::pass(sync, &wanted, &progress, observe::at_rest(ctx, sync)))
    }

    /// Nothing is planned any more and what runs is cancelled; committed data stays with its Datasets.
    async fn cleanup(ctx: &Context, sync: &ChainSync) -> Result<Cleanup, PassError> {
        let (namespace, name) = place(sync);
        let mut tx = ctx.write().await?;
        chain_syncs::remove(&mut tx, &namespace, &name).await?;
        ctx.commit(tx).await?;
        Ok(Cleanup::Done)
    }

    /// Whatever the spec names, and other ChainSyncs that may let a Dataset go.
    fn references(sync: &ChainSync) -> Vec<Target> {
        observe::references(sync)
    }
}
