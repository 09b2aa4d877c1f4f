//! `Dag`: jobs that turn Datasets into Datasets. Schema and validation; the engine that runs them comes later.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    common::{
        DeletionPolicy, Empty, GoDuration, LABEL, LocalRef, Priority, Retry, SNAKE, SecretKeyRef, is_false,
    },
    dataset::Period,
};

/// Five cron fields.
pub(crate) const CRON: &str = r"^\S+( \S+){4}$";

/// Jobs, their wiring, and when the results are shown to readers.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "dagwright.dev",
    version = "v1alpha1",
    kind = "Dag",
    namespaced,
    plural = "dags",
    shortname = "dag",
    category = "dagwright",
    status = "DagStatus",
    derive = "PartialEq",
    doc = "Dag declares jobs that turn Datasets into Datasets. An edit rebuilds what it changes beside the served version and is shown to readers at once when it is complete.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.progress",
        description = "finished of planned partitions of the candidate"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.active.hash", priority = 1),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DagSpec {
    /// Whether to stop planning and starting tasks; what is committed stays. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
    /// When a complete candidate is shown to readers: exactly one of `automatic` and `manual`. Default: `automatic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutover: Option<Cutover>,
    /// How long a replaced version keeps receiving new data, so that going back is instant, from `0s` to `720h`. Default: `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_warm: Option<GoDuration>,
    /// Revisions whose data is kept, 1 to 50. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub history_limit: Option<u32>,
    /// What becomes of outputs that are internal to the Dag when it is deleted. Default: `Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Values for jobs that leave them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<JobDefaults>,
    /// The jobs, 1 to 200, with unique names; order does not matter.
    #[schemars(length(min = 1, max = 200))]
    pub jobs: Vec<Job>,
}

/// When a complete candidate is shown to readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Cutover {
    /// As soon as it is complete and its checks pass.
    Automatic(Empty),
    /// When its hash is approved.
    Manual(ManualCutover),
}

/// Cutover on approval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManualCutover {
    /// Hash of the candidate that may be shown, from `status.candidate.hash`. Default: none is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-f]{8,64}$"), length(max = 64))]
    pub approve: Option<String>,
}

/// Values for jobs that leave them out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobDefaults {
    /// The WorkerPool that runs the tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_pool_ref: Option<LocalRef>,
    /// Longest run of one attempt, from `1s` to `11h`. Default: `15m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// How failed attempts are repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Which tasks of the pool go first. Default: `Normal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Name within the Dag. Example: `transfers`.
    #[schemars(regex(pattern = LABEL), length(max = 40))]
    pub name: String,
    /// Operator id, snake_case. Example: `sql_transform`.
    #[schemars(regex(pattern = SNAKE), length(max = 63))]
    pub operator: String,
    /// Semantics of the operator. Default: the newest when the job was created. Example: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub semantics: Option<u32>,
    /// What starts its tasks: exactly one key. Default: `input` per Partition when there are inputs, else `manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// What it reads, with unique names; inputs and outputs together at most 8. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub inputs: Vec<Input>,
    /// What it writes, with unique names; inputs and outputs together at most 8. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub outputs: Vec<JobOutput>,
    /// How results meet what is there: exactly one of `replace` and `append`. Default: `replace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// The operator's own settings; they are checked against its schema before anything runs. Default: `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Statements about the results that must hold, at most 32, with unique names. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub checks: Vec<Check>,
    /// Tasks of this job at once, 1 to 10000. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_concurrency: Option<u32>,
    /// The WorkerPool that runs its tasks. Default: the Dag's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_pool_ref: Option<LocalRef>,
    /// Longest run of one attempt, from `1s` to `11h`. Default: the Dag's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// How failed attempts are repeated. Default: the Dag's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Which tasks of the pool go first. Default: the Dag's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// What starts the tasks of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Activation {
    /// New data of its inputs, as it is committed.
    Input(InputActivation),
    /// A schedule: one task per time that it names.
    Cron(CronActivation),
    /// A call from outside over HTTP: one task per call.
    Webhook(WebhookActivation),
    /// Nothing by itself: only a Backfill or the kubectl plugin.
    Manual(Empty),
    /// One task that runs all the time and is started again when it ends.
    Always(Empty),
}

/// Tasks per new data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputActivation {
    /// `Partition`: one task per output range; `Update`: one task for all that is new.
    pub per: Per,
}

/// The grain of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Per {
    /// One task per output range.
    Partition,
    /// One task for all that is new.
    Update,
}

/// Tasks on a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CronActivation {
    /// Five cron fields. Example: `0 3 * * *`.
    #[schemars(regex(pattern = CRON), length(max = 128))]
    pub schedule: String,
    /// IANA time zone. Default: `Etc/UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z]+(/[-+_A-Za-z0-9]+)*$"), length(max = 64))]
    pub time_zone: Option<String>,
    /// What happens when the last run still works. Default: `Forbid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Missed runs that are made up for, 0 to 100. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub catch_up: Option<u32>,
}

/// What happens when the last run still works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Concurrency {
    /// Both run.
    Allow,
    /// The new run is left out.
    Forbid,
    /// The old run is cancelled.
    Replace,
}

/// Tasks by calls from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookActivation {
    /// Path under the namespace's ingress. Example: `orders`.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9/]*[a-z0-9])?$"), length(max = 128))]
    pub path: String,
    /// How calls are proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<Hmac>,
    /// Header whose value makes a repeated call one call. Default: the body's hash. Example: `X-Request-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[-A-Za-z0-9]+$"), length(max = 128))]
    pub dedupe_header: Option<String>,
}

