//! `WorkerPool`: workers on ECS/Fargate with a queue of their own.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{DeletionPolicy, GoDuration, ROLE_ARN};

/// The pairs of CPU units and memory in MiB that Fargate runs: `(cpu, least, most, step)`. Besides these, 256 units take 512 MiB.
pub const FARGATE_SIZES: &[(i64, i64, i64, i64)] = &[
    (256, 1024, 2048, 1024),
    (512, 1024, 4096, 1024),
    (1024, 2048, 8192, 1024),
    (2048, 4096, 16384, 1024),
    (4096, 8192, 30720, 1024),
    (8192, 16384, 61440, 4096),
    (16384, 32768, 122_880, 8192),
];

/// Workers on ECS/Fargate that take the tasks of one pool.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "dagwright.dev",
    version = "v1alpha1",
    kind = "WorkerPool",
    namespaced,
    plural = "workerpools",
    shortname = "wp",
    category = "dagwright",
    status = "WorkerPoolStatus",
    derive = "PartialEq",
    doc = "WorkerPool runs workers on ECS/Fargate, with an SQS queue of their own, scaled by the backlog of their tasks.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Backlog",
        type_ = "integer",
        json_path = ".status.backlog",
        description = "tasks that wait"
    ),
    printcolumn(
        name = "Workers",
        type_ = "integer",
        json_path = ".status.workers.running",
        description = "workers that run"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.workers.desired", priority = 1),
    printcolumn(
        name = "Dead",
        type_ = "integer",
        json_path = ".status.deadLetters",
        priority = 1,
        description = "messages in the dead-letter queue"
    ),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct WorkerPoolSpec {
    /// The worker's image, best by digest. Example: `registry.example/dagwright-worker@sha256:…`.
    #[schemars(regex(pattern = r"^[a-zA-Z0-9][-a-zA-Z0-9._/:@]*$"), length(max = 512))]
    pub image: String,
    /// CPU of one worker in ECS units; 1024 are one vCPU. One of 256, 512, 1024, 2048, 4096, 8192, 16384. Example: 512.
    #[schemars(range(min = 256, max = 16384))]
    pub cpu: i64,
    /// Memory of one worker in MiB; Fargate takes certain pairs with `cpu` only. Example: 1024.
    #[serde(rename = "memoryMiB")]
    #[schemars(range(min = 512, max = 122_880))]
    pub memory_mib: i64,
    /// Scratch disk of one worker in GiB, 21 to 200. Default: the 20 GiB that Fargate always gives.
    #[serde(default, rename = "ephemeralStorageGiB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 21, max = 200))]
    pub ephemeral_storage_gib: Option<i64>,
    /// Processor architecture of the image. Default: `X86_64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// Tasks that one worker runs at once. Default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub slots: Option<u32>,
    /// How workers are started: exactly one of `service` and `onDemand`.
    pub run: RunMode,
    /// Capacity providers to spread workers over, at most 4, each named once; one may have a base. Default: FARGATE alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub capacity: Vec<Capacity>,
    /// Where workers are attached. Default: the controller's network; when there is none, the pool is Stalled with reason NoNetwork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// IAM roles of the workers. Default: the controller's roles; when there are none, the pool is Stalled with reason NoRoles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Roles>,
    /// The pool's SQS queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Time that a worker gets to hand its leases back when it is stopped, from `2s` to `120s`. Default: `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<GoDuration>,
    /// Whether queue, service and task definition are removed with the pool (`Delete`) or stay (`Retain`). Default: `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Processor architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Architecture {
    /// Intel and AMD.
    #[default]
    #[serde(rename = "X86_64")]
    X86,
    /// Graviton.
    #[serde(rename = "ARM64")]
    Arm,
}

impl Architecture {
    /// As ECS writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86 => "X86_64",
            Self::Arm => "ARM64",
        }
    }
}

/// How workers are started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RunMode {
    /// An ECS service whose desired count follows the backlog.
    Service(ServiceMode),
    /// Single ECS tasks, started per batch of backlog; nothing runs when idle.
    OnDemand(OnDemandMode),
}

/// A service whose desired count follows the backlog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMode {
    /// Workers that always run. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min: Option<u32>,
    /// Most workers at once; not below `min`. Example: 20.
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
    /// Waiting tasks per worker that the scaler aims at. Default: twice the slots. Example: 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub tasks_per_worker: Option<u32>,
    /// How long the backlog must be empty before workers are taken away, from `0s` to `1h`. Default: `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<GoDuration>,
}

