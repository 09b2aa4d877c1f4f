//! Leaders that believe that they lead and do not: what they still send is refused, or it is drift that is corrected.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use dagwright_aws::queues::Queues;
use dagwright_core::names::aws_name;
use dagwright_testkit::{
    fault_proxy::{Fault, FaultProxy, Rule},
    infrastructure::Process,
    tcp_proxy::TcpProxy,
    wait::{wait_for_within, wait_until},
};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    TAKEOVER, ended, epoch, leader,
    objects::{dataset, worker_pool},
    world::{World, controller, controller_with},
};

/// How long the delayed call of a stale leader takes to reach AWS: longer than a takeover at once.
const LATE: Duration = Duration::from_secs(20);
/// Within this time drift is looked for and corrected (`engine::RESYNC` and its jitter).
const RESYNC: Duration = Duration::from_secs(360);

/// A replica that reaches the API server through a network of its own.
async fn behind_a_network(world: &World, name: &str) -> (Process, TcpProxy) {
    let settings = &world.infra.stack.settings;
    let server: SocketAddr = settings.address("kube-apiserver");
    let proxy = TcpProxy::start(server).await;
    let kubeconfig = std::fs::read_to_string(settings.controller_kubeconfig()).unwrap();
    let theirs = kubeconfig.replace(&server.to_string(), &proxy.address.to_string());
    assert_ne!(theirs, kubeconfig, "the kubeconfig names {server}");
    let path = settings.dir.join(format!("{name}.kubeconfig"));
    std::fs::write(&path, theirs).unwrap();
    (controller_with(name, "dagwright-system", &[("KUBECONFIG", path.display().to_string())]), proxy)
}

/// The Lease as a holder whose time is over for everybody but itself leaves it: two clocks that disagree.
async fn free_the_lease(world: &World) {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "dagwright-system");
    let free = json!({ "spec": { "holderIdentity": "", "leaseDurationSeconds": 1 } });
    leases.patch("dagwright-controller", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
}

/// Hands the lead to `next` by stopping `now`.
async fn hand_over(now: &Process, next: &Process) {
    let what = format!("{} to start", next.name);
    wait_until(TAKEOVER, &what, async || next.metric("dagwright_controller_leader", &[]).await.is_some())
        .await;
    now.signal(Signal::SIGTERM);
    ended(now).await;
    leader(&[next]).await;
}

