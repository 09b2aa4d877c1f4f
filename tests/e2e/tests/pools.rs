//! Workers come and go while work goes on: nothing is lost, and no attempt is spent (I7).

use std::time::Duration;

use dagwright_e2e::{
    World,
    checker::assert_covered_once,
    manifests::{LocalSync, worker_pool},
    processes::{environment_of, workers_of},
    wait_for, wait_for_within,
};
use serde_json::{Value, json};

const OUTPUTS: [&str; 3] = ["blocks", "transactions", "logs"];

async fn committed(world: &World, namespace: &str) -> i64 {
    let sql = "SELECT count(*) FROM partition_versions WHERE namespace = $1 AND current";
    sqlx::query_scalar(sql).bind(namespace).fetch_one(&world.state).await.expect("count partitions")
}

async fn more_than(world: &World, namespace: &str, before: i64) -> i64 {
    wait_for("further commits", || async {
        match committed(world, namespace).await {
            n if n > before => Ok(n),
            n => Err(format!("{n} partitions")),
        }
    })
    .await
}

/// Every attempt committed, or was handed back unspent.
async fn assert_nothing_spent(world: &World, namespace: &str) {
    let sql = "SELECT a.state, count(*) FROM attempts a JOIN task_history h USING (task_id) JOIN jobs j USING (job_id)
               WHERE j.namespace = $1 GROUP BY 1 ORDER BY 1";
    let states: Vec<(String, i64)> =
        sqlx::query_as(sql).bind(namespace).fetch_all(&world.state).await.expect("count attempts");
    assert!(states.iter().all(|(state, _)| state == "Succeeded" || state == "Released"), "{states:?}");
    assert!(states.iter().any(|(state, n)| state == "Succeeded" && *n > 0), "{states:?}");
}

/// As Spot does: the container of a worker process is told to end and killed after its stop timeout. Says whether it was told.
async fn interrupt(world: &World, pid: i32) -> bool {
    let engine = reqwest::Client::builder()
        .unix_socket(world.url("DAGWRIGHT_FARGATE_SOCKET"))
        .build()
        .expect("a client");
    let hostname =
        environment_of(pid).into_iter().find_map(|e| e.strip_prefix("HOSTNAME=").map(str::to_owned));
    let Some(id) = hostname else { return false };
    let answer = engine
        .post(format!("http://engine/containers/{id}/interrupt"))
        .send()
        .await
        .expect("the engine answers");
    // It may have ended meanwhile.
    assert!(answer.status().is_success() || answer.status().is_client_error(), "{}", answer.status());
    answer.status().is_success()
}

async fn ends(world: &World, sync: &LocalSync<'_>) {
    let what = format!("{} to be Synced", sync.namespace);
    wait_for_within(Duration::from_secs(420), &what, || {
        world.condition("ChainSync", sync.namespace, "chain", "Synced", "True")
    })
    .await;
    assert_covered_once(world, sync.namespace, &OUTPUTS, sync.from, sync.to).await;
}

fn with(mut pool: Value, field: &str, value: Value) -> Value {
    pool["spec"][field] = value;
    pool
}

#[tokio::test]
async fn workers_on_demand_are_interrupted_and_replaced_and_nothing_is_spent() {
    let world = World::enter().await;
    let namespace = "e2e-pool-on-demand";
    let node = world.url("EVM_RPC_URL").to_owned();
    let sync = LocalSync { chunk_size: 5, ..LocalSync::new(namespace, &node) };
    let pool = with(worker_pool(namespace), "run", json!({ "onDemand": { "max": 2 } }));
    let capacity = json!([{ "provider": "FARGATE_SPOT", "weight": 4 }, { "provider": "FARGATE", "weight": 1, "base": 1 }]);
    let pool = with(pool, "capacity", capacity);
    let mut objects = sync.objects();
    let place = objects.iter().position(|o| o["kind"] == "WorkerPool").expect("the sync has a pool");
    objects[place] = pool.clone();
    world.apply(namespace, &objects).await;
    more_than(&world, namespace, 0).await;
    let taken = workers_of(&world, namespace);
    let mut interrupted = 0;
    for pid in &taken {
        interrupted += usize::from(interrupt(&world, *pid).await);
    }
    assert!(interrupted > 0, "none of {taken:?} could be interrupted");
    // Another revision: the workers that took over end what they hold, then go.
    let old = wait_for("workers to take over", || async {
        let now: Vec<_> =
            workers_of(&world, namespace).into_iter().filter(|pid| !taken.contains(pid)).collect();
        if now.is_empty() { Err(format!("{taken:?} were taken, none came")) } else { Ok(now) }
    })
    .await;
    world.apply(namespace, &[with(pool, "slots", json!(3))]).await;
    wait_for("the old workers to end", || async {
        let left: Vec<_> =
            workers_of(&world, namespace).into_iter().filter(|pid| old.contains(pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} run")) }
    })
    .await;
    ends(&world, &sync).await;
    assert_nothing_spent(&world, namespace).await;
    wait_for("nothing to run when idle", || async {
        let left = workers_of(&world, namespace);
        let pool = world.get("WorkerPool", namespace, "ingest").await?;
        let workers = &pool["status"]["workers"];
        match (left.is_empty(), workers["running"] == 0) {
            (true, true) => Ok(()),
            _ => Err(format!("{left:?} run, status says {workers}")),
        }
    })
    .await;
    world.delete("ChainSync", namespace, "chain").await;
    world.delete("WorkerPool", namespace, "ingest").await;
}

#[tokio::test]
async fn a_pool_that_cannot_pull_its_image_says_so_and_recovers_by_a_roll_out() {
    let world = World::enter().await;
    let namespace = "e2e-pool-image";
    let node = world.url("EVM_RPC_URL").to_owned();
    let sync = LocalSync { chunk_size: 5, ..LocalSync::new(namespace, &node) };
    let mut objects = sync.objects();
    let place = objects.iter().position(|o| o["kind"] == "WorkerPool").expect("the sync has a pool");
    let good = objects[place].clone();
    objects[place] = with(good.clone(), "image", json!("dagwright/worker:not-there"));
    world.apply(namespace, &objects).await;
    wait_for("ECS's own words", || async {
        let condition = world.condition("WorkerPool", namespace, "ingest", "ServiceReady", "False").await?;
        let message = condition["message"].as_str().unwrap_or_default();
        let said = condition["reason"] == "StartFailed" && message.contains("CannotPullContainerError");
        if said { Ok(()) } else { Err(condition.to_string()) }
    })
    .await;
    world.apply(namespace, std::slice::from_ref(&good)).await;
    world.wait_condition("WorkerPool", namespace, "ingest", "Ready", "True").await;
    let first = more_than(&world, namespace, 0).await;
    // Back to the image that is not there: the workers that run go on, and the next one that can start takes over.
    world.apply(namespace, &[with(good.clone(), "image", json!("dagwright/worker:not-there"))]).await;
    world.wait_condition("WorkerPool", namespace, "ingest", "ServiceReady", "False").await;
    more_than(&world, namespace, first).await;
    world.apply(namespace, &[with(good, "slots", json!(3))]).await;
    world.wait_condition("WorkerPool", namespace, "ingest", "Ready", "True").await;
    ends(&world, &sync).await;
    assert_nothing_spent(&world, namespace).await;
    world.delete("ChainSync", namespace, "chain").await;
    world.delete("WorkerPool", namespace, "ingest").await;
}
