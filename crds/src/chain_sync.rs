//! `ChainSync`: copies a chain, verified block by block, into Datasets.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{Empty, GoDuration, HASH32, LABEL, LocalRef, Priority, Retry, is_false},
    dataset::{EvmKind, Range},
};

/// The highest block that fits a number that every JSON tool reads exactly.
pub const MAX_BLOCK: i64 = 9_007_199_254_740_991;

/// Copies a range or the head of a chain into Datasets.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "dagwright.dev",
    version = "v1alpha1",
    kind = "ChainSync",
    namespaced,
    plural = "chainsyncs",
    shortname = "csync",
    category = "dagwright",
    status = "ChainSyncStatus",
    derive = "PartialEq",
    doc = "ChainSync copies a range of a chain, or follows its head, into Datasets. Every block is verified before it is committed.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.progress",
        description = "lowest cursor / its target"
    ),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Synced")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Chain", type_ = "integer", json_path = ".spec.chain.id", priority = 1),
    printcolumn(name = "Head", type_ = "integer", json_path = ".status.head", priority = 1),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ChainSyncSpec {
    /// Whether to stop planning and starting tasks; what runs may finish, what is committed stays. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
    /// The chain to read. It cannot be changed: another chain is another ChainSync.
    pub chain: Chain,
    /// Which blocks are wanted: exactly one of `fixedTarget` and `followHead`.
    pub mode: Mode,
    /// What happens to blocks that no root can prove: `Required` refuses them, `Recorded` commits them with their level. A block
    /// that is proven wrong is never committed. Default: `Required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// The WorkerPool whose workers run the tasks.
    pub worker_pool_ref: LocalRef,
    /// Independent copies of the range: each has its own cursor and fails alone. 1 to 32, with unique names.
    #[schemars(length(min = 1, max = 32))]
    pub streams: Vec<Stream>,
    /// How failed attempts are repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Longest run of one attempt, from `1s` to `11h`. Default: `15m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// Which tasks of the pool go first. Default: `Normal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Semantics of the operator `evm_ingest`: names how outputs are computed. Default: the newest when the ChainSync was created;
    /// an upgrade never moves it by itself. Example: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub semantics: Option<u32>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// EIP-155 chain id. Example: 1.
    #[schemars(range(min = 1, max = MAX_BLOCK))]
    pub id: i64,
    /// Chain profile: which fields the chain has and how it is verified. Example: `ethereum`.
    #[schemars(regex(pattern = LABEL), length(max = 40))]
    pub profile: String,
    /// Hash of block 0, for chains whose profile does not fix it, such as development chains: it tells two chains of one id
    /// apart. Default: the profile's. Example: `0xd4e5…8fa3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = HASH32), length(max = 66))]
    pub genesis_hash: Option<String>,
}

/// Which blocks are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// A range that does not move.
    FixedTarget(FixedTarget),
    /// From a block on, behind the chain's head.
    FollowHead(FollowHead),
}

/// Blocks `[from, to)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FixedTarget {
    /// First block. Example: 0.
    #[schemars(range(min = 0, max = MAX_BLOCK))]
    pub from: i64,
    /// Block after the last one; above `from`. Example: 46000000.
    #[schemars(range(min = 1, max = MAX_BLOCK))]
    pub to: i64,
}

/// From a block on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FollowHead {
    /// First block. Example: 0.
    #[schemars(range(min = 0, max = MAX_BLOCK))]
    pub from: i64,
    /// How far behind the head: exactly one of `finalized`, `safe` and `blocks`.
    pub behind: Behind,
}

/// Distance to the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Behind {
    /// Up to the block that the chain calls finalized.
    Finalized(Empty),
    /// Up to the block that the chain calls safe.
    Safe(Empty),
    /// So many blocks below the latest one. Example: 64.
    Blocks(#[schemars(range(min = 0, max = 1_000_000))] u32),
}

/// What happens to blocks that no root can prove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verification {
    /// They are refused.
    #[default]
    Required,
    /// They are committed with their level.
    Recorded,
}

/// One copy of the range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stream {
    /// Name within the ChainSync. Example: `core`.
    #[schemars(regex(pattern = LABEL), length(max = 40))]
    pub name: String,
    /// The RpcPool that blocks are read from.
    pub rpc_pool_ref: LocalRef,
    /// Blocks per task, 1 to 100000; a change shapes new ranges only. Example: 1000.
    #[schemars(range(min = 1, max = 100_000))]
    pub chunk_size: u32,
    /// Tasks of this stream at once, 1 to 10000. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_in_flight: Option<u32>,
    /// What is written, 1 to 8, each kind once. One fetch feeds all outputs of a stream; they commit together.
    #[schemars(length(min = 1, max = 8))]
    pub outputs: Vec<Output>,
}

/// An output of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// What is written. Example: `blocks`.
    pub kind: EvmKind,
    /// The Dataset that points at it; its schema must be `{evm: <kind>}`. A Dataset can be named once.
    pub dataset_ref: LocalRef,
}

impl ChainSyncSpec {
    /// Longest run of one attempt.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        GoDuration::or(self.timeout.as_ref(), Duration::from_secs(900))
    }
    /// How failed attempts are repeated.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.retry.clone().unwrap_or_default()
    }
}

impl Stream {
    /// Tasks of this stream at once.
    #[must_use]
    pub fn max_in_flight(&self) -> u32 {
        self.max_in_flight.unwrap_or(20)
    }
}

/// How far the copy is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChainSyncStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready, Reconciling, Stalled, Synced, Suspended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The last value of the annotation `reconcile.fluxcd.io/requestedAt` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Semantics of `evm_ingest` that this ChainSync keeps to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semantics: Option<i64>,
    /// Highest block of the chain that was seen, when the head is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<i64>,
    /// Lowest cursor of all streams and its target. Example: `17640000/46000000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub progress: Option<String>,
    /// One per stream of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub streams: Vec<StreamStatus>,
    /// The newest problems, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub problems: Vec<Problem>,
}

/// How far one stream is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// Name within the ChainSync.
    #[schemars(length(max = 40))]
    pub name: String,
    /// End of the committed prefix: every wanted block below it is committed, for all outputs.
    pub cursor: i64,
    /// Block after the last wanted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<i64>,
    /// Tasks that wait or run.
    pub in_flight: i64,
    /// Tasks that are out of attempts.
    pub failed: i64,
    /// Blocks committed per second over the last minutes, while catching up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks_per_second: Option<i64>,
    /// When the target will be reached at this pace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_at: Option<Time>,
}

/// A range that is out of attempts, or that does not link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Name of the stream whose range it is.
    #[schemars(length(max = 40))]
    pub stream: String,
    /// The blocks that are not committed, `[start, end)`.
    pub range: Range,
    /// What happened, to which block, at which provider, and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Attempts that the task has spent.
    pub attempts: i64,
    /// When the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}
