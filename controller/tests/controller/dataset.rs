use serde_json::json;

use crate::{
    objects::{chain_sync, dataset, rpc_pool, worker_pool},
    world::{World, message},
};

#[tokio::test]
async fn a_dataset_in_use_waits_for_its_producer() {
    let world = World::start().await;
    world.apply(&rpc_pool("standard")).await;
    world.apply(&worker_pool("ingest")).await;
    world.apply(&dataset("blocks", "blocks")).await;
    world.apply(&chain_sync("eth", &[("blocks", "blocks")])).await;
    world.ready("ChainSync", "eth").await;
    let object = world.ready("Dataset", "blocks").await;
    let uuid = object["status"]["uuid"].clone();
    world.delete("Dataset", "blocks").await;
    let waits = world
        .wait("Dataset", "blocks", |o| {
            message(o, "Stalled")
                .contains("still written by ChainSync eth")
                .then_some(())
                .ok_or_else(|| "no InUse".into())
        })
        .await;
    assert_eq!(waits["metadata"]["finalizers"], json!(["dagwright.dev/cleanup"]));
    world.delete("ChainSync", "eth").await;
    world.gone("Dataset", "blocks").await;

    world.apply(&dataset("blocks", "blocks")).await;
    let again = world.ready("Dataset", "blocks").await;
    assert_eq!(again["status"]["uuid"], uuid, "a re-created object finds its data");
}

#[tokio::test]
async fn storage_that_is_not_there_yet_is_told() {
    let world = World::start().await;
    let mut object = dataset("rows", "blocks");
    object["spec"]["storage"] = json!({ "postgres": {} });
    world.apply(&object).await;
    let text = world.stalled("Dataset", "rows", "StorageNotAvailable").await;
    assert!(text.starts_with("spec.storage:"), "{text}");
}
