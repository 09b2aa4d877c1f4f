//! The task API that the dispatcher serves to workers: `POST /v1/tasks:{claim,heartbeat,complete,fail,release,credentials}`.
//!
//! All calls carry the pool's token as bearer. All move sets; each row is fenced on its own by (task, attempt, token), so
//! an answer lists an outcome per row. 401: unknown token. 403 `WrongPool`: a task of another pool was named; nothing of the
//! call is applied. 429 with `Retry-After`: overloaded.

use dagwright_core::{
    ids::{AttemptId, LeaseToken, TaskId, VersionId, WorkerId},
    range::BlockRange,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `POST /v1/tasks:claim`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRequest {
    /// Who asks.
    pub worker_id: WorkerId,
    /// Tasks named by received messages: these are claimed if they are still claimable.
    #[serde(default)]
    pub offered: Vec<Offer>,
    /// How many further tasks of the pool the worker takes, chosen by the dispatcher by priority, then age.
    #[serde(default)]
    pub max_further: u32,
    /// How long the call may wait for the first task, in milliseconds; at most 20,000.
    #[serde(default)]
    pub wait_ms: u64,
}

/// A (task, attempt) that a message offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// The task.
    pub task_id: TaskId,
    /// The attempt's ordinal.
    pub attempt: u32,
}

/// Answer to a claim.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimResponse {
    /// Tasks that are now leased to the worker.
    pub leases: Vec<TaskLease>,
    /// Offers that cannot be claimed any more: their messages are to be deleted.
    pub stale: Vec<Offer>,
    /// Offers that are not due yet, or that somebody holds: their messages stay.
    pub not_now: Vec<Offer>,
}

/// The fence: who does not present the current triple changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The task.
    pub task_id: TaskId,
    /// The attempt.
    pub attempt_id: AttemptId,
    /// The attempt's token.
    pub lease_token: LeaseToken,
}

/// A leased task.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskLease {
    /// To be presented with every further call.
    #[serde(flatten)]
    pub fence: Fence,
    /// Ordinal of the attempt, from 1.
    pub attempt: u32,
    /// When the lease ends unless a heartbeat extends it, by the clock of Postgres.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// Length of the lease in seconds, from which the heartbeat's period is derived (a third of it).
    pub lease_seconds: u32,
    /// The attempt is cancelled when it runs longer, in seconds.
    pub timeout_seconds: u32,
    /// What to do.
    pub work: Work,
}

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// Namespace of the owner.
    pub namespace: String,
    /// Owner and job for people, such as `ChainSync demo/local stream core`.
    pub subject: String,
    /// Operator id.
    pub operator: String,
    /// The operator's semantics that the job names.
    pub semantics: u32,
    /// The operator's own config.
    pub config: serde_json::Value,
    /// The blocks to cover.
    pub range: BlockRange,
    /// Where the results go; they commit together.
    pub outputs: Vec<Output>,
    /// RPC providers that failed verification in earlier attempts of this task.
    #[serde(default)]
    pub avoid_providers: Vec<String>,
}

/// One output of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Output port, such as `blocks`.
    pub name: String,
    /// Version that the partition joins.
    pub version: VersionId,
    /// Bucket.
    pub bucket: String,
    /// Key prefix of this attempt, ending with `/`.
    pub prefix: String,
}

/// Config of the `evm_ingest` operator, in [`Work::config`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvmIngestConfig {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Chain profile.
    pub profile: String,
    /// Whether blocks that cannot be proven are refused or recorded.
    pub verification: Verification,
    /// Name of the RpcPool, in the task's namespace.
    pub rpc_pool: String,
}

/// What happens to blocks that no root can prove. Failed blocks are never committed, under either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verification {
    /// Unverifiable blocks fail the attempt.
    Required,
    /// Unverifiable blocks are committed with their level.
    Recorded,
}

/// `POST /v1/tasks:heartbeat`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatRequest {
    /// Who beats.
    pub worker_id: WorkerId,
    /// The leases to extend, with progress.
    pub beats: Vec<Beat>,
}

/// One lease's heartbeat.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Beat {
    /// The lease.
    #[serde(flatten)]
    pub fence: Fence,
    /// Blocks done so far; makes a stuck task visible.
    #[serde(default)]
    pub blocks_done: u64,
}

/// Answer to a heartbeat.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatResponse {
    /// New expiry per extended task.
    pub extended: Vec<Extended>,
    /// Leases that are lost or cancelled: stop working on them.
    pub lost: Vec<TaskId>,
}

/// An extended lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extended {
    /// The task.
    pub task_id: TaskId,
    /// New end of the lease.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// How long that is from now, in seconds: the pool's lease may have been changed since the claim, and the heartbeat's period
    /// follows it.
    pub lease_seconds: u32,
}

/// `POST /v1/tasks:complete`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompleteRequest {
    /// Finished tasks.
    pub completions: Vec<Completion>,
}

/// One finished task.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completion {
    /// The lease.
    #[serde(flatten)]
    pub fence: Fence,
    /// One per output of the task, in any order.
    pub partitions: Vec<CommittedPartition>,
}

/// What an attempt wrote for one output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommittedPartition {
    /// Output port.
    pub output: String,
    /// Hash of the logical content: equal content has an equal hash, whoever wrote it.
    pub content_hash: String,
    /// Parent hash of the first block of the range.
    pub first_parent_hash: String,
    /// Hash of the last block of the range.
    pub last_hash: String,
    /// Rows over all objects.
    pub rows: u64,
    /// Lowest verification level of the range: `verified` or `unverifiable`.
    pub verification: String,
    /// The objects, in order.
    pub objects: Vec<WrittenObject>,
}

/// One object as the worker wrote it; the dispatcher checks it against the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenObject {
    /// Full key.
    pub key: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256, base64, as S3 writes it.
    pub sha256: String,
    /// Rows.
    pub rows: u64,
}

/// `POST /v1/tasks:fail`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailRequest {
    /// Failed attempts.
    pub failures: Vec<Failure>,
}

/// One failed attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The lease.
    #[serde(flatten)]
    pub fence: Fence,
    /// For people: the object, what happened.
    pub message: String,
    /// Stable class, such as `VerificationFailed`, `Upstream`, `InvalidConfig`.
    pub reason: String,
    /// Whether another attempt can help. The dispatcher decides what follows.
    pub retryable: bool,
    /// The provider whose answer failed verification, if that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// `POST /v1/tasks:release`: hands leases back without spending an attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRequest {
    /// The leases.
    pub leases: Vec<Fence>,
}

/// Answer to complete, fail and release.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeResponse {
    /// One per row of the request that was decided. A row without one met a failure that was its own; it is to be sent again.
    pub outcomes: Vec<Outcome>,
}

/// What became of one row.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The task.
    pub task_id: TaskId,
    /// The verdict.
    pub verdict: Verdict,
    /// For people, when it was not accepted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What became of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Applied, now or by an earlier delivery of the same call.
    Accepted,
    /// The lease is not the current one: nothing changed.
    StaleLease,
    /// The claim about objects or hashes does not hold; the attempt is failed with this detail.
    Rejected,
}

/// `POST /v1/tasks:credentials`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsRequest {
    /// The lease.
    #[serde(flatten)]
    pub fence: Fence,
}

/// S3 rights of one attempt: its write prefixes, its inputs' read prefixes, nothing else.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsResponse {
    /// Access key id.
    pub access_key_id: String,
    /// Secret.
    pub secret_access_key: String,
    /// Session token.
    pub session_token: String,
    /// End of the session; ask again before.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

impl std::fmt::Debug for CredentialsResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialsResponse")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}
