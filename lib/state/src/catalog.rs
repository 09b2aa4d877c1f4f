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
    /// Objects of the served version's current partitions, by range.
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

/// Everything that is served in some namespaces (`*`: in all), from one snapshot: a reader sees all of a cutover or nothing of it.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn snapshot(conn: &mut PgConnection, namespaces: &[String]) -> Result<Vec<CatalogDataset>> {
    let mut tx = conn
        .begin_with("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .during("begin a catalog snapshot")?;
    let datasets = datasets(&mut tx, namespaces).await?;
    let mut objects = objects(&mut tx, namespaces).await?;
    tx.commit().await.during("end a catalog snapshot")?;
    let with_objects = datasets.into_iter().map(|mut dataset| {
        let key = dataset.version.map(|v| (dataset.namespace.clone(), v));
        dataset.objects = key.and_then(|key| objects.remove(&key)).unwrap_or_default();
        dataset
    });
    Ok(with_objects.collect())
}

async fn datasets(conn: &mut PgConnection, namespaces: &[String]) -> Result<Vec<CatalogDataset>> {
    let rows = sqlx::query!(
        "SELECT dataset_id, namespace, name, schema, read_roles, served_version FROM datasets
         WHERE (namespace = ANY($1) OR '*' = ANY($1)) AND deleted_at IS NULL ORDER BY namespace, name",
        namespaces
    )
    .fetch_all(conn)
    .await
    .during("read the catalog's datasets")?;
    let datasets = rows.into_iter().map(|row| CatalogDataset {
        namespace: row.namespace,
        name: row.name,
        dataset_id: DatasetId(row.dataset_id),
        schema: row.schema,
        read_roles: row.read_roles,
        version: row.served_version.map(VersionId),
        objects: vec![],
    });
    Ok(datasets.collect())
}

struct ObjectRow {
    namespace: String,
    version: Uuid,
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

type ByVersion = HashMap<(String, VersionId), Vec<CatalogObject>>;

async fn objects(conn: &mut PgConnection, namespaces: &[String]) -> Result<ByVersion> {
    let found = sqlx::query_as!(
        ObjectRow,
        r#"SELECT p.namespace, p.version, p.range, o.bucket, o.key, o.bytes, o.sha256, o.rows
           FROM partition_versions p JOIN partition_objects o USING (partition_id)
           WHERE p.current AND (p.namespace, p.version) IN
               (SELECT namespace, served_version FROM datasets
                WHERE (namespace = ANY($1) OR '*' = ANY($1)) AND deleted_at IS NULL AND served_version IS NOT NULL)
           ORDER BY p.namespace, p.version, lower(p.range), o.n"#,
        namespaces
    )
    .fetch_all(conn)
    .await
    .during("read the catalog's objects")?;
    let mut by_version = ByVersion::new();
    for row in found {
        let key = (row.namespace.clone(), VersionId(row.version));
        by_version.entry(key).or_default().push(row.try_into()?);
    }
    Ok(by_version)
}
