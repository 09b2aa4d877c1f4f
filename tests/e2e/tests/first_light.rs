//! The main job as a newcomer meets it, and once more where names are hard.

use std::process::Command;

use dagwright_core::names::sql_schema_name;
use dagwright_crds::kstatus::{self, Kstatus};
use dagwright_e2e::{
    World,
    checker::{assert_covered_once, assert_query_equals_node},
    manifests::LocalSync,
    wait_for,
};
use serde_json::Value;

/// `dagwright up` brought both chains to Synced; what it shows is true.
#[tokio::test]
async fn first_light_ends_synced_and_tells_the_truth() {
    let world = World::enter().await;
    for sync in ["local", "mainnet"] {
        world.wait_condition("ChainSync", "demo", sync, "Ready", "True").await;
        world.wait_condition("ChainSync", "demo", sync, "Synced", "True").await;
    }
    for kind in ["blocks", "transactions", "logs"] {
        for chain in ["local", "mainnet"] {
            world.wait_condition("Dataset", "demo", &format!("{chain}-{kind}"), "Ready", "True").await;
        }
    }
    let local = world.get("ChainSync", "demo", "local").await.expect("the example's ChainSync");
    let target = local["status"]["streams"][0]["target"].as_u64().expect("a target");
    assert!(target >= 500, "first light syncs at least 500 blocks");
    let tables = ["local_blocks", "local_transactions", "local_logs"];
    assert_query_equals_node(&world, "demo", tables, world.url("EVM_RPC_URL"), 0, target).await;

    let rows = world
        .query("select b.block_number, b.gas_used, (select count(*) from demo.mainnet_transactions), (select count(*) from demo.mainnet_logs) from demo.mainnet_blocks b")
        .await
        .expect("mainnet datasets answer");
    let numbers: Vec<u64> = rows[0].iter().map(dagwright_e2e::checker::number).collect();
    assert_eq!(numbers, [18_000_000, 16_247_211, 94, 291], "what every explorer says of block 18,000,000");
}

/// `kubectl wait` works without configuration.
#[tokio::test]
async fn kubectl_waits_and_explains() {
    let world = World::enter().await;
    let wait = ["wait", "--for=condition=Ready", "chainsync/local", "-n", "demo", "--timeout=60s"];
    assert!(kubectl(&world, &wait).contains("condition met"));
    let explained = kubectl(&world, &["explain", "chainsync.spec.streams.chunkSize"]);
    assert!(explained.to_lowercase().contains("blocks"), "the unit is named: {explained}");
    let listed = kubectl(&world, &["get", "dagwright", "-n", "demo"]);
    for column in ["READY", "REASON", "AGE"] {
        assert!(listed.contains(column), "a person sees {column}: {listed}");
    }
}

/// The same in namespace `default`, whose name SQL reserves.
#[tokio::test]
async fn a_namespace_with_a_reserved_name_works() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let sync = LocalSync { to: 60, ..LocalSync::new("default", &node) };
    world.apply("default", &sync.objects()).await;
    world.wait_condition("ChainSync", "default", "chain", "Synced", "True").await;
    assert_covered_once(&world, "default", sync.outputs, 0, 60).await;
    let schema = sql_schema_name("default");
    assert_eq!(schema, "ns_default");
    let dataset = world.get("Dataset", "default", "chain-blocks").await.expect("the Dataset");
    assert_eq!(dataset["status"]["sqlName"], "ns_default.chain_blocks");
    assert_query_equals_node(
        &world,
        &schema,
        ["chain_blocks", "chain_transactions", "chain_logs"],
        &node,
        0,
        60,
    )
    .await;
}

/// kstatus, as Flux and `kubectl` plugins evaluate it: InProgress at first sight, then Current; a broken reference is Failed.
#[tokio::test]
async fn kstatus_sees_progress_then_current_and_failure_of_a_broken_reference() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let sync = LocalSync { to: 20, ..LocalSync::new("e2e-kstatus", &node) };
    let broken = sync.chain_sync_with(serde_json::json!({ "workerPoolRef": { "name": "nowhere" } }));
    let mut objects = sync.objects();
    objects.pop();
    world.apply("e2e-kstatus", &objects).await;
    world.apply("e2e-kstatus", &[broken]).await;
    wait_for("kstatus Failed", || async {
        let object = world.get("ChainSync", "e2e-kstatus", "chain").await?;
        expect_kstatus(&object, Kstatus::Failed)
    })
    .await;
    let created = world.get("ChainSync", "e2e-kstatus", "chain").await.expect("the ChainSync");
    let stalled = created["status"]["conditions"]
        .as_array()
        .expect("conditions")
        .iter()
        .find(|c| c["type"] == "Stalled")
        .expect("Stalled");
    assert!(
        stalled["message"].as_str().expect("a message").contains("nowhere"),
        "the message names what is missing: {stalled}"
    );

    world.apply("e2e-kstatus", &[sync.chain_sync()]).await;
    wait_for("kstatus Current", || async {
        let object = world.get("ChainSync", "e2e-kstatus", "chain").await?;
        expect_kstatus(&object, Kstatus::Current)
    })
    .await;
}

fn expect_kstatus(object: &Value, wanted: Kstatus) -> Result<(), String> {
    let is = kstatus::evaluate(object);
    if is == wanted { Ok(()) } else { Err(format!("{is:?}: {}", object["status"])) }
}

fn kubectl(world: &World, args: &[&str]) -> String {
    let out =
        Command::new("kubectl").args(args).envs(&world.env).output().expect("kubectl is on the stack's PATH");
    assert!(out.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}
