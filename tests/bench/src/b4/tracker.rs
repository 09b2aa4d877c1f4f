//! Which objects are Ready at their current generation, as a watch tells it.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream::SelectAll};
use kube::{
    Client, ResourceExt as _,
    api::DynamicObject,
    runtime::{WatchStreamExt as _, watcher},
};

use super::objects::{KINDS, api};

/// Longest wait for the next object to turn Ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns when so many objects of both kinds together were seen Ready. Start it before the first of them is applied.
pub(super) async fn all_ready(client: Client, wanted: u64) -> anyhow::Result<()> {
    let watch =
        |kind: &&str| watcher(api(&client, kind), watcher::Config::default()).applied_objects().boxed();
    let mut events: SelectAll<_> = KINDS.iter().map(watch).collect();
    let mut ready = HashSet::new();
    while (ready.len() as u64) < wanted {
        let next = tokio::time::timeout(PATIENCE, events.try_next()).await;
        let Ok(next) = next else {
            bail!(
                "{} of {wanted} objects turned Ready, and none more in {} s",
                ready.len(),
                PATIENCE.as_secs()
            )
        };
        let object = next.context("watch objects")?.context("a watch ended")?;
        if is_ready(&object) {
            ready.insert(object.uid());
        }
    }
    Ok(())
}

pub(super) fn is_ready(object: &DynamicObject) -> bool {
    let generation = object.metadata.generation;
    let conditions = object.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| {
        c["type"] == "Ready" && c["status"] == "True" && c["observedGeneration"].as_i64() == generation
    })
}
