//! Whether committed objects are still there. A missing one is reported, never regenerated in silence.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::Duration;

use crate::{Result, error::During, rows};

/// A current partition and its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedPartition {
    /// Row id.
    pub partition_id: i64,
    /// Bucket, key and size per object.
    pub objects: Vec<(String, String, u64)>,
}

/// The partitions that were checked longest ago, longer ago than `older_than`; they count as checked from now on, so that two
/// replicas do not check the same.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn partitions_to_check(
    conn: &mut PgConnection,
    older_than: Duration,
    limit: u32,
) -> Result<Vec<CheckedPartition>> {
    let found = sqlx::query!(
        r#"WITH next AS (
               SELECT partition_id FROM partition_versions
               WHERE current AND (checked_at IS NULL OR checked_at < clock_timestamp() - make_interval(secs => $1))
               ORDER BY checked_at NULLS FIRST LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED),
           taken AS (
               UPDATE partition_versions p SET checked_at = clock_timestamp() FROM next WHERE p.partition_id = next.partition_id
               RETURNING p.partition_id)
           SELECT o.partition_id, o.bucket, o.key, o.bytes FROM taken JOIN partition_objects o ON o.partition_id = taken.partition_id
           ORDER BY o.partition_id, o.n"#,
        older_than.as_seconds_f64(),
        i64::from(limit)
    )
    .fetch_all(conn)
    .await
    .during("choose partitions to check")?;
    let mut partitions: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    for row in found {
        partitions.entry(row.partition_id).or_default().push((row.bucket, row.key, rows::count(row.bytes)));
    }
    Ok(partitions
        .into_iter()
        .map(|(partition_id, objects)| CheckedPartition { partition_id, objects })
        .collect())
}

/// Notes whether a partition's objects are all there. Returns whether that is news.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn mark_missing(conn: &mut PgConnection, partition_id: i64, missing: bool) -> Result<bool> {
    let changed = sqlx::query!(
        "UPDATE partition_versions SET missing_since = CASE WHEN $2 THEN clock_timestamp() END
         WHERE partition_id = $1 AND current AND (missing_since IS NOT NULL) <> $2",
        partition_id,
        missing
    )
    .execute(conn)
    .await
    .during("mark a partition's objects")?;
    Ok(changed.rows_affected() == 1)
}

/// Which of these keys no pointer names, among keys that a sweeper found.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn unpointed(conn: &mut PgConnection, keys: &[String]) -> Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"SELECT k AS "key!" FROM UNNEST($1::text[]) AS k WHERE NOT EXISTS (SELECT FROM partition_objects o WHERE o.key = k)"#,
        keys
    )
    .fetch_all(conn)
    .await
    .during("look for objects without a pointer")
}

/// Attempts that hold a lease now: what they wrote is not to be swept.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn live_attempts(conn: &mut PgConnection) -> Result<Vec<uuid::Uuid>> {
    sqlx::query_scalar!(r#"SELECT attempt_id AS "attempt_id!" FROM tasks WHERE state = 'Running'"#)
        .fetch_all(conn)
        .await
        .during("read live attempts")
}
