//! What the query service may read: datasets, their served version and the objects of its committed partitions.

use std::collections::HashMap;

use dagwright_core::{
    ids::{DatasetId, VersionId},
    range::BlockRange,
};
use sqlx::{Connection, PgConnection, postgres::types::PgRange};
use uuid::Uuid;

use crate::{Result, error::During, rows};

/// A dataset as one snapshot shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogDataset {
    /// Namespace.
    pub namespace: String,
    /// Name, as its object has it.
    pub name: String,
    /// Id.
    pub dataset_id: DatasetId,
    /// `spec.schema` of the Dataset.
    pub schema: serde_json::Value,
    /// Roles that may read it.
    pub read_roles: Vec<String>,
    /// The served version; none before the first cutover.
    pub version: Option<VersionId>,
    /// Objects of the served version's current partitions, by range; none where only datasets were asked for.
    pub objects: Vec<CatalogObject>,
}

/// One committed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogObject {
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 in base64.
    pub sha256: String,
    /// Rows.
    pub rows: u64,
    /// The blocks that its partition covers.
    pub range: BlockRange,
}

/// How much a dataset serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatalogSize {
    /// Objects.
    pub objects: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// The datasets of some namespaces (`*`: of all), without their objects.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn datasets(conn: &mut PgConnection, namespaces: &[String]) -> Result<Vec<CatalogDataset>> {
    let rows = sqlx::query_as!(
        DatasetRow,
        "SELECT dataset_id, namespace, name, schema, read_roles, served_version FROM datasets
         WHERE (namespace = ANY($1) OR '*' = ANY($1)) AND deleted_at IS NULL ORDER BY namespace, name",
        namespaces
    )
    .fetch_all(conn)
    .await
    .during("read the catalog's datasets")?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Some datasets with the objects that they serve, from one snapshot: a reader sees all of a cutover or nothing of it. It costs
/// what these datasets have, whatever else is installed. One that is gone is left out.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn pin(conn: &mut PgConnection, ids: &[DatasetId]) -> Result<Vec<CatalogDataset>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let mut tx = conn
        .begin_with("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .during("begin a catalog snapshot")?;
    let found = sqlx::query_as!(
        DatasetRow,
        "SELECT dataset_id, namespace, name, schema, read_roles, served_version FROM datasets
         WHERE dataset_id = ANY($1) AND deleted_at IS NULL ORDER BY namespace, name",
        &ids
    )
    .fetch_all(&mut *tx)
    .await
    .during("read the datasets of a query")?;
    let mut objects = objects(&mut tx, &ids).await?;
    tx.commit().await.during("end a catalog snapshot")?;
    let with_objects = found.into_iter().map(|row| {
        let objects = objects.remove(&row.dataset_id).unwrap_or_default();
        CatalogDataset { objects, ..row.into() }
    });
    Ok(with_objects.collect())
}

/// How much some datasets serve; one that serves nothing is left out.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn sizes(conn: &mut PgConnection, ids: &[DatasetId]) -> Result<HashMap<DatasetId, CatalogSize>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let found = sqlx::query!(
        r#"SELECT d.dataset_id, count(*) AS "objects!", sum(o.rows)::bigint AS "rows!", sum(o.bytes)::bigint AS "bytes!"
           FROM datasets d
           JOIN partition_versions p ON p.namespace = d.namespace AND p.version = d.served_version AND p.current
           JOIN partition_objects o ON o.partition_id = p.partition_id
           WHERE d.dataset_id = ANY($1) AND d.deleted_at IS NULL GROUP BY d.dataset_id"#,
        &ids
    )
    .fetch_all(conn)
    .await
    .during("read how much datasets serve")?;
    let size = |objects, rows, bytes| CatalogSize {
        objects: rows::count(objects),
        rows: rows::count(rows),
        bytes: rows::count(bytes),
    };
    Ok(found.into_iter().map(|r| (DatasetId(r.dataset_id), size(r.objects, r.rows, r.bytes))).collect())
}

struct DatasetRow {
    dataset_id: Uuid,
    namespace: String,
    name: String,
    schema: serde_json::Value,
    read_roles: Vec<String>,
    served_version: Option<Uuid>,
}

impl From<DatasetRow> for CatalogDataset {
    fn from(row: DatasetRow) -> Self {
        Self {
            namespace: row.namespace,
            name: row.name,
            dataset_id: DatasetId(row.dataset_id),
            schema: row.schema,
            read_roles: row.read_roles,
            version: row.served_version.map(VersionId),
            objects: vec![],
        }
    }
}

struct ObjectRow {
    dataset_id: Uuid,
    range: PgRange<i64>,
    bucket: String,
    key: String,
    bytes: i64,
    sha256: String,
    rows: i64,
}

impl TryFrom<ObjectRow> for CatalogObject {
    type Error = crate::Error;
    fn try_from(row: ObjectRow) -> Result<Self> {
        Ok(Self {
            range: rows::from_pg("partition_versions", &row.key, &row.range)?,
            bucket: row.bucket,
            key: row.key,
            bytes: rows::count(row.bytes),
            sha256: row.sha256,
            rows: rows::count(row.rows),
        })
    }
}

async fn objects(conn: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<CatalogObject>>> {
    let found = sqlx::query_as!(
        ObjectRow,
        r#"SELECT d.dataset_id, p.range, o.bucket, o.key, o.bytes, o.sha256, o.rows
           FROM datasets d
           JOIN partition_versions p ON p.namespace = d.namespace AND p.version = d.served_version AND p.current
           JOIN partition_objects o ON o.partition_id = p.partition_id
           WHERE d.dataset_id = ANY($1) AND d.deleted_at IS NULL
           ORDER BY d.dataset_id, lower(p.range), o.n"#,
        ids
    )
    .fetch_all(conn)
    .await
    .during("read the objects of a query's datasets")?;
    let mut by_dataset: HashMap<Uuid, Vec<CatalogObject>> = HashMap::new();
    for row in found {
        by_dataset.entry(row.dataset_id).or_default().push(row.try_into()?);
    }
    Ok(by_dataset)
}
