//! The completing transaction: fence, borders, pointers, events and history change together or not at all.

use std::collections::BTreeMap;

use dagwright_core::{
    border::{self, Ends, Fork},
    ids::{PoolId, VersionId},
    range::BlockRange,
    task::{Event, Fence},
};
use sqlx::{PgConnection, postgres::types::PgRange};
use uuid::Uuid;

use crate::{
    Result,
    error::During,
    finish::{lock_leases, supersede},
    rows,
    task_rows::{Cause, Jitter, Locked, apply, decide},
};

/// What an attempt wrote.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The lease.
    pub fence: Fence,
    /// One per output of the task.
    pub partitions: Vec<Partition>,
}

/// What an attempt wrote for one output.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Output port.
    pub output: String,
    /// Hash of the logical content.
    pub content_hash: Vec<u8>,
    /// Hashes at the borders.
    pub ends: Ends,
    /// Rows over all objects.
    pub rows: u64,
    /// Lowest verification level of the range.
    pub verification: String,
    /// The objects, in order.
    pub objects: Vec<Object>,
}

/// One object, as the store was seen to hold it.
#[derive(Clone, Debug)]
pub struct Object {
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
}

/// What became of a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Applied.
    Applied,
    /// Applied by an earlier delivery of the same call.
    Already,
    /// The lease is not the current one: nothing changed.
    StaleLease,
    /// Another job that declares the same computation was first: its partition stands, this task is over.
    Superseded,
    /// The partitions are not those of the task's outputs. The lease still holds: the caller fails it.
    WrongOutputs {
        /// What the task has.
        expected: Vec<String>,
    },
    /// A neighbour does not link. Recorded; the lease still holds: the caller fails it.
    ForkAtBorder(Vec<Fork>),
}

/// Commits an attempt's results. Must run in a transaction, which the caller commits whatever the outcome is.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid; the transaction is to be rolled back.
pub async fn complete(
    conn: &mut PgConnection,
    pool_id: PoolId,
    completion: &Completion,
    jitter: Jitter<'_>,
) -> Result<Committed> {
    let Some(task) = lock_leases(conn, pool_id, &[completion.fence]).await?.pop() else {
        let before = completed_before(conn, &completion.fence).await?;
        return Ok(if before { Committed::Already } else { Committed::StaleLease });
    };
    let targets = targets(conn, &task).await?;
    let Some(pairs) = pair(&targets, &completion.partitions) else {
        return Ok(Committed::WrongOutputs { expected: targets.iter().map(|t| t.output.clone()).collect() });
    };
    lock_versions(conn, &targets).await?;
    if covered(conn, &targets).await? {
        supersede(conn, &task, jitter).await?;
        return Ok(Committed::Superseded);
    }
    let mut forks = Vec::new();
    for (target, partition) in &pairs {
        forks.extend(check_borders(conn, &task, target, partition).await?);
    }
    if !forks.is_empty() {
        return Ok(Committed::ForkAtBorder(forks));
    }
    for (target, partition) in &pairs {
        insert(conn, &completion.fence, target, partition).await?;
    }
    let done = decide(&task, Event::Complete, Cause::default(), jitter);
    apply(conn, done.as_slice()).await?;
    Ok(Committed::Applied)
}

async fn completed_before(conn: &mut PgConnection, fence: &Fence) -> Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM task_history WHERE task_id = $1 AND attempt_id = $2 AND lease_token = $3
               AND state = 'Completed') AS "found!""#,
        fence.task_id.0,
        fence.attempt_id.0,
        fence.lease_token.0
    )
    .fetch_one(conn)
    .await
    .during("look for an earlier delivery of a completion")
}

struct Target {
    output: String,
    namespace: String,
    version: VersionId,
    range: BlockRange,
}

struct TargetRow {
    output: String,
    namespace: String,
    version: Uuid,
    range: PgRange<i64>,
}

async fn targets(conn: &mut PgConnection, task: &Locked) -> Result<Vec<Target>> {
    let found = sqlx::query_as!(
        TargetRow,
        "SELECT output, namespace, version, range FROM task_outputs WHERE task_id = $1 ORDER BY namespace, version",
        task.task_id.0
    )
    .fetch_all(conn)
    .await
    .during("read the outputs of a task")?;
    let target = |row: TargetRow| {
        let range = rows::from_pg("task_outputs", task.task_id, &row.range)?;
        Ok(Target { output: row.output, namespace: row.namespace, version: VersionId(row.version), range })
    };
    found.into_iter().map(target).collect()
}

/// Each output with its partition; none unless they match one to one.
fn pair<'a>(targets: &'a [Target], partitions: &'a [Partition]) -> Option<Vec<(&'a Target, &'a Partition)>> {
    let by_output: BTreeMap<&str, &Partition> = partitions.iter().map(|p| (p.output.as_str(), p)).collect();
    if by_output.len() != partitions.len() || partitions.len() != targets.len() {
        return None;
    }
    targets.iter().map(|t| Some((t, *by_output.get(t.output.as_str())?))).collect()
}

