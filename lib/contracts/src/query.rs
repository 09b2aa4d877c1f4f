//! The query API: `POST /v1/query`.

use serde::{Deserialize, Serialize};

/// A query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryRequest {
    /// One SELECT over `namespace.dataset`.
    pub sql: String,
    /// Values of `$1`, `$2`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<serde_json::Value>,
    /// Shape of the answer.
    #[serde(default)]
    pub format: Format,
    /// Rows at most; the service has a cap of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<u64>,
    /// Seconds at most; the service has a cap of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// Shape of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `application/json`: a [`JsonResult`].
    #[default]
    Json,
    /// `application/vnd.apache.arrow.stream`.
    Arrow,
    /// `text/csv` with a header line.
    Csv,
}

/// The JSON answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JsonResult {
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Rows in order. Integers beyond 2^53 and decimals are strings, binary is `0x` hex, instants are RFC 3339.
    pub rows: Vec<Vec<serde_json::Value>>,
    /// Number of rows in this answer.
    pub row_count: u64,
    /// Whether a cap cut the answer.
    pub truncated: bool,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Arrow type, such as `UInt64`.
    #[serde(rename = "type")]
    pub data_type: String,
}

/// The answer of `GET /v1/datasets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetList {
    /// By name.
    pub datasets: Vec<DatasetEntry>,
}

/// A dataset that the caller may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetEntry {
    /// As SQL names it: `schema.table`.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Name of the Dataset object.
    pub dataset: String,
    /// The served version; none before the first commit is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Objects of the served version.
    pub objects: u64,
    /// Rows of the served version.
    pub rows: u64,
    /// Bytes of the served version.
    pub bytes: u64,
}

/// The answer of `GET /v1/datasets/{name}/schema`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetSchema {
    /// As SQL names it.
    pub name: String,
    /// Columns in order; the type is the engine's, such as `UBIGINT`.
    pub columns: Vec<Column>,
}
