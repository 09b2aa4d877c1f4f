//! What a round asks of the product: syncs that share their data, grow, change and stop while things go wrong.

use std::time::Duration;

use anyhow::Context as _;
use dagwright_cli::load::{self, LoadConfig};
use dagwright_e2e::{
    World,
    manifests::{LocalSync, dataset, worker_pool},
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{patience::until_ok, schedule::LEASE};

/// Blocks of the chain before the first round, and how many are mined during each.
pub const FIRST_HEIGHT: u64 = 260;
pub const MINED: u64 = 40;
/// Where the fixed targets end.
const CEILING: u64 = 240;
/// In how many steps each gets there.
const STEPS: u32 = 8;
/// How far behind the head the follower stays, and how far below it starts.
pub const BEHIND: u64 = 5;
const BELOW_HEAD: u64 = 60;

/// The pool whose workers are single tasks of ECS, each started by RunTask and gone after 30 s without work.
pub const ON_DEMAND: &str = "on-demand";

pub const KINDS: [&str; 3] = ["blocks", "transactions", "logs"];

/// A change of a spec, and when.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Edit {
    #[serde(skip)]
    pub at: Duration,
    pub change: Change,
}

/// What changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    Target { sync: usize, to: u64 },
    ChunkSize { sync: usize, blocks: u64 },
    Suspend { sync: usize },
    Resume { sync: usize },
    AllOutputs,
}

/// A ChainSync as it is wanted now.
#[derive(Clone, Debug, PartialEq)]
pub struct Sync {
    pub name: &'static str,
    pub mode: Mode,
    pub chunk_size: u64,
    pub suspend: bool,
    pub outputs: Vec<&'static str>,
    /// Whether logs have a stream of their own.
    pub split: bool,
    pub pool: &'static str,
}

/// Which blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Fixed { from: u64, to: u64 },
    Follow { from: u64 },
}

/// One round's.
#[derive(Clone, Debug)]
pub struct Workload {
    pub namespace: String,
    pub syncs: Vec<Sync>,
    pub edits: Vec<Edit>,
    /// Height of the chain before and after.
    pub heights: (u64, u64),
    node: String,
}

