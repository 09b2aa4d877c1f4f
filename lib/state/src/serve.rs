//! Cutover: the pointers of all datasets of an owner move together, in one transaction.

use dagwright_core::{
    cutover::{self, DatasetCoverage},
    ids::{DatasetId, VersionId},
    range::{BlockRange, RangeSet},
};
use sqlx::PgConnection;

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

/// Flips all datasets of an owner to what its jobs write, when that covers what is served. Must run in a transaction. Returns
/// how many pointers moved; 0: not ready, or another replica holds the rows.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn flip(conn: &mut PgConnection, owner: &Owner) -> Result<usize> {
    let pointers = lock_pointers(conn, owner).await?;
    let mut coverage = Vec::with_capacity(pointers.len());
    for pointer in &pointers {
        let served = match pointer.served {
            Some(version) => Some(covered(conn, &owner.namespace, version).await?),
            None => None,
        };
        coverage.push(DatasetCoverage {
            served,
            candidate: covered(conn, &owner.namespace, pointer.candidate).await?,
        });
    }
    if !cutover::ready(&coverage) {
        return Ok(0);
    }
    let moved: Vec<_> = pointers.iter().filter(|p| p.served != Some(p.candidate)).collect();
    for pointer in &moved {
        move_pointer(conn, owner, pointer).await?;
    }
    Ok(moved.len())
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

async fn covered(conn: &mut PgConnection, namespace: &str, version: VersionId) -> Result<RangeSet> {
    let found = sqlx::query!(
        r#"SELECT lower(r) AS "start!", upper(r) AS "end!" FROM (
               SELECT unnest(range_agg(range)) AS r FROM partition_versions
               WHERE namespace = $1 AND version = $2 AND current AND NOT stale) c"#,
        namespace,
        version.0
    )
    .fetch_all(conn)
    .await
    .during("read the coverage of a version")?;
    Ok(found.into_iter().filter_map(|r| BlockRange::new(rows::count(r.start), rows::count(r.end))).collect())
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