/// A keyed hash over the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hmac {
    /// The key, in a Secret that carries the label `dagwright.dev/webhook-key`.
    pub secret_key_ref: SecretKeyRef,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The name that config uses. Example: `logs`.
    #[schemars(regex(pattern = SNAKE), length(max = 40))]
    pub name: String,
    /// What is read: exactly one of `datasetRef` and `job`.
    pub from: Source,
    /// How output ranges map to input ranges: exactly one key. Default: `identity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<Mapping>,
    /// Column to the values that are let through, applied by the platform; at most 8 columns of 64 values. Example: `{topic0: ["0xddf2…"]}`.
    #[serde(default, rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 8), schema_with = "filter")]
    pub filter: BTreeMap<String, Vec<String>>,
}

fn filter(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": { "type": "array", "maxItems": 64, "minItems": 1, "items": { "type": "string", "maxLength": 256 } }
    })
}

/// What an input reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The served version of a Dataset.
    DatasetRef(DatasetRef),
    /// An output of another job of this Dag.
    Job(JobRef),
}

/// A Dataset, here or in a namespace that shares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatasetRef {
    /// Name of the Dataset. Example: `eth-logs`.
    #[schemars(regex(pattern = LABEL), length(max = 40))]
    pub name: String,
    /// Its namespace, which must share it. Default: the Dag's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = LABEL), length(max = 63))]
    pub namespace: Option<String>,
}

/// An output of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRef {
    /// Name of the job. Example: `transfers`.
    #[schemars(regex(pattern = LABEL), length(max = 40))]
    pub name: String,
    /// Name of its output. Example: `transfers`.
    #[schemars(regex(pattern = SNAKE), length(max = 40))]
    pub output: String,
}

/// How output ranges map to input ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mapping {
    /// A range reads the same range.
    Identity(Empty),
    /// Ranges of another size.
    Rechunk(Rechunk),
    /// Each range reads everything.
    All(Empty),
    /// Ranges of equal time.
    Time(TimeMapping),
}

/// Ranges of another size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rechunk {
    /// Blocks per output range. Example: 100000.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub blocks: u32,
}

/// Ranges of equal time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeMapping {
    /// Length of an output range. Example: `Day`.
    pub every: Period,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobOutput {
    /// Name that other jobs and checks use. Example: `transfers`.
    #[schemars(regex(pattern = SNAKE), length(max = 40))]
    pub name: String,
    /// The Dataset that points at it. Default: none, the output is internal to the Dag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_ref: Option<LocalRef>,
}

/// How results meet what is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Update {
    /// A range's result replaces the range.
    Replace(Empty),
    /// Rows are upserted by the Dataset's unique key.
    Append(Empty),
}

/// A statement about results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Name within the job. Example: `no-nulls`.
    #[schemars(regex(pattern = LABEL), length(max = 40))]
    pub name: String,
    /// A SELECT of one boolean over the job's outputs. Example: `select count(*) = 0 from transfers where value is null`.
    #[schemars(length(min = 1, max = 8192))]
    pub sql: String,
    /// What a false answer does. Default: `BlockCutover`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnCheckFailure>,
}

/// What a failed check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnCheckFailure {
    /// The candidate is not shown to readers.
    BlockCutover,
    /// It is reported only.
    Report,
}

/// Where the Dag stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DagStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready, Reconciling, Stalled, UpToDate, CutoverPending, UpgradeAvailable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The last value of the annotation `reconcile.fluxcd.io/requestedAt` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Finished of planned partitions of the candidate. Example: `120/460`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub progress: Option<String>,
    /// The version that readers see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveVersion>,
    /// The version that is being built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// Counts of jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<JobCounts>,
}

/// The version that readers see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveVersion {
    /// Hash of the version, over everything that decides its content.
    #[schemars(length(max = 64))]
    pub hash: String,
    /// Since when readers see it.
    pub since: Time,
}

/// The version that is being built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Hash of the version; `spec.cutover.manual.approve` names it.
    #[schemars(length(max = 64))]
    pub hash: String,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<CandidateProgress>,
    /// What is rebuilt, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<RebuildPlan>,
}

/// How far a candidate is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateProgress {
    /// Partitions of all outputs that are built for it.
    pub partitions: PartitionCounts,
    /// Tasks that build it.
    pub tasks: TaskCounts,
    /// When it will be complete at this pace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_at: Option<Time>,
}

/// Counts of partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionCounts {
    /// Partitions that are committed.
    pub done: i64,
    /// Partitions that are planned, the committed ones included.
    pub total: i64,
}

/// Counts of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskCounts {
    /// Tasks that wait for a worker or for their retry.
    pub queued: i64,
    /// Tasks that a worker holds.
    pub running: i64,
    /// Tasks that are out of attempts.
    pub failed: i64,
}

/// What a candidate reuses and rebuilds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RebuildPlan {
    /// Outputs that are taken over as they are.
    pub reused: i64,
    /// Outputs that are computed anew, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub rebuilt: Vec<Rebuilt>,
}

/// An output that is computed anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rebuilt {
    /// The Dataset or internal output.
    #[schemars(length(max = 128))]
    pub dataset: String,
    /// Path of the field whose change is the cause. Example: `jobs[0].config.sql`.
    #[schemars(length(max = 256))]
    pub because: String,
}

/// Counts of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobCounts {
    /// All jobs of the Dag.
    pub total: i64,
    /// Jobs with nothing left to do.
    pub done: i64,
    /// Jobs with something left to do, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub unfinished: Vec<UnfinishedJob>,
}

/// A job with something left to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnfinishedJob {
    /// Name of the job.
    #[schemars(length(max = 40))]
    pub name: String,
    /// Finished tasks.
    pub done: i64,
    /// Running tasks.
    pub running: i64,
    /// Tasks out of attempts.
    pub failed: i64,
    /// Waiting tasks.
    pub waiting: i64,
}