impl Workload {
    /// Pure, but for the node's address.
    #[must_use]
    pub fn new(seed: u64, round: u32, length: Duration, node: &str) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream((1 << 33) + u64::from(round));
        let before = FIRST_HEIGHT + MINED * u64::from(round);
        let sync = |name, mode, chunk_size, outputs: &[&'static str], split| Sync {
            name,
            pool: if name == "twin" { ON_DEMAND } else { "ingest" },
            mode,
            chunk_size,
            suspend: false,
            outputs: outputs.to_vec(),
            split,
        };
        let fixed = |to| Mode::Fixed { from: 0, to };
        let syncs = vec![
            sync("chain", fixed(rng.random_range(60..120)), rng.random_range(2..=4), &KINDS, true),
            // The same computation again: its data is the same. What it has planned before `chain` its own pool works on.
            sync("twin", fixed(rng.random_range(30..90)), rng.random_range(3..=7), &["blocks"], false),
            sync(
                "follow",
                Mode::Follow { from: before - BELOW_HEAD },
                rng.random_range(2..=6),
                &["blocks"],
                false,
            ),
        ];
        let edits = edits(&mut rng, length);
        Self {
            namespace: format!("chaos-{seed}-{round}"),
            syncs,
            edits,
            heights: (before, before + MINED),
            node: node.to_owned(),
        }
    }

    /// Everything that the syncs need, and the syncs.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        let local = self.local();
        let mut pool = worker_pool(&self.namespace);
        pool["spec"]["slots"] = json!(3);
        pool["spec"]["run"]["service"]["min"] = json!(2);
        pool["spec"]["run"]["service"]["max"] = json!(3);
        pool["spec"]["queue"]["lease"] = json!(format!("{}s", LEASE.as_secs()));
        let mut on_demand = worker_pool(&self.namespace);
        on_demand["spec"]["queue"] = pool["spec"]["queue"].clone();
        on_demand["metadata"]["name"] = json!(ON_DEMAND);
        on_demand["spec"]["run"] = json!({ "onDemand": { "max": 2 } });
        on_demand["spec"]["capacity"] =
            json!([{ "provider": "FARGATE_SPOT", "weight": 3 }, { "provider": "FARGATE", "weight": 1 }]);
        let mut all = vec![local.rpc_pool(&[("node", &self.node)]), pool, on_demand];
        for sync in &self.syncs {
            let kinds: &[&str] = if sync.name == "follow" { &["blocks"] } else { &KINDS };
            all.extend(kinds.iter().map(|kind| {
                let mut object = dataset(&self.namespace, kind);
                object["metadata"]["name"] = json!(format!("{}-{kind}", sync.name));
                object
            }));
        }
        all.extend(self.chain_syncs());
        all
    }

    /// The syncs as they are wanted now.
    #[must_use]
    pub fn chain_syncs(&self) -> Vec<Value> {
        self.syncs.iter().map(|sync| self.chain_sync(sync)).collect()
    }

    fn local(&self) -> LocalSync<'_> {
        LocalSync { max_attempts: 100, ..LocalSync::new(&self.namespace, &self.node) }
    }

    fn chain_sync(&self, sync: &Sync) -> Value {
        let stream = |name: &str, kinds: &[&str]| {
            let outputs: Vec<Value> = kinds
                .iter()
                .map(
                    |kind| json!({ "kind": kind, "datasetRef": { "name": format!("{}-{kind}", sync.name) } }),
                )
                .collect();
            json!({
                "name": name, "rpcPoolRef": { "name": "node" }, "chunkSize": sync.chunk_size, "maxInFlight": 8,
                "outputs": outputs,
            })
        };
        let streams = if sync.split {
            vec![stream("core", &["blocks", "transactions"]), stream("logs", &["logs"])]
        } else {
            vec![stream("core", &sync.outputs)]
        };
        let mode = match sync.mode {
            Mode::Fixed { from, to } => json!({ "fixedTarget": { "from": from, "to": to } }),
            Mode::Follow { from } => {
                json!({ "followHead": { "from": from, "behind": { "blocks": BEHIND } } })
            }
        };
        let mut object = self.local().chain_sync_with(json!({
            "mode": mode, "streams": streams, "suspend": sync.suspend, "timeout": "60s",
            "workerPoolRef": { "name": sync.pool },
        }));
        object["metadata"]["name"] = json!(sync.name);
        object
    }

    /// Changes what is wanted, and says which sync that changes.
    pub fn apply(&mut self, change: &Change) -> usize {
        match *change {
            Change::Target { sync, to } => {
                if let Mode::Fixed { to: end, .. } = &mut self.syncs[sync].mode {
                    *end = to.max(*end);
                }
                sync
            }
            Change::ChunkSize { sync, blocks } => {
                self.syncs[sync].chunk_size = blocks;
                sync
            }
            Change::Suspend { sync } => {
                self.syncs[sync].suspend = true;
                sync
            }
            Change::Resume { sync } => {
                self.syncs[sync].suspend = false;
                sync
            }
            Change::AllOutputs => {
                self.syncs[1].outputs = KINDS.to_vec();
                1
            }
        }
    }

    /// Which blocks a sync wants once the chain has its final height.
    #[must_use]
    pub fn range(&self, sync: &Sync) -> (u64, u64) {
        match sync.mode {
            Mode::Fixed { from, to } => (from, to),
            Mode::Follow { from } => (from, self.heights.1 + 1 - BEHIND),
        }
    }
}

/// Growth all along, so that there is always work; the rest somewhere in between.
fn edits(rng: &mut ChaCha8Rng, length: Duration) -> Vec<Edit> {
    let mut edits = vec![];
    let mut at = |part: f64, change| edits.push(Edit { at: length.mul_f64(part), change });
    for sync in 0..2 {
        for step in 1..=STEPS {
            let to = 120 + (CEILING - 120) * u64::from(step) / u64::from(STEPS);
            let part = (f64::from(step) - rng.random::<f64>()) / f64::from(STEPS);
            at(part, Change::Target { sync, to });
        }
        at(rng.random_range(0.1..0.9), Change::ChunkSize { sync, blocks: rng.random_range(1..=4) });
    }
    at(rng.random_range(0.1..0.9), Change::ChunkSize { sync: 2, blocks: rng.random_range(1..=4) });
    at(rng.random_range(0.2..0.8), Change::AllOutputs);
    let (sync, start) = (rng.random_range(0..3), rng.random_range(0.1..0.6));
    at(start, Change::Suspend { sync });
    at(start + rng.random_range(0.1..0.3), Change::Resume { sync });
    edits.sort_by_key(|edit| edit.at);
    edits
}

