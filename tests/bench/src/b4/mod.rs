//! B4: many ChainSyncs and Datasets applied at once, until all are Ready; beside it the same writes by a bare client.
//!
//! Floor and controller each have a control plane of their own, fresh in every run, so that neither pays for the other. What
//! the controller writes is counted by the API server itself: nobody else patches objects or writes a status there.

mod counts;
mod floor;
mod objects;
mod reconciled;
mod tracker;

use std::{path::Path, time::Duration};

use crate::{report::Measurement, rig::Rig, stats};

/// Applies at once.
const APPLIERS: usize = 32;
/// How long no write at all makes a controller idle.
const QUIET: Duration = Duration::from_secs(10);
/// How long idleness is watched.
const IDLE: Duration = Duration::from_secs(60);
/// The same in the last run: long enough for every object's resync, which is the pass that would write in vain.
const IDLE_RESYNC: Duration = Duration::from_secs(400);

/// What one run came to.
#[derive(Clone, Copy, Debug)]
struct Run {
    floor_seconds: f64,
    seconds: f64,
    writes_per_object: f64,
    memory_mib: f64,
    idle_writes: f64,
    lease_writes: f64,
}

pub(crate) async fn run(rig: &Rig) -> anyhow::Result<Vec<Measurement>> {
    measure(rig.options.runs, rig.options.objects, &rig.binary("dagwright-controller")).await
}

/// Runs `runs` times with so many ChainSyncs, and as many Datasets.
pub(crate) async fn measure(runs: u32, each: u64, controller: &Path) -> anyhow::Result<Vec<Measurement>> {
    let mut done = vec![];
    for n in 1..=runs {
        let floor_seconds = floor::measure(each).await?;
        let idle = if n == runs { IDLE_RESYNC } else { IDLE };
        let run = reconciled::measure(each, floor_seconds, controller, idle).await?;
        eprintln!("B4 run {n} of {runs}: {run:?}");
        done.push(run);
    }
    let measurement = |name: &str, unit, of: fn(&Run) -> f64| {
        Measurement::median(format!("B4 {name}"), unit, done.iter().map(of).collect())
    };
    let results = [
        measurement("floor: the same writes by a bare client", "s", |r| r.floor_seconds),
        measurement("all reconciled", "s", |r| r.seconds),
        measurement("ratio to the floor", "ratio", |r| r.seconds / r.floor_seconds),
        measurement("API writes by the controller per object", "writes", |r| r.writes_per_object),
        measurement("controller's peak memory", "MiB", |r| r.memory_mib),
        measurement("API writes to objects when idle", "writes/min", |r| r.idle_writes),
        measurement("renewals of Leases, the API server's own among them, when idle", "writes/min", |r| {
            r.lease_writes
        }),
    ];
    Ok(results.into_iter().flatten().collect())
}

/// Writes per object.
fn per_object(writes: u64, each: u64) -> f64 {
    stats::number(writes) / stats::number(2 * each)
}
