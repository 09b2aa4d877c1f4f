//! Cutover: the pointers of all datasets of an owner move together, in one transaction.

use std::collections::HashMap;

use dagwright_core::{
    cutover::{self, DatasetCoverage},
    ids::{DatasetId, VersionId},
    range::{BlockRange, RangeSet},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Result,
    error::{During, expect_rows},
    rows,
};

/// A Dag or ChainSync.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Namespace.
    pub namespace: String,
    /// `ChainSync` or `Dag`.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// Owners of which a dataset does not serve what its job writes.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn candidates(conn: &mut PgConnection) -> Result<Vec<Owner>> {
    let found = sqlx::query!(
        "SELECT DISTINCT j.namespace, j.owner_kind, j.owner_name FROM jobs j
         JOIN job_outputs o ON o.job_id = j.job_id
         JOIN datasets d ON d.dataset_id = o.dataset_id AND d.deleted_at IS NULL
         JOIN dataset_producers p ON p.dataset_id = d.dataset_id AND p.owner_kind = j.owner_kind
              AND p.owner_name = j.owner_name AND p.job = j.name
         WHERE j.removed_at IS NULL AND d.namespace = j.namespace AND d.served_version IS DISTINCT FROM o.version"
    )
    .fetch_all(conn)
    .await
    .during("look for candidates to serve")?;
    Ok(found
        .into_iter()
        .map(|r| Owner { namespace: r.namespace, kind: r.owner_kind, name: r.owner_name })
        .collect())
}

struct Pointer {
    dataset_id: DatasetId,
    served: Option<VersionId>,
    candidate: VersionId,
}

/// Flips all datasets of an owner to what its jobs write, when that covers what is served (I11). Must run in a transaction.
/// Returns how many pointers moved; 0: not ready, or nothing to move.
///
/// Commits take the rows of their versions, in the same order: once this holds them, nothing is added to what is served before
/// the pointers have moved. Whether it is worth holding them up is looked at before.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn flip(conn: &mut PgConnection, owner: &Owner) -> Result<usize> {
    let pointers = lock_pointers(conn, owner).await?;
    let moved: Vec<_> = pointers.iter().filter(|p| p.served != Some(p.candidate)).collect();
    if moved.is_empty() || !cutover::ready(&coverage(conn, &owner.namespace, &pointers).await?) {
        return Ok(0);
    }
    lock_versions(conn, &owner.namespace, &pointers).await?;
    if !cutover::ready(&coverage(conn, &owner.namespace, &pointers).await?) {
        return Ok(0);
    }
    for pointer in &moved {
        move_pointer(conn, owner, pointer).await?;
    }
    Ok(moved.len())
}

fn versions(pointers: &[Pointer]) -> Vec<Uuid> {
    pointers.iter().flat_map(|p| p.served.into_iter().chain([p.candidate])).map(|v| v.0).collect()
}

async fn lock_versions(conn: &mut PgConnection, namespace: &str, pointers: &[Pointer]) -> Result<()> {
    sqlx::query_scalar!(
        "SELECT version FROM dataset_versions WHERE namespace = $1 AND version = ANY($2) ORDER BY version FOR NO KEY UPDATE",
        namespace,
        &versions(pointers)
    )
    .fetch_all(conn)
    .await
    .during("lock the versions of a candidate")?;
    Ok(())
}

/// What is covered of served versions and candidates, in one snapshot.
async fn coverage(
    conn: &mut PgConnection,
    namespace: &str,
    pointers: &[Pointer],
) -> Result<Vec<DatasetCoverage>> {
    let found = sqlx::query!(
        r#"SELECT version, lower(r) AS "start!", upper(r) AS "end!" FROM (
               SELECT version, unnest(range_agg(range)) AS r FROM partition_versions
               WHERE namespace = $1 AND version = ANY($2) AND current AND NOT stale GROUP BY version) c"#,
        namespace,
        &versions(pointers)
    )
    .fetch_all(conn)
    .await
    .during("read the coverage of a candidate")?;
    let mut covered: HashMap<VersionId, RangeSet> = HashMap::new();
    for row in found {
        let range = BlockRange::new(rows::count(row.start), rows::count(row.end));
        range.into_iter().for_each(|r| covered.entry(VersionId(row.version)).or_default().insert(r));
    }
    let of = |version: VersionId| covered.get(&version).cloned().unwrap_or_default();
    let both = |p: &Pointer| DatasetCoverage { served: p.served.map(of), candidate: of(p.candidate) };
    Ok(pointers.iter().map(both).collect())
}

async fn lock_pointers(conn: &mut PgConnection, owner: &Owner) -> Result<Vec<Pointer>> {
    let found = sqlx::query!(
        "SELECT d.dataset_id, d.served_version, o.version FROM jobs j
         JOIN job_outputs o ON o.job_id = j.job_id
         JOIN datasets d ON d.dataset_id = o.dataset_id AND d.deleted_at IS NULL AND d.namespace = j.namespace
         JOIN dataset_producers p ON p.dataset_id = d.dataset_id AND p.owner_kind = j.owner_kind
              AND p.owner_name = j.owner_name AND p.job = j.name
         WHERE j.removed_at IS NULL AND j.namespace = $1 AND j.owner_kind = $2 AND j.owner_name = $3
         ORDER BY d.dataset_id FOR NO KEY UPDATE OF d",
        owner.namespace,
        owner.kind,
        owner.name
    )
    .fetch_all(conn)
    .await
    .during("lock the datasets of a candidate")?;
    let pointer = |dataset_id, served: Option<_>, candidate| Pointer {
        dataset_id: DatasetId(dataset_id),
        served: served.map(VersionId),
        candidate: VersionId(candidate),
    };
    Ok(found.into_iter().map(|r| pointer(r.dataset_id, r.served_version, r.version)).collect())
}

async fn move_pointer(conn: &mut PgConnection, owner: &Owner, pointer: &Pointer) -> Result<()> {
    let moved = sqlx::query!(
        "UPDATE datasets SET served_version = $2, served_since = clock_timestamp()
         WHERE dataset_id = $1 AND served_version IS NOT DISTINCT FROM $3",
        pointer.dataset_id.0,
        pointer.candidate.0,
        pointer.served.map(|v| v.0)
    )
    .execute(&mut *conn)
    .await
    .during("move a dataset's pointer")?;
    expect_rows("move a dataset's pointer", 1, moved.rows_affected())?;
    set_state(conn, &owner.namespace, pointer.candidate, "Served").await?;
    match pointer.served {
        Some(old) if !still_served(conn, &owner.namespace, old).await? => {
            set_state(conn, &owner.namespace, old, "Warm").await
        }
        _ => Ok(()),
    }
}

async fn still_served(conn: &mut PgConnection, namespace: &str, version: VersionId) -> Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM datasets WHERE namespace = $1 AND served_version = $2 AND deleted_at IS NULL) AS "served!""#,
        namespace,
        version.0
    )
    .fetch_one(conn)
    .await
    .during("look who serves a version")
}

async fn set_state(conn: &mut PgConnection, namespace: &str, version: VersionId, state: &str) -> Result<()> {
    let changed = sqlx::query!(
        "UPDATE dataset_versions SET state = $3, state_since = CASE WHEN state = $3 THEN state_since ELSE clock_timestamp() END
         WHERE namespace = $1 AND version = $2",
        namespace,
        version.0,
        state
    )
    .execute(conn)
    .await
    .during("set the state of a version")?;
    expect_rows("set the state of a version", 1, changed.rows_affected())
}
