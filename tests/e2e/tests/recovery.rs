//! Kill anything at any moment: the work ends, each partition is committed once (I1, I10), nothing twice, nothing
//! missing (I9).

use dagwright_e2e::{
    World,
    checker::{assert_covered_once, assert_query_equals_node},
    manifests::LocalSync,
    processes::{hit_and_wait_for_successor, send, workers_of},
    wait_for, wait_for_within,
};
use nix::sys::signal::Signal;
use std::time::Duration;

const OUTPUTS: [&str; 3] = ["blocks", "transactions", "logs"];

/// Applies a sync of many small tasks and waits until some of them, but not all, are committed.
async fn sync_under_way<'a>(world: &World, namespace: &'a str, node: &'a str) -> LocalSync<'a> {
    let sync = LocalSync { chunk_size: 5, ..LocalSync::new(namespace, node) };
    world.apply(namespace, &sync.objects()).await;
    wait_for("the first commits", || async {
        match committed(world, namespace).await {
            0 => Err("nothing is committed".into()),
            n => Ok(n),
        }
    })
    .await;
    sync
}

async fn committed(world: &World, namespace: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM partition_versions WHERE namespace = $1 AND current")
        .bind(namespace)
        .fetch_one(&world.state)
        .await
        .expect("count partitions")
}

async fn ends_whole(world: &World, sync: &LocalSync<'_>) {
    let what = format!("{} to be Synced", sync.namespace);
    wait_for_within(Duration::from_secs(420), &what, || {
        world.condition("ChainSync", sync.namespace, "chain", "Synced", "True")
    })
    .await;
    assert_covered_once(world, sync.namespace, &OUTPUTS, sync.from, sync.to).await;
    let schema = dagwright_core::names::sql_schema_name(sync.namespace);
    let tables = ["chain_blocks", "chain_transactions", "chain_logs"];
    assert_query_equals_node(world, &schema, tables, world.url("EVM_RPC_URL"), sync.from, sync.to).await;
}

#[tokio::test]
async fn a_worker_killed_mid_range_loses_nothing() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let sync = sync_under_way(&world, "e2e-kill-worker", &node).await;
    let workers = workers_of(&world, "e2e-kill-worker");
    assert!(!workers.is_empty(), "a worker runs");
    workers.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
    ends_whole(&world, &sync).await;
}

#[tokio::test]
async fn a_dispatcher_and_the_leading_controller_killed_lose_nothing() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let sync = sync_under_way(&world, "e2e-kill-planes", &node).await;
    for process in ["dispatcher-0", "controller-0", "dispatcher-1", "controller-1"] {
        hit_and_wait_for_successor(process, Signal::SIGKILL).await;
    }
    ends_whole(&world, &sync).await;
}

#[tokio::test]
async fn postgres_restarted_loses_nothing() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let sync = sync_under_way(&world, "e2e-restart-postgres", &node).await;
    hit_and_wait_for_successor("postgres", Signal::SIGINT).await;
    wait_for("Postgres to answer", || async {
        sqlx::query("SELECT 1").execute(&world.state).await.map_err(|e| e.to_string())
    })
    .await;
    ends_whole(&world, &sync).await;
}

/// SIGTERM keeps queues and objects; SIGKILL loses the queues, which the controller then makes again, and what was queued is
/// published again.
#[tokio::test]
async fn the_aws_endpoint_restarted_and_killed_loses_nothing() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let sync = sync_under_way(&world, "e2e-restart-aws", &node).await;
    hit_and_wait_for_successor("ministack", Signal::SIGTERM).await;
    let before = committed(&world, "e2e-restart-aws").await;
    wait_for("work to go on", || async {
        match committed(&world, "e2e-restart-aws").await {
            n if n > before || n >= 240 => Ok(()),
            n => Err(format!("{n} partitions, as before")),
        }
    })
    .await;
    hit_and_wait_for_successor("ministack", Signal::SIGKILL).await;
    ends_whole(&world, &sync).await;
}
