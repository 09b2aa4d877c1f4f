use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dagwright_crds::{
    ChainSync, Dataset, RpcPool, WorkerPool,
    conditions::{PRODUCER_CONFLICT, STALLED},
};
use dagwright_state::{
    desired::chain_syncs::{self, Owner},
    status::{self, ChainSyncProgress},
};
use kube::ResourceExt;

use crate::{
    context::{Context, live},
    error::PassError,
    reconcile::{is_unsaid, place},
    references::Target,
    watch::DATASET_ROW,
};

/// The objects that a spec names, those that exist.
#[derive(Default)]
pub(super) struct Observed {
    pub(super) worker_pool: Option<Arc<WorkerPool>>,
    pub(super) rpc_pools: BTreeMap<String, Arc<RpcPool>>,
    pub(super) datasets: BTreeMap<String, Arc<Dataset>>,
}

/// Looks up what the spec names.
pub(super) fn observe(ctx: &Context, sync: &ChainSync) -> Observed {
    let (namespace, _) = place(sync);
    let mut seen = Observed {
        worker_pool: live(&ctx.stores.worker_pools, &namespace, &sync.spec.worker_pool_ref.name),
        ..Observed::default()
    };
    for stream in &sync.spec.streams {
        let pool = &stream.rpc_pool_ref.name;
        seen.rpc_pools.extend(live(&ctx.stores.rpc_pools, &namespace, pool).map(|p| (pool.clone(), p)));
        for output in &stream.outputs {
            let dataset = &output.dataset_ref.name;
            seen.datasets
                .extend(live(&ctx.stores.datasets, &namespace, dataset).map(|d| (dataset.clone(), d)));
        }
    }
    seen
}

/// Whether an object that the spec names was not reconciled itself yet.
pub(super) async fn early(ctx: &Context, wanted: &Owner) -> Result<bool, PassError> {
    Ok(!chain_syncs::unwritten(&mut *ctx.read().await?, wanted).await?.is_empty())
}

/// Reads how far the streams are of a ChainSync that cannot be written as it stands: nothing, when it never could.
pub(super) async fn earlier(ctx: &Context, sync: &ChainSync) -> Result<ChainSyncProgress, PassError> {
    if is_unsaid(sync.status.as_ref()) { Ok(ChainSyncProgress::default()) } else { progress(ctx, sync).await }
}

/// Reads how far the streams are.
pub(super) async fn progress(ctx: &Context, sync: &ChainSync) -> Result<ChainSyncProgress, PassError> {
    let (namespace, name) = place(sync);
    Ok(status::chain_sync(&mut *ctx.read_as_leader().await?, &namespace, &name).await?)
}

/// For how long nothing has moved.
pub(super) fn at_rest(ctx: &Context, sync: &ChainSync) -> Duration {
    ctx.memory.at_rest(&sync.uid().unwrap_or_default())
}

/// What decides over a ChainSync beside its own spec.
pub(super) fn references(sync: &ChainSync) -> Vec<Target> {
    let (namespace, _) = place(sync);
    let spec = &sync.spec;
    let mut named = vec![("WorkerPool", spec.worker_pool_ref.name.clone())];
    for stream in &spec.streams {
        named.push(("RpcPool", stream.rpc_pool_ref.name.clone()));
        for output in &stream.outputs {
            let dataset = &output.dataset_ref.name;
            named.extend([("Dataset", dataset.clone()), (DATASET_ROW, dataset.clone())]);
        }
    }
    let conditions = sync.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    if conditions.iter().any(|c| c.type_ == STALLED && c.reason == PRODUCER_CONFLICT) {
        named.push(("ChainSync", String::new()));
    }
    named.sort_unstable();
    named.dedup();
    named.into_iter().map(|(kind, name)| (kind, namespace.clone(), name)).collect()
}
