use dagwright_crds::kstatus::{Kstatus, evaluate};
use serde_json::json;

use crate::{
    objects::{chain_sync, dataset, rpc_pool, worker_pool},
    world::{World, conditions, passes},
};

async fn with_pools() -> World {
    let world = World::start().await;
    world.apply(&rpc_pool("standard")).await;
    world.apply(&worker_pool("ingest")).await;
    world
}

async fn wants(world: &World) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM wants WHERE namespace = $1").bind(&world.namespace);
    count.fetch_one(&world.state).await.unwrap()
}

/// Asks for a pass over the ChainSync, and waits for its echo.
async fn request(world: &World) {
    world.annotate("ChainSync", "eth", "reconcile.fluxcd.io/requestedAt", Some("now")).await;
    let echoed = |o: &serde_json::Value| {
        (o["status"]["lastHandledReconcileAt"] == "now").then_some(()).ok_or_else(|| "not echoed".to_owned())
    };
    world.wait("ChainSync", "eth", echoed).await;
}

#[tokio::test]
async fn tools_see_progress_then_success_and_the_state_holds_the_jobs() {
    let world = with_pools().await;
    world.apply(&dataset("blocks", "blocks")).await;
    world.apply(&dataset("logs", "logs")).await;
    let fresh = world.apply(&chain_sync("eth", &[("blocks", "blocks"), ("logs", "logs")])).await;
    assert_eq!(evaluate(&fresh), Kstatus::InProgress, "nobody has looked at it");
    for (kind, name) in
        [("RpcPool", "standard"), ("WorkerPool", "ingest"), ("Dataset", "blocks"), ("ChainSync", "eth")]
    {
        let object = world.ready(kind, name).await;
        assert_eq!(evaluate(&object), Kstatus::Current, "{kind} {name}");
        assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"], "{kind} {name}");
    }
    let object = world.condition("ChainSync", "eth", "Synced", "False", "CatchingUp").await;
    assert_eq!(object["status"]["progress"], "0/1000");
    let rows = sqlx::query_as::<_, (String, i64, i64, i64)>(
        "SELECT j.name, j.target_end, j.chunk_size, (SELECT count(*) FROM job_outputs o JOIN dataset_versions USING (namespace, version) WHERE o.job_id = j.job_id)
         FROM jobs j WHERE namespace = $1 AND removed_at IS NULL",
    );
    let rows = rows.bind(&world.namespace).fetch_all(&world.state).await.unwrap();
    assert_eq!(rows, [("core".to_owned(), 1000, 100, 2)]);
    assert_eq!(wants(&world).await, 2);

    world.delete("ChainSync", "eth").await;
    world.gone("ChainSync", "eth").await;
    let left: (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM jobs WHERE namespace = $1 AND removed_at IS NULL), (SELECT count(*) FROM wants WHERE namespace = $1),
                (SELECT count(*) FROM dataset_producers JOIN datasets USING (dataset_id) WHERE namespace = $1)",
    )
    .bind(&world.namespace)
    .fetch_one(&world.state)
    .await
    .unwrap();
    assert_eq!(left, (0, 0, 0));
}

#[tokio::test]
async fn a_broken_reference_fails_and_mends_itself() {
    let world = with_pools().await;
    world.apply(&chain_sync("eth", &[("blocks", "blocks")])).await;
    let text = world.stalled("ChainSync", "eth", "DependencyMissing").await;
    assert!(text.starts_with("spec.streams[0].outputs[0].datasetRef: there is no Dataset blocks"), "{text}");
    let object = world.get("ChainSync", "eth").await.unwrap();
    assert_eq!(evaluate(&object), Kstatus::Failed);
    assert!(conditions(&object).iter().all(|c| c["type"] != "Reconciling"), "never both: {object:#}");
    assert_eq!(world.events("ChainSync", "eth").await, ["DependencyMissing"]);

    world.apply(&dataset("blocks", "blocks")).await;
    let object = world.ready("ChainSync", "eth").await;
    assert!(conditions(&object).iter().all(|c| c["type"] != "Stalled"), "{object:#}");
}

