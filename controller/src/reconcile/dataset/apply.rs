use dagwright_crds::{Dataset, REQUESTED_AT};
use dagwright_state::desired::datasets;
use kube::ResourceExt;
use serde_json::json;

use super::observe::id;
use crate::{
    context::Context,
    error::PassError,
    reconcile::place,
    watch::{Change, DATASET_ROW},
};

/// Writes the Dataset's row, unless it was written as it is.
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
    let uid = dataset.uid().unwrap_or_default();
    let wanted = (&row, dataset.annotations().get(REQUESTED_AT));
    if ctx.memory.is_applied(&uid, &wanted) {
        return Ok(());
    }
    let mut tx = ctx.write().await?;
    let changed = datasets::upsert(&mut tx, &row).await?;
    ctx.commit(tx).await?;
    ctx.memory.applied(&uid, &wanted);
    if changed {
        let row = Change { kind: DATASET_ROW, namespace: row.namespace, name: row.name, alone: false };
        // Nobody listening means that the controllers are stopping.
        let _ = ctx.changes.send(row);
    }
    Ok(())
}
