//! Leaders come and go: frozen, killed, stopped. A world of its own, because it takes leaders away from everybody.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test panics with what went wrong")]

#[path = "../controller/objects.rs"]
#[expect(dead_code, reason = "shared with the other tests of controllers")]
mod objects;
#[path = "../controller/world.rs"]
#[expect(dead_code, reason = "shared with the other tests of controllers")]
mod world;

use std::time::{Duration, Instant};

use dagwright_state::desired::current_epoch;
use dagwright_testkit::infrastructure::{Infrastructure, Process};
use nix::sys::signal::Signal;

use crate::{
    objects::rpc_pool,
    world::{World, controller, replicas},
};

/// A lease, a try, and what a busy machine adds.
const TAKEOVER: Duration = Duration::from_secs(60);

async fn leader<'a>(of: &[&'a Process]) -> &'a Process {
    let end = Instant::now() + TAKEOVER;
    loop {
        for process in of {
            if process.metric("dagwright_controller_leader", &[]).await == Some(1.0) {
                return process;
            }
        }
        assert!(Instant::now() < end, "nobody leads");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn epoch(world: &World) -> i64 {
    current_epoch(&mut world.state.acquire().await.unwrap(), "dagwright-controller").await.unwrap()
}

async fn ended(process: &Process) {
    let end = Instant::now() + TAKEOVER;
    while !Infrastructure::shared().ended(process) {
        assert!(Instant::now() < end, "{} goes on", process.name);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn whatever_becomes_of_a_leader_another_one_goes_on() {
    let world = World::start().await;
    let [a, b] = replicas();
    let frozen = leader(&[a, b]).await;
    let other = if frozen.name == a.name { b } else { a };
    world.apply(&rpc_pool("one")).await;
    world.ready("RpcPool", "one").await;
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
    let end = Instant::now() + TAKEOVER;
    while fourth.metric("dagwright_controller_leader", &[]).await.is_none() {
        assert!(Instant::now() < end, "{} does not start", fourth.name);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    third.signal(Signal::SIGTERM);
    ended(&third).await;
    let began = Instant::now();
    leader(&[&fourth]).await;
    assert!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
    world.apply(&rpc_pool("four")).await;
    world.ready("RpcPool", "four").await;
}