#[tokio::test]
async fn a_dataset_has_one_producer_and_the_next_one_takes_over() {
    let world = with_pools().await;
    world.apply(&dataset("blocks", "blocks")).await;
    world.apply(&chain_sync("first", &[("blocks", "blocks")])).await;
    world.ready("ChainSync", "first").await;
    world.apply(&chain_sync("second", &[("blocks", "blocks")])).await;
    let text = world.stalled("ChainSync", "second", "ProducerConflict").await;
    assert!(text.contains("Dataset blocks is produced by ChainSync first (core)"), "{text}");
    let jobs: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE namespace = $1 AND owner_name = 'second'")
            .bind(&world.namespace)
            .fetch_one(&world.state)
            .await
            .unwrap();
    assert_eq!(jobs, 0, "nothing of it is planned");
    world.delete("ChainSync", "first").await;
    world.ready("ChainSync", "second").await;
}

#[tokio::test]
async fn a_dataset_that_is_applied_with_its_producer_names_it_with_its_first_word() {
    let world = with_pools().await;
    world.ready("WorkerPool", "ingest").await;
    world.apply(&chain_sync("eth", &[("blocks", "blocks")])).await;
    world.apply(&dataset("blocks", "blocks")).await;
    let object = world.ready("Dataset", "blocks").await;
    assert_eq!(object["status"]["producer"]["name"], "eth", "{object:#}");
}

#[tokio::test]
async fn what_the_state_lost_is_written_again_on_request() {
    let world = with_pools().await;
    world.apply(&dataset("blocks", "blocks")).await;
    world.apply(&chain_sync("eth", &[("blocks", "blocks")])).await;
    world.ready("ChainSync", "eth").await;
    sqlx::query("DELETE FROM wants WHERE namespace = $1")
        .bind(&world.namespace)
        .execute(&world.state)
        .await
        .unwrap();
    request(&world).await;
    assert_eq!(wants(&world).await, 1);
}

#[tokio::test]
async fn suspended_and_paused_are_honoured() {
    let world = with_pools().await;
    world.apply(&dataset("blocks", "blocks")).await;
    let mut sync = chain_sync("eth", &[("blocks", "blocks")]);
    world.apply(&sync).await;
    world.ready("ChainSync", "eth").await;
    sync["spec"]["suspend"] = json!(true);
    world.apply(&sync).await;
    world.condition("ChainSync", "eth", "Suspended", "True", "SuspendedBySpec").await;
    world.ready("ChainSync", "eth").await;
    let suspended: bool = sqlx::query_scalar("SELECT suspended FROM jobs WHERE namespace = $1")
        .bind(&world.namespace)
        .fetch_one(&world.state)
        .await
        .unwrap();
    assert!(suspended);

    world.annotate("ChainSync", "eth", "dagwright.dev/paused", Some("true")).await;
    sync["spec"]["suspend"] = json!(false);
    sync["metadata"]["annotations"] = json!({ "dagwright.dev/paused": "true" });
    let before = passes("ChainSync").await;
    let edited = world.apply(&sync).await;
    world.passes("ChainSync", before, 1.0).await;
    let left = world.get("ChainSync", "eth").await.unwrap();
    assert_ne!(left["status"]["observedGeneration"], edited["metadata"]["generation"], "it is left alone");
    world.annotate("ChainSync", "eth", "dagwright.dev/paused", None).await;
    let object = world.ready("ChainSync", "eth").await;
    assert!(conditions(&object).iter().all(|c| c["type"] != "Suspended"), "{object:#}");

    request(&world).await;
}

#[tokio::test]
async fn an_idle_object_is_not_written() {
    let world = with_pools().await;
    world.apply(&dataset("blocks", "blocks")).await;
    world.apply(&chain_sync("eth", &[("blocks", "blocks")])).await;
    world.ready("ChainSync", "eth").await;
    // The producer's name reaches the Dataset a moment later.
    let named = |o: &serde_json::Value| {
        (o["status"]["producer"]["name"] == "eth").then_some(()).ok_or_else(|| "no producer".to_owned())
    };
    world.wait("Dataset", "blocks", named).await;
    let version = |o: &serde_json::Value| o["metadata"]["resourceVersion"].clone();
    let sync = version(&world.get("ChainSync", "eth").await.unwrap());
    for n in 0..3 {
        // A request to a neighbour makes the ChainSync look again.
        let before = passes("ChainSync").await;
        world.annotate("RpcPool", "standard", "reconcile.fluxcd.io/requestedAt", Some(&n.to_string())).await;
        world.passes("ChainSync", before, 1.0).await;
    }
    assert_eq!(version(&world.get("ChainSync", "eth").await.unwrap()), sync);
}
