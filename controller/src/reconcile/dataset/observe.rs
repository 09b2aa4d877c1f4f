use dagwright_core::ids::DatasetId;
use dagwright_crds::Dataset;
use dagwright_state::{
    desired::datasets::{self, Producer},
    status::{self, DatasetProgress},
};

use super::Datasets;
use crate::{
    context::{Context, live},
    engine::Kind,
    error::PassError,
    reconcile::{chain_sync::ChainSyncs, is_unsaid, place},
    watch::Change,
};

/// What is known of a Dataset.
pub(super) struct Observed {
    pub(super) id: DatasetId,
    pub(super) producer: Option<Producer>,
    /// Whether a ChainSync names the Dataset of which nothing was said yet: it may be about to become the producer.
    pub(super) is_awaited: bool,
    pub(super) progress: DatasetProgress,
}

/// The id of a Dataset.
pub(super) fn id(ctx: &Context, dataset: &Dataset) -> DatasetId {
    let (namespace, name) = place(dataset);
    DatasetId::of(ctx.cluster_id, &namespace, &name)
}

pub(super) async fn observe(ctx: &Context, dataset: &Dataset) -> Result<Observed, PassError> {
    let id = id(ctx, dataset);
    let mut conn = ctx.read_as_leader().await?;
    let producer = datasets::producer(&mut conn, id).await?;
    let progress = status::dataset(&mut conn, id).await?.unwrap_or_default();
    Ok(Observed { id, producer, is_awaited: is_awaited(ctx, dataset), progress })
}

fn is_awaited(ctx: &Context, dataset: &Dataset) -> bool {
    let (namespace, name) = place(dataset);
    let change = Change { kind: Datasets::KIND, namespace, name, alone: false };
    let named_by = ctx.references.concerned(ChainSyncs::KIND, &change);
    let mut syncs =
        named_by.iter().filter_map(|(namespace, name)| live(&ctx.stores.chain_syncs, namespace, name));
    syncs.any(|sync| is_unsaid(sync.status.as_ref()))
}
