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
    watch::Change,
};

/// Datasets.
pub struct Datasets;

impl Kind for Datasets {
    type Object = Dataset;
    type Status = DatasetStatus;
    const KIND: &'static str = "Dataset";
    const FINALIZER: bool = true;

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

    /// A producer that came or went.
    fn concerned(ctx: &Context, change: &Change) -> Vec<(String, String)> {
        if change.kind != "ChainSync" {
            return vec![];
        }
        let all = ctx.stores.datasets.state();
        let in_namespace = all.iter().filter_map(|d| d.0.as_ref().ok()).filter(|d| {
            let deleting = d.metadata.deletion_timestamp.is_some();
            let theirs =
                d.status.as_ref().and_then(|s| s.producer.as_ref()).is_some_and(|p| p.name == change.name);
            d.metadata.namespace.as_deref() == Some(&change.namespace) && (deleting || theirs)
        });
        in_namespace.map(place).collect()
    }
}
