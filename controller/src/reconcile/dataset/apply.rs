use dagwright_crds::Dataset;
use dagwright_state::desired::datasets;
use serde_json::json;

use super::observe::id;
use crate::{
    context::Context,
    error::PassError,
    reconcile::place,
    watch::{Change, DATASET_ROW},
};

/// Writes the Dataset's row.
pub(super) async fn row(ctx: &Context, dataset: &Dataset) -> Result<(), PassError> {
    let (namespace, name) = place(dataset);
    let row = datasets::Dataset {
        dataset_id: id(ctx, dataset),
        namespace,
        name,
        storage: json!(dataset.spec.storage),
        schema: json!(dataset.spec.schema),
        read_roles: dataset.spec.read_roles.clone(),
        share_with: dataset.spec.share_with.iter().map(|s| s.namespace.clone()).collect(),
        generation: dataset.metadata.generation.unwrap_or(0),
    };
    let mut tx = ctx.write().await?;
    let changed = datasets::upsert(&mut tx, &row).await?;
    ctx.commit(tx).await?;
    if changed {
        // Nobody listening means that the controllers are stopping.
        let _ = ctx.changes.send(Change { kind: DATASET_ROW, namespace: row.namespace, name: row.name });
    }
    Ok(())
}