/// Single ECS tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnDemandMode {
    /// Most workers at once. Example: 20.
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
}

/// A share of the workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Name of the capacity provider, as ECS writes it. Example: `FARGATE_SPOT`.
    pub provider: CapacityProvider,
    /// Share of the workers above all bases, relative to the other weights, 0 to 1000. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub weight: Option<i32>,
    /// Workers that are placed here before weights count. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub base: Option<i32>,
}

/// A Fargate capacity provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CapacityProvider {
    /// On demand.
    #[serde(rename = "FARGATE")]
    Fargate,
    /// Spot: cheaper, may be taken away with two minutes' notice.
    #[serde(rename = "FARGATE_SPOT")]
    FargateSpot,
}

impl CapacityProvider {
    /// As ECS writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fargate => "FARGATE",
            Self::FargateSpot => "FARGATE_SPOT",
        }
    }
}

/// Where workers are attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Subnets, 1 to 16. Example: `subnet-0abc`.
    #[schemars(length(min = 1, max = 16), inner(regex(pattern = r"^subnet-[a-z0-9-]+$"), length(max = 64)))]
    pub subnets: Vec<String>,
    /// Security groups, 1 to 5. Example: `sg-0abc`.
    #[schemars(length(min = 1, max = 5), inner(regex(pattern = r"^sg-[a-z0-9-]+$"), length(max = 64)))]
    pub security_groups: Vec<String>,
    /// Whether workers get a public address; needed in subnets without NAT or endpoints. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign_public_ip: Option<bool>,
}

/// IAM roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Roles {
    /// ARN of the role that workers act as: it may receive, delete and extend messages of its own queue, nothing else. The
    /// controller must allow it to the namespace (`--allowed-task-roles`); otherwise the pool is Stalled with reason RoleNotAllowed.
    #[schemars(regex(pattern = ROLE_ARN), length(max = 2048))]
    pub task: String,
    /// ARN of the role by which ECS pulls the image, reads the pool's token and writes logs.
    #[schemars(regex(pattern = ROLE_ARN), length(max = 2048))]
    pub execution: String,
}

/// The pool's SQS queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Times that a message is received before it moves to the dead-letter queue, 1 to 1000. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_receive_count: Option<u32>,
    /// Length of a task's lease, which is the queue's visibility timeout too, from `10s` to `1h`. A worker that dies holds its
    /// tasks for so long. Default: `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<GoDuration>,
}

impl WorkerPoolSpec {
    /// Tasks that one worker runs at once.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots.unwrap_or(4)
    }
    /// Receives before the dead-letter queue.
    #[must_use]
    pub fn max_receive_count(&self) -> u32 {
        self.queue.as_ref().and_then(|q| q.max_receive_count).unwrap_or(5)
    }
    /// Length of a lease.
    #[must_use]
    pub fn lease(&self) -> Duration {
        GoDuration::or(self.queue.as_ref().and_then(|q| q.lease.as_ref()), Duration::from_secs(60))
    }
    /// Time to hand leases back.
    #[must_use]
    pub fn stop_timeout(&self) -> Duration {
        GoDuration::or(self.stop_timeout.as_ref(), Duration::from_secs(60))
    }
    /// What becomes of the AWS resources.
    #[must_use]
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.deletion_policy.unwrap_or(DeletionPolicy::Delete)
    }
}

impl ServiceMode {
    /// How long the backlog must be empty before workers are taken away.
    #[must_use]
    pub fn cooldown(&self) -> Duration {
        GoDuration::or(self.cooldown.as_ref(), Duration::from_secs(120))
    }
}

/// What runs, and what waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerPoolStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready, Reconciling, Stalled, QueueReady, ServiceReady.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The last value of the annotation `reconcile.fluxcd.io/requestedAt` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// URL of the SQS queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub queue_url: Option<String>,
    /// URL of the dead-letter queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub dead_letter_queue_url: Option<String>,
    /// ARN of the task definition that new workers run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub task_definition_arn: Option<String>,
    /// ARN of the ECS service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub service_arn: Option<String>,
    /// How many workers are wanted, run, and hold a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
    /// Tasks that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// When the oldest waiting task was queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_queued_at: Option<Time>,
    /// Messages in the dead-letter queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<i64>,
}

/// Counts of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workers {
    /// Workers that the scaler wants.
    pub desired: i64,
    /// Workers that run.
    pub running: i64,
    /// Workers that hold a task.
    pub busy: i64,
}
