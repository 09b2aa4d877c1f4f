//! `Dataset`: a table that people query and Dags read; it points at a version of the data.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{DeletionPolicy, Empty, LABEL, SNAKE};

/// A type as SQL writes it.
pub(crate) const SQL_TYPE: &str = r"^[A-Z][A-Z0-9_]*( [A-Z]+)*(\([0-9]{1,2}(, ?[0-9]{1,2})?\))?(\[\])?$";

/// A table that is produced by one job and queried as `namespace.dataset`.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "dagwright.dev",
    version = "v1alpha1",
    kind = "Dataset",
    namespaced,
    plural = "datasets",
    shortname = "dset",
    category = "dagwright",
    status = "DatasetStatus",
    derive = "PartialEq",
    doc = "Dataset is a table that one job produces and that people query as namespace.dataset (with - written _). It points at the version of the data that readers see.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".status.rows"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "SQL", type_ = "string", json_path = ".status.sqlName", priority = 1),
    printcolumn(name = "Partitions", type_ = "integer", json_path = ".status.partitions", priority = 1),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.bytes", priority = 1),
    printcolumn(name = "Producer", type_ = "string", json_path = ".status.producer.name", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DatasetSpec {
    /// Where the data is kept: exactly one of `s3`, `postgres` and `hotCold`. It cannot be changed.
    pub storage: Storage,
    /// The columns: exactly one of `evm` and `columns`. It cannot be changed.
    pub schema: TableSchema,
    /// Columns that name a row, at most 16. Default: none. Example: `[chain_id, block_number]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(regex(pattern = SNAKE), length(max = 63)))]
    pub unique_key: Vec<String>,
    /// How the data is cut: exactly one of `blockRange`, `time`, `hash` and `single`. Default: `blockRange`. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitioning: Option<Partitioning>,
    /// Roles of people who may query it, at most 64; nobody else may. Default: none. Example: `[analyst]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(regex(pattern = r"^[-._:/a-zA-Z0-9]+$"), length(max = 128)))]
    pub read_roles: Vec<String>,
    /// Namespaces whose Dags and Alerts may read it, at most 64, each named once. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub share_with: Vec<Share>,
    /// What becomes of the data when the Dataset is deleted: `Retain` lets a Dataset of the same name find it again, `Delete`
    /// leaves it to the collector. Default: `Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Where the data is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Storage {
    /// Parquet objects on S3.
    S3(Empty),
    /// Rows in Postgres.
    Postgres(Empty),
    /// New rows in Postgres, older ones on S3; read as one table.
    HotCold(Empty),
}

/// The columns of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TableSchema {
    /// The columns that the operator `evm_ingest` writes for an output kind. Example: `blocks`.
    Evm(EvmKind),
    /// Columns of your own, 1 to 512, with unique names.
    Columns(#[schemars(length(min = 1, max = 512))] Vec<Column>),
}

/// An output kind of `evm_ingest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvmKind {
    /// One row per block.
    Blocks,
    /// One row per transaction, with its receipt's outcome.
    Transactions,
    /// One row per log.
    Logs,
}

impl EvmKind {
    /// As users and the state write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Transactions => "transactions",
            Self::Logs => "logs",
        }
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// Name, snake_case. Example: `block_number`.
    #[schemars(regex(pattern = SNAKE), length(max = 63))]
    pub name: String,
    /// Type as SQL writes it. Example: `BIGINT`, `DECIMAL(38, 0)`, `VARCHAR`.
    #[serde(rename = "type")]
    #[schemars(
        regex(pattern = SQL_TYPE),
        length(max = 64)
    )]
    pub type_: String,
    /// Whether it may hold NULL. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nullable: Option<bool>,
}

/// How the data is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Partitioning {
    /// By ranges of blocks, as large as their producer's chunks.
    BlockRange(Empty),
    /// By time: one partition per calendar period, UTC.
    Time(TimePartitioning),
    /// By the hash of the unique key, into a fixed number of buckets.
    Hash(HashPartitioning),
    /// Not at all: the whole table is one partition.
    Single(Empty),
}

/// Partitions of equal time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimePartitioning {
    /// Length of a partition. Example: `Day`.
    pub every: Period,
}

/// A calendar period, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
}

/// Partitions by hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashPartitioning {
    /// Number of buckets, 2 to 1000. Example: 16.
    #[schemars(range(min = 2, max = 1000))]
    pub buckets: u32,
}

/// A namespace that may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// The namespace. Example: `team-b`.
    #[schemars(regex(pattern = LABEL), length(max = 63))]
    pub namespace: String,
}

/// What the Dataset holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatasetStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready, Reconciling, Stalled, Serving.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The last value of the annotation `reconcile.fluxcd.io/requestedAt` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Id of the Dataset; a Dataset created again under the same name has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub uuid: Option<String>,
    /// How it is written in SQL. Example: `demo.eth_blocks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub sql_name: Option<String>,
    /// The version that readers see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub served_version: Option<String>,
    /// Who writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<Producer>,
    /// Committed partitions of the served version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i64>,
    /// Rows of the served version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Bytes of the served version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Lowest and highest committed block of the served version, `[start, end)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// When a partition was last committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit_at: Option<Time>,
}

/// Who writes a Dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Producer {
    /// Kind of the object that writes: `ChainSync` or `Dag`.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the object that writes, in the same namespace.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its stream or job that writes.
    #[schemars(length(max = 63))]
    pub job: String,
}

/// Blocks `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    /// First block, included.
    pub start: i64,
    /// Block after the last one, so excluded.
    pub end: i64,
}
