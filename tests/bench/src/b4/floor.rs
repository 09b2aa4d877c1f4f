//! The floor: a bare client applies the objects and makes the two writes that each needs before a tool calls it Ready, a
//! finalizer and a status.

use std::time::Instant;

use dagwright_testkit::control_plane::ControlPlane;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{APPLIERS, objects, tracker};

/// Seconds until all objects are seen Ready.
pub(super) async fn measure(each: u64) -> anyhow::Result<f64> {
    let plane = tokio::task::spawn_blocking(ControlPlane::start).await??;
    let client = plane.client().await;
    objects::make_namespace(&client).await?;
    let seen = tokio::spawn(tracker::all_ready(client.clone(), 2 * each));
    let began = Instant::now();
    let all = (0..each).flat_map(|n| [objects::dataset(n), objects::chain_sync(n)]);
    stream::iter(all)
        .map(|object| write(&client, object))
        .buffer_unordered(APPLIERS)
        .try_collect::<()>()
        .await?;
    seen.await??;
    let seconds = began.elapsed().as_secs_f64();
    tokio::task::spawn_blocking(move || drop(plane)).await?;
    Ok(seconds)
}

async fn write(client: &Client, object: Value) -> anyhow::Result<()> {
    let applied = objects::apply(client, &object).await?;
    let kind = object["kind"].as_str().unwrap_or_default();
    let (api, name) = (objects::api(client, kind), applied.name_any());
    let finalizer = json!({ "metadata": {
        "finalizers": ["dagwright.dev/finalizer"], "resourceVersion": applied.resource_version(),
    } });
    let finalized: DynamicObject =
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&finalizer)).await?;
    let status = json!({
        "apiVersion": "dagwright.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name, "resourceVersion": finalized.resource_version() },
        "status": status(kind, &name),
    });
    api.patch_status(&name, &PatchParams::apply("floor").force(), &Patch::Apply(&status)).await?;
    Ok(())
}

/// As long as what the controller writes.
fn status(kind: &str, name: &str) -> Value {
    let condition = |type_: &str, status: &str, reason: &str| {
        json!({
            "type": type_, "status": status, "reason": reason, "observedGeneration": 1,
            "message": format!("{kind} {name} is accepted"), "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    match kind {
        "Dataset" => json!({
            "observedGeneration": 1, "uuid": "00000000-0000-0000-0000-000000000000", "sqlName": format!("bench.{name}"),
            "partitions": 0, "rows": 0, "bytes": 0,
            "conditions": [condition("Ready", "True", "Succeeded"), condition("Serving", "False", "NothingServed")],
        }),
        _ => json!({
            "observedGeneration": 1, "semantics": 1, "progress": "0/1000",
            "streams": [{ "name": "core", "cursor": 0, "target": 1000, "inFlight": 0, "failed": 0 }],
            "conditions": [condition("Ready", "True", "Succeeded"), condition("Synced", "False", "CatchingUp")],
        }),
    }
}
