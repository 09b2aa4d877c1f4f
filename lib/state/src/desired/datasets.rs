//! Datasets: pointers to data, and who produces it.

use dagwright_core::ids::DatasetId;
use serde_json::Value;
use sqlx::PgConnection;

use crate::{Result, error::During};

/// A Dataset as the controller wants it.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Dataset {
    /// Id.
    pub dataset_id: DatasetId,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `spec.storage`.
    pub storage: Value,
    /// `spec.schema`.
    pub schema: Value,
    /// Roles that may read it.
    pub read_roles: Vec<String>,
    /// Namespaces that may read it.
    pub share_with: Vec<String>,
    /// Generation of the object.
    pub generation: i64,
}

/// Who produces a Dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// `ChainSync` or `Dag`.
    pub owner_kind: String,
    /// Its name.
    pub owner_name: String,
    /// Its stream or job.
    pub job: String,
}

/// Writes the Dataset; a deleted one of the same name comes back with its pointer. Answers whether anything changed.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn upsert(conn: &mut PgConnection, dataset: &Dataset) -> Result<bool> {
    let written = sqlx::query!(
        "INSERT INTO datasets (dataset_id, namespace, name, storage, schema, read_roles, share_with, generation)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (dataset_id) DO UPDATE SET
            storage = excluded.storage, schema = excluded.schema, read_roles = excluded.read_roles,
            share_with = excluded.share_with, generation = excluded.generation, deleted_at = NULL
         WHERE (datasets.storage, datasets.schema, datasets.read_roles, datasets.share_with, datasets.generation)
               IS DISTINCT FROM (excluded.storage, excluded.schema, excluded.read_roles, excluded.share_with, excluded.generation)
            OR datasets.deleted_at IS NOT NULL",
        dataset.dataset_id.0,
        dataset.namespace,
        dataset.name,
        dataset.storage,
        dataset.schema,
        &dataset.read_roles,
        &dataset.share_with,
        dataset.generation
    )
    .execute(conn)
    .await
    .during("write a dataset")?;
    Ok(written.rows_affected() > 0)
}

/// Who produces a Dataset.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn producer(conn: &mut PgConnection, dataset_id: DatasetId) -> Result<Option<Producer>> {
    sqlx::query_as!(
        Producer,
        "SELECT owner_kind, owner_name, job FROM dataset_producers WHERE dataset_id = $1",
        dataset_id.0
    )
    .fetch_optional(conn)
    .await
    .during("read a dataset's producer")
}

/// Removes a Dataset. With `forget` its pointer goes too, and the data behind it is the collector's; without, a Dataset of
/// the same name finds it again.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn delete(conn: &mut PgConnection, dataset_id: DatasetId, forget: bool) -> Result<()> {
    sqlx::query!("DELETE FROM dataset_producers WHERE dataset_id = $1", dataset_id.0)
        .execute(&mut *conn)
        .await
        .during("delete a dataset's producer")?;
    sqlx::query!(
        "UPDATE datasets SET deleted_at = clock_timestamp(),
            served_version = CASE WHEN $2 THEN NULL ELSE served_version END,
            served_since = CASE WHEN $2 THEN NULL ELSE served_since END
         WHERE dataset_id = $1 AND deleted_at IS NULL",
        dataset_id.0,
        forget
    )
    .execute(conn)
    .await
    .during("delete a dataset")?;
    Ok(())
}
