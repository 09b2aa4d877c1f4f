//! Changing a stream at work: coverage stays disjoint and ends full.

use dagwright_e2e::{World, checker::assert_covered_once, manifests::LocalSync, wait_for};
use serde_json::json;

async fn committed(world: &World, namespace: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM partition_versions WHERE namespace = $1 AND current")
        .bind(namespace)
        .fetch_one(&world.state)
        .await
        .expect("count partitions")
}

async fn wait_for_some(world: &World, namespace: &str) {
    wait_for("the first commits", || async {
        if committed(world, namespace).await > 0 { Ok(()) } else { Err("nothing is committed".into()) }
    })
    .await;
}

#[tokio::test]
async fn a_chunk_size_changed_half_way_shapes_new_ranges_only() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let first = LocalSync { chunk_size: 7, to: 200, ..LocalSync::new("e2e-chunk", &node) };
    world.apply("e2e-chunk", &first.objects()).await;
    wait_for_some(&world, "e2e-chunk").await;
    let second = LocalSync { chunk_size: 13, ..first };
    world.apply("e2e-chunk", &[second.chain_sync()]).await;
    world.wait_condition("ChainSync", "e2e-chunk", "chain", "Synced", "True").await;
    assert_covered_once(&world, "e2e-chunk", second.outputs, 0, 200).await;
}

#[tokio::test]
async fn an_output_added_to_a_stream_at_work_catches_up() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let first =
        LocalSync { chunk_size: 10, to: 200, outputs: &["blocks"], ..LocalSync::new("e2e-output", &node) };
    world.apply("e2e-output", &first.objects()).await;
    wait_for_some(&world, "e2e-output").await;
    let second = LocalSync { outputs: &["blocks", "logs"], ..first };
    world.apply("e2e-output", &[second.chain_sync()]).await;
    world.wait_condition("ChainSync", "e2e-output", "chain", "Synced", "True").await;
    assert_covered_once(&world, "e2e-output", second.outputs, 0, 200).await;
}

#[tokio::test]
async fn a_suspended_sync_stops_planning_and_ends_when_resumed() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let sync = LocalSync { chunk_size: 4, ..LocalSync::new("e2e-suspend", &node) };
    world.apply("e2e-suspend", &sync.objects()).await;
    wait_for_some(&world, "e2e-suspend").await;
    world.apply("e2e-suspend", &[sync.chain_sync_with(json!({ "suspend": true }))]).await;
    world.wait_condition("ChainSync", "e2e-suspend", "chain", "Suspended", "True").await;
    wait_for("what was in flight to end", || async {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM tasks JOIN jobs USING (job_id) WHERE namespace = 'e2e-suspend' AND state = 'Running'")
            .fetch_one(&world.state)
            .await
            .map_err(|e| e.to_string())?;
        if left == 0 { Ok(()) } else { Err(format!("{left} tasks are running")) }
    })
    .await;
    assert!(committed(&world, "e2e-suspend").await < 300, "it stopped before the end");
    world.apply("e2e-suspend", &[sync.chain_sync_with(json!({ "suspend": false }))]).await;
    world.wait_condition("ChainSync", "e2e-suspend", "chain", "Synced", "True").await;
    assert_covered_once(&world, "e2e-suspend", sync.outputs, sync.from, sync.to).await;
}

#[tokio::test]
async fn a_followed_head_stays_behind_the_safe_block_and_moves_with_it() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let sync = LocalSync { chunk_size: 50, ..LocalSync::new("e2e-follow", &node) };
    let mut objects = sync.objects();
    objects.pop();
    objects.push(
        sync.chain_sync_with(json!({ "mode": { "followHead": { "from": 0, "behind": { "blocks": 10 } } } })),
    );
    world.apply("e2e-follow", &objects).await;
    world.wait_condition("ChainSync", "e2e-follow", "chain", "Synced", "True").await;
    let object = world.get("ChainSync", "e2e-follow", "chain").await.expect("the ChainSync");
    let stream = &object["status"]["streams"][0];
    let (head, target) =
        (object["status"]["head"].as_u64().expect("a head"), stream["target"].as_u64().expect("a target"));
    assert!(target <= head + 1 - 10, "target {target} stays 10 blocks behind head {head}");
}