/// Commits of one version queue up here: two neighbours that commit at once could not see each other's hashes.
async fn lock_versions(conn: &mut PgConnection, targets: &[Target]) -> Result<()> {
    for target in targets {
        sqlx::query_scalar!(
            "SELECT version FROM dataset_versions WHERE namespace = $1 AND version = $2 FOR NO KEY UPDATE",
            target.namespace,
            target.version.0
        )
        .fetch_one(&mut *conn)
        .await
        .during("lock a dataset version")?;
    }
    Ok(())
}

async fn covered(conn: &mut PgConnection, targets: &[Target]) -> Result<bool> {
    for target in targets {
        let found = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM partition_versions WHERE namespace = $1 AND version = $2 AND current AND range && $3)
                   AS "found!""#,
            target.namespace,
            target.version.0,
            rows::to_pg(target.range)
        )
        .fetch_one(&mut *conn)
        .await
        .during("look for committed partitions of a range")?;
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn check_borders(
    conn: &mut PgConnection,
    task: &Locked,
    target: &Target,
    partition: &Partition,
) -> Result<Vec<Fork>> {
    let (start, end) = (rows::height_to_pg(target.range.start()), rows::height_to_pg(target.range.end()));
    let neighbours = sqlx::query!(
        r#"SELECT upper(range) = $3 AS "is_below!", first_parent_hash, last_hash FROM partition_versions
           WHERE namespace = $1 AND version = $2 AND current AND (upper(range) = $3 OR lower(range) = $4)"#,
        target.namespace,
        target.version.0,
        start,
        end
    )
    .fetch_all(&mut *conn)
    .await
    .during("read the neighbours of a range")?;
    let (mut below, mut above) = (None, None);
    for n in neighbours {
        let ends = Ends { first_parent_hash: n.first_parent_hash, last_hash: n.last_hash };
        if n.is_below { below = Some(ends) } else { above = Some(ends) }
    }
    let range = target.range;
    let forks = border::check(range.start(), range.end(), &partition.ends, below.as_ref(), above.as_ref());
    for fork in &forks {
        record_fork(conn, task, target, fork).await?;
    }
    if forks.is_empty() {
        resolve_forks(conn, target, start, end).await?;
    }
    Ok(forks)
}

async fn record_fork(conn: &mut PgConnection, task: &Locked, target: &Target, fork: &Fork) -> Result<()> {
    sqlx::query!(
        "INSERT INTO border_conflicts (namespace, version, height, below_hash, above_parent_hash, task_id)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (namespace, version, height) DO UPDATE
         SET below_hash = EXCLUDED.below_hash, above_parent_hash = EXCLUDED.above_parent_hash, task_id = EXCLUDED.task_id",
        target.namespace,
        target.version.0,
        rows::height_to_pg(fork.height),
        fork.below_hash,
        fork.above_parent_hash,
        task.task_id.0
    )
    .execute(conn)
    .await
    .during("record a fork at a border")?;
    Ok(())
}

async fn resolve_forks(conn: &mut PgConnection, target: &Target, start: i64, end: i64) -> Result<()> {
    sqlx::query!(
        "DELETE FROM border_conflicts WHERE namespace = $1 AND version = $2 AND height IN ($3, $4)",
        target.namespace,
        target.version.0,
        start,
        end
    )
    .execute(conn)
    .await
    .during("resolve forks at borders")?;
    Ok(())
}

async fn insert(
    conn: &mut PgConnection,
    fence: &Fence,
    target: &Target,
    partition: &Partition,
) -> Result<()> {
    let bytes: u64 = partition.objects.iter().map(|o| o.bytes).sum();
    let row = sqlx::query!(
        "INSERT INTO partition_versions
             (namespace, version, range, revision, content_hash, first_parent_hash, last_hash, rows, bytes, verification, task_id, attempt_id)
         SELECT $1, $2, $3, COALESCE(max(p.revision), 0) + 1, $4, $5, $6, $7, $8, $9, $10, $11
         FROM partition_versions p WHERE p.namespace = $1 AND p.version = $2 AND p.range && $3
         RETURNING partition_id, revision",
        target.namespace,
        target.version.0,
        rows::to_pg(target.range),
        partition.content_hash,
        partition.ends.first_parent_hash,
        partition.ends.last_hash,
        rows::height_to_pg(partition.rows),
        rows::height_to_pg(bytes),
        partition.verification,
        fence.task_id.0,
        fence.attempt_id.0
    )
    .fetch_one(&mut *conn)
    .await
    .during("point at a partition")?;
    insert_objects(conn, row.partition_id, &partition.objects).await?;
    sqlx::query!(
        "INSERT INTO events (namespace, version, range, revision) VALUES ($1, $2, $3, $4)",
        target.namespace,
        target.version.0,
        rows::to_pg(target.range),
        row.revision
    )
    .execute(conn)
    .await
    .during("emit a commit event")?;
    Ok(())
}

async fn insert_objects(conn: &mut PgConnection, partition_id: i64, objects: &[Object]) -> Result<()> {
    for (n, object) in (0i32..).zip(objects) {
        sqlx::query!(
            "INSERT INTO partition_objects (partition_id, n, bucket, key, bytes, sha256, rows) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            partition_id,
            n,
            object.bucket,
            object.key,
            rows::height_to_pg(object.bytes),
            object.sha256,
            rows::height_to_pg(object.rows)
        )
        .execute(&mut *conn)
        .await
        .during("point at an object")?;
    }
    Ok(())
}
