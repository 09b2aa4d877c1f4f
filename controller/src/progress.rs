//! What moves without anybody touching an object: asked of the state every other second, told to the controllers as changes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use dagwright_crds::{conditions::READY, status::ObjectStatus};
use dagwright_state::desired::progress;
use kube::{
    core::{DeserializeGuard, object::HasStatus},
    runtime::reflector::Store,
};
use tokio::time::MissedTickBehavior;

use crate::{
    context::Context,
    engine::Kind,
    error::PassError,
    reconcile::{
        chain_sync::ChainSyncs, dag::Dags, dataset::Datasets, rpc_pool::RpcPools, worker_pool::WorkerPools,
    },
    watch::Change,
};

/// How often the state is asked.
const POLL: Duration = Duration::from_secs(2);

/// Wakes objects whose status may have to show something new, until the process stops.
pub async fn follow(ctx: Arc<Context>) {
    let mut seen = HashMap::new();
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ctx.stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        gauges(&ctx);
        if let Err(error) = look(&ctx, &mut seen).await {
            tracing::warn!(error = error.chain(), "progress not read");
        }
    }
}

type Key = (&'static str, String, String);

async fn look(ctx: &Context, seen: &mut HashMap<Key, String>) -> Result<(), PassError> {
    let marks = progress::marks(&mut *ctx.read().await?).await?;
    for moved in marks {
        let Some(kind) = KINDS.into_iter().find(|k| *k == moved.kind) else { continue };
        let key = (kind, moved.namespace, moved.name);
        if seen.get(&key) == Some(&moved.mark) {
            continue;
        }
        let known = seen.contains_key(&key);
        // The pass that wrote an object has said all there is to say of it, until something happens.
        if !moved.untouched || known {
            // Who waits for a row sees it here first; and who waits for a Dataset, that its producer let it go.
            let alone = known && kind != Datasets::KIND;
            let (namespace, name) = (key.1.clone(), key.2.clone());
            // Nobody listening means that the controllers are stopping.
            let _ = ctx.changes.send(Change { kind, namespace, name, alone });
        }
        seen.insert(key, moved.mark);
    }
    Ok(())
}

const KINDS: [&str; 5] = [ChainSyncs::KIND, Datasets::KIND, WorkerPools::KIND, RpcPools::KIND, Dags::KIND];

/// Objects by kind and by what Ready says, for alerts that name no object.
fn gauges(ctx: &Context) {
    let stores = &ctx.stores;
    gauge::<ChainSyncs>(&stores.chain_syncs);
    gauge::<Datasets>(&stores.datasets);
    gauge::<WorkerPools>(&stores.worker_pools);
    gauge::<RpcPools>(&stores.rpc_pools);
    gauge::<Dags>(&stores.dags);
}

fn gauge<K: Kind>(store: &Store<DeserializeGuard<K::Object>>) {
    let mut counts = BTreeMap::from([("True", 0_u32), ("False", 0), ("Unknown", 0)]);
    for object in store.state() {
        let ready = object.0.as_ref().ok().and_then(|o| {
            let ready = o.status()?.conditions().iter().find(|c| c.type_ == READY)?;
            ["True", "False"].into_iter().find(|v| *v == ready.status)
        });
        *counts.entry(ready.unwrap_or("Unknown")).or_default() += 1;
    }
    for (ready, count) in counts {
        metrics::gauge!("dagwright_controller_objects", "kind" => K::KIND, "ready" => ready)
            .set(f64::from(count));
    }
}
