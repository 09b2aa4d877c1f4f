use dagwright_core::ids::DatasetId;
use dagwright_crds::Dataset;
use dagwright_state::{
    desired::datasets::{self, Producer},
    status::{self, DatasetProgress},
};

use crate::{context::Context, error::PassError, reconcile::place};

/// What is known of a Dataset.
pub(super) struct Observed {
    pub(super) id: DatasetId,
    pub(super) producer: Option<Producer>,
    pub(super) progress: DatasetProgress,
}

/// The id of a Dataset.
pub(super) fn id(ctx: &Context, dataset: &Dataset) -> DatasetId {
    let (namespace, name) = place(dataset);
    DatasetId::of(ctx.cluster_id, &namespace, &name)
}

pub(super) async fn observe(ctx: &Context, dataset: &Dataset) -> Result<Observed, PassError> {
    let id = id(ctx, dataset);
    let mut conn = ctx.read().await?;
    let producer = datasets::producer(&mut conn, id).await?;
    let progress = status::dataset(&mut conn, id).await?.unwrap_or_default();
    Ok(Observed { id, producer, progress })
}
