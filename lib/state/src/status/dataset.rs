use dagwright_core::{
    ids::{DatasetId, VersionId},
    range::BlockRange,
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Result, error::During, rows};

/// What a dataset serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatasetProgress {
    /// Served version; none before the first cutover.
    pub served_version: Option<VersionId>,
    /// Since when.
    pub served_since: Option<OffsetDateTime>,
    /// Current partitions of the served version.
    pub partitions: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of their objects.
    pub bytes: u64,
    /// From the lowest to the highest block committed; there may be gaps.
    pub range: Option<BlockRange>,
    /// Last commit.
    pub last_commit_at: Option<OffsetDateTime>,
    /// Partitions of which an object is gone.
    pub missing: u64,
    /// The lowest of these.
    pub first_missing: Option<BlockRange>,
    /// Borders that do not link.
    pub border_conflicts: Vec<BorderConflict>,
}

/// Two ranges that do not link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BorderConflict {
    /// The version.
    pub version: VersionId,
    /// First height of the upper range.
    pub height: u64,
    /// Hash of the block below, as the lower range has it.
    pub below_hash: Vec<u8>,
    /// The same, as the upper range has it.
    pub above_parent_hash: Vec<u8>,
    /// Since when.
    pub seen_at: OffsetDateTime,
}

/// What a dataset serves; none when there is no such row.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn dataset(conn: &mut PgConnection, dataset_id: DatasetId) -> Result<Option<DatasetProgress>> {
    let row = sqlx::query!(
        r#"SELECT d.namespace, d.served_version, d.served_since, count(p.partition_id) AS "partitions!",
                  COALESCE(sum(p.rows), 0)::bigint AS "rows!", COALESCE(sum(p.bytes), 0)::bigint AS "bytes!",
                  min(lower(p.range)) AS start, max(upper(p.range)) AS "end", max(p.committed_at) AS last_commit_at,
                  count(*) FILTER (WHERE p.missing_since IS NOT NULL) AS "missing!",
                  (array_agg(p.range ORDER BY p.range) FILTER (WHERE p.missing_since IS NOT NULL))[1] AS first_missing
           FROM (SELECT * FROM datasets WHERE dataset_id = $1) d
           LEFT JOIN partition_versions p ON p.namespace = d.namespace AND p.version = d.served_version AND p.current
           GROUP BY d.namespace, d.served_version, d.served_since"#,
        dataset_id.0
    )
    .fetch_optional(&mut *conn)
    .await
    .during("read what a dataset serves")?;
    let Some(row) = row else { return Ok(None) };
    let versions: Vec<Uuid> = row.served_version.into_iter().collect();
    let first_missing =
        row.first_missing.map(|r| rows::from_pg("partition_versions", dataset_id, &r)).transpose()?;
    Ok(Some(DatasetProgress {
        served_version: row.served_version.map(VersionId),
        served_since: row.served_since,
        partitions: rows::count(row.partitions),
        rows: rows::count(row.rows),
        bytes: rows::count(row.bytes),
        range: row.start.zip(row.end).and_then(|(s, e)| BlockRange::new(rows::count(s), rows::count(e))),
        last_commit_at: row.last_commit_at,
        missing: rows::count(row.missing),
        first_missing,
        border_conflicts: conflicts(conn, &row.namespace, &versions).await?,
    }))
}

pub(super) async fn conflicts(
    conn: &mut PgConnection,
    namespace: &str,
    versions: &[Uuid],
) -> Result<Vec<BorderConflict>> {
    if versions.is_empty() {
        return Ok(vec![]);
    }
    let found = sqlx::query!(
        "SELECT version, height, below_hash, above_parent_hash, seen_at FROM border_conflicts
         WHERE namespace = $1 AND version = ANY($2) ORDER BY height LIMIT 16",
        namespace,
        versions
    )
    .fetch_all(conn)
    .await
    .during("read border conflicts")?;
    let conflict = found.into_iter().map(|r| BorderConflict {
        version: VersionId(r.version),
        height: rows::count(r.height),
        below_hash: r.below_hash,
        above_parent_hash: r.above_parent_hash,
        seen_at: r.seen_at,
    });
    Ok(conflict.collect())
}