/// Applies objects however often it takes.
///
/// # Errors
/// When the API server does not take them in `limit`.
pub async fn insist(
    world: &World,
    namespace: &str,
    objects: &[Value],
    limit: Duration,
) -> anyhow::Result<()> {
    let applied = until_ok(limit, || async {
        let call = world.try_apply(namespace, objects);
        tokio::time::timeout(Duration::from_secs(30), call)
            .await
            .unwrap_or_else(|_| Err("no answer in 30 s".into()))
    });
    applied.await.map_err(anyhow::Error::msg).with_context(|| format!("apply the objects of {namespace}"))
}

/// Makes the edits at their times. What the API server does not take is taken with the next edit of that sync, or at the end.
pub async fn edit(world: &World, workload: &mut Workload) -> u64 {
    let (start, mut made) = (tokio::time::Instant::now(), 0);
    for edit in workload.edits.clone() {
        tokio::time::sleep_until(start + edit.at).await;
        let sync = workload.apply(&edit.change);
        let object = workload.chain_sync(&workload.syncs[sync]);
        let applied = insist(world, &workload.namespace, &[object], Duration::from_secs(10)).await;
        made += u64::from(applied.is_ok());
    }
    for sync in &mut workload.syncs {
        sync.suspend = false;
    }
    made
}

/// Brings the chain to a height.
///
/// # Errors
/// When the node does not take it.
pub async fn mine_to(node: &str, height: u64) -> anyhow::Result<()> {
    load::run(LoadConfig { rpc_url: node.to_owned(), blocks: height }, |_| {}).await?;
    Ok(())
}

/// Mines the round's blocks one by one over `length`.
///
/// # Errors
/// When the node does not take them.
pub async fn mine_along(workload: &Workload, length: Duration) -> anyhow::Result<()> {
    let (before, after) = workload.heights;
    let mut tick = tokio::time::interval(length / u32::try_from(MINED).unwrap_or(1));
    for height in before + 1..=after {
        tick.tick().await;
        mine_to(&workload.node, height).await?;
    }
    Ok(())
}

/// Deletes what the round made; the order is that of their references.
///
/// # Errors
/// What is still there after `limit`.
pub async fn remove(world: &World, workload: &Workload, limit: Duration) -> Result<(), String> {
    for kind in ["ChainSync", "Dataset", "WorkerPool", "RpcPool"] {
        let api = world.api(kind, &workload.namespace);
        until_ok(limit, || async {
            let parameters = kube::api::ListParams::default();
            let left = api.list(&parameters).await.map_err(|e| format!("list {kind}: {e}"))?;
            let mut names = vec![];
            for object in left.items {
                let name = object.metadata.name.unwrap_or_default();
                if object.metadata.deletion_timestamp.is_none() {
                    let deleted = api.delete(&name, &kube::api::DeleteParams::default()).await;
                    deleted.map_err(|e| format!("delete {kind} {name}: {e}"))?;
                }
                names.push(format!("{name} ({})", object.data["status"]["conditions"]));
            }
            if names.is_empty() { Ok(()) } else { Err(format!("{kind} to be gone: {}", names.join(", "))) }
        })
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_repeats_its_workload() {
        let (one, other) =
            (Workload::new(4, 2, LENGTH, "http://node"), Workload::new(4, 2, LENGTH, "http://node"));
        assert_eq!((&one.syncs, &one.edits), (&other.syncs, &other.edits));
        assert_ne!(one.edits, Workload::new(5, 2, LENGTH, "http://node").edits);
    }

    #[test]
    fn edits_lead_to_every_output_up_to_the_ceiling_and_to_nothing_suspended() {
        for seed in 0..50 {
            let mut workload = Workload::new(seed, 0, LENGTH, "http://node");
            assert!(workload.edits.iter().all(|edit| edit.at <= LENGTH));
            for edit in workload.edits.clone() {
                workload.apply(&edit.change);
            }
            assert_eq!(workload.syncs[0].mode, Mode::Fixed { from: 0, to: CEILING });
            assert_eq!(workload.syncs[1].outputs, KINDS);
            assert!(workload.syncs.iter().all(|sync| !sync.suspend));
            assert!(CEILING <= workload.heights.0);
        }
    }
}
