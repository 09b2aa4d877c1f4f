use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_dag_is_checked_and_waits_for_its_engine() {
    let world = World::start().await;
    let mut dag = json!({
        "apiVersion": "dagwright.dev/v1alpha1", "kind": "Dag", "metadata": { "name": "erc20" },
        "spec": {
            "defaults": { "workerPoolRef": { "name": "ingest" } },
            "jobs": [{ "name": "a", "operator": "sql_transform", "outputs": [{ "name": "out" }] }]
        }
    });
    world.apply(&dag).await;
    world.stalled("Dag", "erc20", "EngineNotAvailable").await;
    let reads = |job: &str| json!([{ "name": "up", "from": { "job": { "name": job, "output": "out" } } }]);
    dag["spec"]["jobs"] = json!([
        { "name": "a", "operator": "sql_transform", "inputs": reads("b"), "outputs": [{ "name": "out" }] },
        { "name": "b", "operator": "sql_transform", "inputs": reads("a"), "outputs": [{ "name": "out" }] }
    ]);
    world.apply(&dag).await;
    let text = world.stalled("Dag", "erc20", "InvalidSpec").await;
    assert_eq!(text, "spec.jobs: jobs wait for each other: a <- b <- a");
    world.delete("Dag", "erc20").await;
    world.gone("Dag", "erc20").await;
}
