//! Leaders come and go: frozen, killed, stopped. A world of its own, because it takes leaders away from everybody.
#![expect(clippy::unwrap_used, reason = "a test panics with what went wrong")]

#[path = "../controller/objects.rs"]
#[expect(dead_code, reason = "shared with the other tests of controllers")]
mod objects;
#[path = "../controller/world.rs"]
#[expect(dead_code, reason = "shared with the other tests of controllers")]
mod world;

mod stale;

use std::time::{Duration, Instant};

use dagwright_state::desired::current_epoch;
use dagwright_testkit::{
    infrastructure::{Infrastructure, Process},
    wait::{wait_for_within, wait_until},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, api::PostParams};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    objects::rpc_pool,
    world::{World, conditions, controller, replicas},
};

/// A lease, a try, and what a busy machine adds.
const TAKEOVER: Duration = Duration::from_secs(60);

async fn leader<'a>(of: &[&'a Process]) -> &'a Process {
    wait_for_within(TAKEOVER, "somebody to lead", async || {
        for process in of {
            if process.metric("dagwright_controller_leader", &[]).await == Some(1.0) {
                return Ok(*process);
            }
        }
        Err("nobody does".into())
    })
    .await
}

async fn epoch(world: &World) -> i64 {
    current_epoch(&mut world.state.acquire().await.unwrap(), "dagwright-controller").await.unwrap()
}

async fn ended(process: &Process) {
    let what = format!("{} to end", process.name);
    wait_until(TAKEOVER, &what, async || Infrastructure::shared().ended(process)).await;
}

/// The process group of a part of the infrastructure.
fn part(world: &World, name: &str) -> Pid {
    let record = world.infra.stack.settings.run_dir().join(format!("{name}.pid"));
    let record: Value = serde_json::from_str(&std::fs::read_to_string(record).unwrap()).unwrap();
    Pid::from_raw(i32::try_from(record["pid"].as_i64().unwrap()).unwrap())
}

/// Watches end, answers are lost, everything is listed again: what is asked for afterwards is still done. Answers who leads.
async fn an_api_server_that_is_killed_comes_back(world: &World, mut leads: Process) -> Process {
    killpg(part(world, "kube-apiserver"), Signal::SIGKILL).unwrap();
    wait_for_within(TAKEOVER, "the API server to come back", async || {
        world.try_apply(&rpc_pool("after")).await.map_err(|e| e.to_string())
    })
    .await;
    wait_for_within(2 * TAKEOVER, "the object to be Ready", async || {
        // Where the API server takes long to come back, the leader loses its Lease and ends; a supervisor starts it again.
        if Infrastructure::shared().ended(&leads) {
            leads = controller("controller-e", "dagwright-system");
        }
        let object = world.get("RpcPool", "after").await.unwrap_or_default();
        let ready = conditions(&object).iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        if ready { Ok(()) } else { Err(object["status"].to_string()) }
    })
    .await;
    leads
}

/// What a newer version of a type allows and ours cannot read says so itself, and no other object suffers.
async fn an_object_that_cannot_be_read_says_so(world: &World) {
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let mut definition = serde_json::to_value(crds.get("rpcpools.dagwright.dev").await.unwrap()).unwrap();
    let policies = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/failover/properties/onVerificationFailure/enum";
    definition.pointer_mut(policies).unwrap().as_array_mut().unwrap().push(json!("Later"));
    let definition = serde_json::from_value(definition).unwrap();
    crds.replace("rpcpools.dagwright.dev", &PostParams::default(), &definition).await.unwrap();
    let mut newer = rpc_pool("newer");
    newer["spec"]["failover"] = json!({ "onVerificationFailure": "Later" });
    wait_for_within(TAKEOVER, "the new definition to be served", async || {
        world.try_apply(&newer).await.map_err(|e| e.to_string())
    })
    .await;
    let text = world.stalled("RpcPool", "newer", "Undecodable").await;
    assert!(text.contains("Later"), "{text}");
    world.apply(&rpc_pool("beside")).await;
    world.ready("RpcPool", "beside").await;
    newer["spec"]["failover"] = json!({ "onVerificationFailure": "Cordon" });
    world.apply(&newer).await;
    world.ready("RpcPool", "newer").await;
}

#[tokio::test]
async fn whatever_becomes_of_a_leader_another_one_goes_on() {
    let world = World::start().await;
    let [a, b] = replicas();
    let frozen = leader(&[a, b]).await;
    let other = if frozen.name == a.name { b } else { a };
    world.apply(&rpc_pool("one")).await;
    world.ready("RpcPool", "one").await;
    an_object_that_cannot_be_read_says_so(&world).await;
    let first = epoch(&world).await;

    // Frozen: it believes that it leads when it thaws. It must end, and what it had in hand is refused.
    frozen.signal(Signal::SIGSTOP);
    world.apply(&rpc_pool("two")).await;
    world.ready("RpcPool", "two").await;
    assert_eq!(leader(&[other]).await.name, other.name);
    assert!(epoch(&world).await > first);
    frozen.signal(Signal::SIGCONT);
    ended(frozen).await;

    // Killed: nobody hands anything over.
    let third = controller("controller-c", "dagwright-system");
    other.signal(Signal::SIGKILL);
    ended(other).await;
    world.apply(&rpc_pool("three")).await;
    world.ready("RpcPool", "three").await;
    leader(&[&third]).await;

    // Stopped: the lease is handed over, and nobody waits for it to end.
    let fourth = controller("controller-d", "dagwright-system");
    wait_until(TAKEOVER, "the fourth to start", async || {
        fourth.metric("dagwright_controller_leader", &[]).await.is_some()
    })
    .await;
    third.signal(Signal::SIGTERM);
    ended(&third).await;
    let began = Instant::now();
    leader(&[&fourth]).await;
    assert!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
    world.apply(&rpc_pool("four")).await;
    world.ready("RpcPool", "four").await;

    let fourth = an_api_server_that_is_killed_comes_back(&world, fourth).await;

    let next = stale::a_slow_api_server(&world, fourth).await;
    let other = stale::two_leaders(&world, next).await;
    stale::a_late_aws_call(&world, other).await;
}
