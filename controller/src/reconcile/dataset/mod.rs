//! Datasets: rows that hold pointers, and what they point at.

mod apply;
mod observe;
mod status;
mod validate;

use std::time::Duration;

use dagwright_crds::{Dataset, DatasetStatus, common::DeletionPolicy, conditions::IN_USE};
use dagwright_state::desired::datasets;

use super::place;
use crate::{
    context::Context,
    engine::{Cleanup, Kind, Pass, Verdict},
    error::PassError,
    references::Target,
};

/// Datasets.
pub struct Datasets;

impl Kind for Datasets {
    type Object = Dataset;
    type Status = DatasetStatus;
    const KIND: &'static str = "Dataset";
    const FINALIZER: bool = true;
    const CONCURRENCY: u16 = 16;

    /// 1. Check what the schema cannot.
    /// 2. Write the row.
    /// 3. Read what it points at.
    /// 4. Say so.
    async fn reconcile(ctx: &Context, dataset: &Dataset) -> Result<Pass<DatasetStatus>, PassError> {
        if let Err(stall) = validate::storage(&dataset.spec) {
            return Ok(Pass::of(Verdict::Stalled(stall)));
        }
        apply::row(ctx, dataset).await?;
        let seen = observe::observe(ctx, dataset).await?;
        Ok(status::pass(dataset, &seen))
    }

    /// The pointer goes when nobody writes to it any more; the data goes as `deletionPolicy` says.
    async fn cleanup(ctx: &Context, dataset: &Dataset) -> Result<Cleanup, PassError> {
        let id = observe::id(ctx, dataset);
        let producer = datasets::producer(&mut *ctx.read().await?, id).await?;
        if let Some(p) = producer {
            let (_, name) = place(dataset);
            return Ok(Cleanup::Waiting {
                reason: IN_USE,
                message: format!(
                    "Dataset {name} is still written by {} {} ({}); remove that output, or delete it, and deletion goes on by itself",
                    p.owner_kind, p.owner_name, p.job
                ),
                again: Duration::from_secs(15),
            });
        }
        let forget = dataset.spec.deletion_policy == Some(DeletionPolicy::Delete);
        let mut tx = ctx.write().await?;
        datasets::delete(&mut tx, id, forget).await?;
        ctx.commit(tx).await?;
        Ok(Cleanup::Done)
    }

    /// The producer; any ChainSync while it is being deleted, because it waits for producers to let go.
    fn references(dataset: &Dataset) -> Vec<Target> {
        let (namespace, _) = place(dataset);
        let deleting = dataset.metadata.deletion_timestamp.is_some().then(String::new);
        let producer = dataset.status.as_ref().and_then(|s| s.producer.as_ref()).map(|p| p.name.clone());
        deleting.into_iter().chain(producer).map(|name| ("ChainSync", namespace.clone(), name)).collect()
    }
}
