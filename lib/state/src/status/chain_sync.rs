use dagwright_core::{ids::JobId, range::BlockRange};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{BorderConflict, dataset::conflicts};
use crate::{Result, error::During, rows};

/// Progress of a ChainSync.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainSyncProgress {
    /// Streams that are not removed, by name.
    pub streams: Vec<StreamProgress>,
    /// Newest eight problems, newest first.
    pub problems: Vec<StreamProblem>,
    /// Borders of its versions that do not link.
    pub border_conflicts: Vec<BorderConflict>,
}

/// Progress of one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamProgress {
    /// The job.
    pub job_id: JobId,
    /// Name.
    pub name: String,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Whether it follows a head.
    pub follows: bool,
    /// First block wanted.
    pub target_start: u64,
    /// End of what is wanted.
    pub target_end: u64,
    /// End of the contiguous committed prefix: the lowest of its outputs, at most the target.
    pub cursor: u64,
    /// Head that the follower last saw.
    pub head: Option<u64>,
    /// When.
    pub head_at: Option<OffsetDateTime>,
    /// Tasks that wait or run.
    pub in_flight: u64,
    /// Tasks that are out of attempts.
    pub failed: u64,
    /// Blocks committed per second over the last five minutes.
    pub blocks_per_second: f64,
    /// Median seconds from claim to commit over the last hour; none without a commit.
    pub median_task_seconds: Option<f64>,
}

/// A task with an error, failed or about to be retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamProblem {
    /// Stream.
    pub stream: String,
    /// Blocks.
    pub range: BlockRange,
    /// Stable class.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// Attempts that count so far.
    pub attempts: u32,
    /// Whether it is out of attempts.
    pub failed: bool,
    /// When.
    pub at: OffsetDateTime,
}

/// Progress of the ChainSync `namespace/name`; without streams when there is none.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn chain_sync(conn: &mut PgConnection, namespace: &str, name: &str) -> Result<ChainSyncProgress> {
    let (streams, versions) = streams(conn, namespace, name).await?;
    let problems = problems(conn, namespace, name).await?;
    let border_conflicts = conflicts(conn, namespace, &versions).await?;
    Ok(ChainSyncProgress { streams, problems, border_conflicts })
}

/// The streams, and the versions that they write.
async fn streams(
    conn: &mut PgConnection,
    namespace: &str,
    name: &str,
) -> Result<(Vec<StreamProgress>, Vec<Uuid>)> {
    let found = sqlx::query!(
        r#"SELECT j.job_id, j.name, j.suspended, j.follow IS NOT NULL AS "follows!", j.target_start, j.target_end, j.head, j.head_at,
               (SELECT min(COALESCE((
                    SELECT upper(c.r) FROM (SELECT unnest(range_agg(p.range)) AS r FROM partition_versions p
                        WHERE p.namespace = o.namespace AND p.version = o.version AND p.current) c
                    WHERE c.r @> j.target_start), j.target_start))
                FROM job_outputs o WHERE o.job_id = j.job_id) AS cursor,
               ARRAY(SELECT o.version FROM job_outputs o WHERE o.job_id = j.job_id) AS "versions!",
               (SELECT count(*) FROM tasks t WHERE t.job_id = j.job_id AND t.state IN ('Queued', 'Running')) AS "in_flight!",
               (SELECT count(*) FROM tasks t WHERE t.job_id = j.job_id AND t.state = 'Failed') AS "failed!",
               COALESCE(recent.blocks / recent.seconds, 0) AS "blocks_per_second!", recent.median AS "median?"
           FROM jobs j CROSS JOIN LATERAL (
               SELECT (sum(upper(h.range) - lower(h.range)) FILTER (WHERE h.finished_at > clock_timestamp() - interval '5 minutes'))::float8 AS blocks,
                      -- A stream that began a minute ago is not slow because it did nothing before.
                      GREATEST(1, LEAST(300, EXTRACT(EPOCH FROM clock_timestamp() - min(h.started_at))))::float8 AS seconds,
                      percentile_cont(0.5) WITHIN GROUP (ORDER BY EXTRACT(EPOCH FROM h.finished_at - h.started_at)::float8) AS median
               FROM task_history h
               WHERE h.job_id = j.job_id AND h.state = 'Completed' AND h.finished_at > clock_timestamp() - interval '1 hour') recent
           WHERE j.namespace = $1 AND j.owner_kind = 'ChainSync' AND j.owner_name = $2 AND j.removed_at IS NULL
           ORDER BY j.name"#,
        namespace,
        name
    )
    .fetch_all(conn)
    .await
    .during("read the progress of streams")?;
    let (mut streams, mut versions) = (Vec::with_capacity(found.len()), vec![]);
    for row in found {
        versions.extend(row.versions);
        let (start, end) = (rows::count(row.target_start), rows::count(row.target_end));
        streams.push(StreamProgress {
            job_id: JobId(row.job_id),
            name: row.name,
            suspended: row.suspended,
            follows: row.follows,
            target_start: start,
            target_end: end,
            cursor: row.cursor.map_or(start, rows::count).min(end.max(start)),
            head: row.head.map(rows::count),
            head_at: row.head_at,
            in_flight: rows::count(row.in_flight),
            failed: rows::count(row.failed),
            blocks_per_second: row.blocks_per_second,
            median_task_seconds: row.median,
        });
    }
    Ok((streams, versions))
}

async fn problems(conn: &mut PgConnection, namespace: &str, name: &str) -> Result<Vec<StreamProblem>> {
    let found = sqlx::query!(
        r#"SELECT t.task_id, j.name, t.range, COALESCE(t.last_reason, '') AS "reason!", COALESCE(t.last_error, '') AS "message!",
                  t.attempts_spent, t.state = 'Failed' AS "failed!", COALESCE(t.failed_at, t.queued_at) AS "at!"
           FROM tasks t JOIN jobs j ON j.job_id = t.job_id
           WHERE j.namespace = $1 AND j.owner_kind = 'ChainSync' AND j.owner_name = $2 AND j.removed_at IS NULL
             AND (t.last_error IS NOT NULL OR t.state = 'Failed')
           ORDER BY 8 DESC LIMIT 8"#,
        namespace,
        name
    )
    .fetch_all(conn)
    .await
    .during("read the problems of streams")?;
    let mut problems = Vec::with_capacity(found.len());
    for row in found {
        problems.push(StreamProblem {
            stream: row.name,
            range: rows::from_pg("tasks", row.task_id, &row.range)?,
            reason: row.reason,
            message: row.message,
            attempts: rows::small(row.attempts_spent),
            failed: row.failed,
            at: row.at,
        });
    }
    Ok(problems)
}