/// Status writes that the API server refused, because the object had changed since it was read.
async fn refused_status_writes(world: &World) -> f64 {
    let request = http::Request::get("/metrics").body(vec![]).unwrap();
    let text = world.client.request_text(request).await.unwrap();
    let parts = ["code=\"409\"", "resource=\"datasets\"", "subresource=\"status\"", "verb=\"APPLY\""];
    let lines = text.lines().filter(|l| l.starts_with("apiserver_request_total{"));
    let refused = lines.filter(|l| parts.iter().all(|p| l.contains(p)));
    refused.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn shared_with(role: &str) -> Value {
    let mut object = dataset("stale", "blocks");
    object["spec"]["readRoles"] = json!([role]);
    object
}

async fn row(world: &World) -> (i64, Vec<String>) {
    sqlx::query_as("SELECT generation, read_roles FROM datasets WHERE namespace = $1 AND name = 'stale'")
        .bind(&world.namespace)
        .fetch_one(&world.state)
        .await
        .unwrap()
}

/// Has the leader write several objects side by side: a write that must first open a connection says nothing while the network
/// holds back, and the renewals of the Lease take connections too.
async fn open_connections(world: &World) {
    let names: Vec<_> = (0..8).map(|n| format!("connection-{n}")).collect();
    for name in &names {
        world.apply(&dataset(name, "blocks")).await;
    }
    for name in &names {
        world.ready("Dataset", name).await;
    }
}

/// An API server that answers slowly is a leader's all the same; one that hears nothing any more ends it before another one
/// may lead. What the first had sent arrives afterwards, and gets 409.
pub(crate) async fn a_slow_api_server(world: &World, now: Process) -> Process {
    let (slow, network) = behind_a_network(world, "controller-slow").await;
    hand_over(&now, &slow).await;
    network.delay(Duration::from_millis(300));
    world.apply(&shared_with("one")).await;
    world.ready("Dataset", "stale").await;
    let next = controller("controller-next", "dagwright-system");
    let what = "the next one to wait for the lease";
    wait_until(TAKEOVER, what, async || next.metric("dagwright_controller_leader", &[]).await == Some(0.0))
        .await;
    let (before, first) = (refused_status_writes(world).await, epoch(world).await);
    open_connections(world).await;

    network.hold();
    world.apply(&shared_with("two")).await;
    wait_for_within(TAKEOVER, "the slow leader to write the row", async || {
        let found = row(world).await;
        if found.1 == ["two"] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    ended(&slow).await;
    assert_eq!(epoch(world).await, first, "nobody led before the slow one had ended");
    leader(&[&next]).await;
    let settled = world.ready("Dataset", "stale").await;
    network.release();
    wait_for_within(TAKEOVER, "the late status write to be refused with 409", async || {
        let refused = refused_status_writes(world).await;
        if refused > before { Ok(()) } else { Err(format!("{refused} refused, {before} before")) }
    })
    .await;
    let after = world.get("Dataset", "stale").await.unwrap();
    assert_eq!(
        after["metadata"]["resourceVersion"], settled["metadata"]["resourceVersion"],
        "nothing was written"
    );
    next
}

/// Two clocks disagree: one replica takes the Lease while the other believes that it holds it. Postgres knows better.
pub(crate) async fn two_leaders(world: &World, now: Process) -> Process {
    let (stale, network) = behind_a_network(world, "controller-stale").await;
    hand_over(&now, &stale).await;
    world.apply(&shared_with("three")).await;
    world.ready("Dataset", "stale").await;
    let other = controller("controller-other", "dagwright-system");
    let what = "the other one to wait for the lease";
    wait_until(TAKEOVER, what, async || other.metric("dagwright_controller_leader", &[]).await == Some(0.0))
        .await;
    let first = epoch(world).await;

    network.hold();
    free_the_lease(world).await;
    leader(&[&other]).await;
    assert_eq!(
        stale.metric("dagwright_controller_leader", &[]).await,
        Some(1.0),
        "two leaders at once:\n{}",
        world.infra.log(&stale.name)
    );
    wait_until(TAKEOVER, "the other one to take the epoch", async || epoch(world).await == first + 1).await;
    let edited = world.apply(&shared_with("four")).await;
    ended(&stale).await;
    let log = world.infra.whole_log(&stale.name);
    let refusal = format!("the leader epoch {first} is over, epoch {} writes now", first + 1);
    assert!(log.contains(&refusal), "Postgres refused it: {log}");
    world.ready("Dataset", "stale").await;
    let generation = edited["metadata"]["generation"].as_i64().unwrap();
    assert_eq!(row(world).await, (generation, vec!["four".to_owned()]));
    other
}

/// A call to AWS cannot be fenced: one that arrives late is drift. Prints how long it lasts.
pub(crate) async fn a_late_aws_call(world: &World, now: Process) {
    let proxy = FaultProxy::start(&world.infra.stack.settings.url("ministack")).await.unwrap();
    let late = controller_with("controller-late", "dagwright-system", &[("AWS_ENDPOINT_URL", proxy.url())]);
    hand_over(&now, &late).await;
    let mut pool = worker_pool("ingest");
    world.apply(&pool).await;
    world.ready("WorkerPool", "ingest").await;
    let other = controller("controller-last", "dagwright-system");
    let what = "the last one to wait for the lease";
    wait_until(TAKEOVER, what, async || other.metric("dagwright_controller_leader", &[]).await == Some(0.0))
        .await;

    let milliseconds = u64::try_from(LATE.as_millis()).unwrap();
    let rule = proxy.control().add(Rule::always(Fault::Delay { milliseconds }).on_aws("SetQueueAttributes"));
    pool["spec"]["queue"]["lease"] = json!("60s");
    world.apply(&pool).await;
    proxy.control().wait_for_hits(rule, 1, TAKEOVER).await.unwrap();
    let sent = Instant::now();
    late.signal(Signal::SIGSTOP);
    free_the_lease(world).await;
    leader(&[&other]).await;
    pool["spec"]["queue"]["lease"] = json!("90s");
    world.apply(&pool).await;
    world.ready("WorkerPool", "ingest").await;
    assert!(sent.elapsed() < LATE, "the takeover took longer than the late call: {:?}", sent.elapsed());

    let (queues, name) = (Queues::new(&world.infra.root()), aws_name("local", &world.namespace, "ingest"));
    let visibility = async |wanted: &str| {
        let attributes: BTreeMap<_, _> = queues.describe(&name).await.unwrap().unwrap().attributes;
        if attributes["VisibilityTimeout"] == wanted { Ok(()) } else { Err(format!("{attributes:?}")) }
    };
    visibility("90").await.unwrap();
    wait_for_within(2 * LATE, "the stale leader's call to arrive", async || visibility("60").await).await;
    let drifted = Instant::now();
    wait_for_within(RESYNC, "the drift to be corrected", async || visibility("90").await).await;
    println!("drift by a stale leader's AWS call: corrected after {:.1} s", drifted.elapsed().as_secs_f64());
    late.signal(Signal::SIGCONT);
    ended(&late).await;
}
