//! What a caller may read, as one snapshot of the state database shows it.

use std::collections::HashMap;

use arrow::datatypes::{DataType, TimeUnit};
use dagwright_core::{ids::DatasetId, names};
pub use dagwright_state::catalog::{CatalogDataset, CatalogObject, CatalogSize};
use serde_json::Value;
use sqlx::{Postgres, pool::PoolConnection};

use crate::{auth::Caller, gate::DatasetName};

/// Where datasets and their objects are looked up.
#[async_trait::async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Datasets of some namespaces, without their objects: what a query may name.
    async fn datasets(&self, namespaces: &[String]) -> dagwright_state::Result<Vec<CatalogDataset>>;

    /// These datasets with the objects that they serve, all from one snapshot: what a query does name.
    async fn pin(&self, ids: &[DatasetId]) -> dagwright_state::Result<Vec<CatalogDataset>>;

    /// How much these datasets serve.
    async fn sizes(&self, ids: &[DatasetId]) -> dagwright_state::Result<HashMap<DatasetId, CatalogSize>>;
}

/// The state database.
pub struct StateCatalog {
    pub pool: sqlx::PgPool,
}

impl StateCatalog {
    async fn connect(&self) -> dagwright_state::Result<PoolConnection<Postgres>> {
        self.pool.acquire().await.map_err(|source| dagwright_state::Error::Query {
            operation: "connect to the state database",
            source,
        })
    }
}

#[async_trait::async_trait]
impl Catalog for StateCatalog {
    async fn datasets(&self, namespaces: &[String]) -> dagwright_state::Result<Vec<CatalogDataset>> {
        dagwright_state::catalog::datasets(&mut *self.connect().await?, namespaces).await
    }

    async fn pin(&self, ids: &[DatasetId]) -> dagwright_state::Result<Vec<CatalogDataset>> {
        dagwright_state::catalog::pin(&mut *self.connect().await?, ids).await
    }

    async fn sizes(&self, ids: &[DatasetId]) -> dagwright_state::Result<HashMap<DatasetId, CatalogSize>> {
        dagwright_state::catalog::sizes(&mut *self.connect().await?, ids).await
    }
}

/// Datasets by SQL name that a caller may read: of a namespace of the token, with a role in common.
pub type Readable = HashMap<DatasetName, CatalogDataset>;

/// What `caller` may read of a snapshot. A dataset without read roles is readable to nobody.
#[must_use]
pub fn readable(caller: &Caller, datasets: Vec<CatalogDataset>) -> Readable {
    let granted = datasets.into_iter().filter(|dataset| {
        caller.opens(&dataset.namespace) && dataset.read_roles.iter().any(|role| caller.roles.contains(role))
    });
    granted.map(|dataset| (sql_name(&dataset), dataset)).collect()
}

/// How SQL names a dataset.
#[must_use]
pub fn sql_name(dataset: &CatalogDataset) -> DatasetName {
    DatasetName {
        schema: names::sql_schema_name(&dataset.namespace),
        table: names::sql_table_name(&dataset.name),
    }
}

/// Columns of a dataset by its declared schema, with engine types; none when the schema is of a kind that is not known here.
#[must_use]
pub fn columns(schema: &Value) -> Vec<(String, String)> {
    if let Some(kind) = schema["evm"].as_str() {
        return evm_columns(kind);
    }
    let columns = schema["columns"].as_array();
    let column = |c: &Value| Some((c["name"].as_str()?.to_owned(), c["type"].as_str()?.to_owned()));
    columns.into_iter().flatten().filter_map(column).collect()
}

fn evm_columns(kind: &str) -> Vec<(String, String)> {
    let Ok(kind) = kind.parse::<dagwright_evm::OutputKind>() else { return Vec::new() };
    let Ok(schema) = dagwright_evm::parquet::schema(kind) else { return Vec::new() };
    schema.fields().iter().filter_map(|f| Some((f.name().clone(), engine_type(f.data_type())?))).collect()
}

/// The type as which the engine reads an Arrow column from Parquet.
fn engine_type(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INTEGER".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "UTINYINT".into(),
        DataType::UInt16 => "USMALLINT".into(),
        DataType::UInt32 => "UINTEGER".into(),
        DataType::UInt64 => "UBIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 => "VARCHAR".into(),
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "BLOB".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".into(),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => "TIMESTAMP_NS".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::List(item) | DataType::LargeList(item) => format!("{}[]", engine_type(item.data_type())?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(namespace: &str, roles: &[&str]) -> CatalogDataset {
        CatalogDataset {
            namespace: namespace.into(),
            name: "eth-blocks".into(),
            dataset_id: dagwright_core::ids::DatasetId(uuid::Uuid::nil()),
            schema: Value::Null,
            read_roles: roles.iter().map(ToString::to_string).collect(),
            version: None,
            objects: vec![],
        }
    }

    #[test]
    fn reading_takes_the_namespace_and_a_role() {
        let caller = Caller {
            subject: "a".into(),
            roles: vec!["analyst".into()],
            namespaces: vec!["demo".into(), "default".into()],
        };
        let all = vec![
            dataset("demo", &["analyst", "admin"]),
            dataset("default", &["analyst"]),
            dataset("other", &["analyst"]),
        ];
        let mut names: Vec<_> = readable(&caller, all).into_keys().map(|n| n.to_string()).collect();
        names.sort();
        assert_eq!(names, ["demo.eth_blocks", "ns_default.eth_blocks"]);
        assert!(readable(&caller, vec![dataset("demo", &["admin"]), dataset("demo", &[])]).is_empty());
    }
}
