//! What the planner reads and writes. Its decision is `dagwright_core::plan`.

use std::collections::BTreeMap;

use dagwright_core::{
    ids::JobId,
    plan::{OutputCoverage, PlannedTask},
    range::{BlockRange, RangeSet},
};
use sqlx::PgConnection;
use time::Duration;
use uuid::Uuid;

use crate::{Result, error::During, rows};

/// A job whose row this transaction holds: nobody else plans it meanwhile.
#[derive(Clone, Debug)]
pub struct PlannableJob {
    /// The job.
    pub job_id: JobId,
    /// `namespace/owner/job`, for logs.
    pub subject: String,
    /// Wanted blocks; none while the follow target has not passed the start.
    pub wanted: Option<BlockRange>,
    /// Blocks per task.
    pub chunk: u64,
    /// Tasks that may wait or run at once.
    pub max_in_flight: u32,
    /// Tasks that do.
    pub in_flight: u32,
}

struct JobRow {
    job_id: Uuid,
    subject: String,
    target_start: i64,
    target_end: i64,
    chunk_size: i64,
    max_in_flight: i32,
    in_flight: i64,
}

impl From<JobRow> for PlannableJob {
    fn from(row: JobRow) -> Self {
        Self {
            job_id: JobId(row.job_id),
            subject: row.subject,
            wanted: BlockRange::new(rows::count(row.target_start), rows::count(row.target_end)),
            chunk: rows::count(row.chunk_size),
            max_in_flight: rows::small(row.max_in_flight),
            in_flight: u32::try_from(row.in_flight).unwrap_or(u32::MAX),
        }
    }
}

macro_rules! lock_job {
    ($condition:tt, $($arg:expr),*) => {
        sqlx::query_as!(
            JobRow,
            r#"SELECT j.job_id, j.namespace || '/' || j.owner_name || '/' || j.name AS "subject!", j.target_start, j.target_end,
                      j.chunk_size, j.max_in_flight,
                      -- What is not wanted needs no count, and beyond the bound it makes no difference.
                      CASE WHEN j.target_end > j.target_start THEN (SELECT count(*) FROM (
                          SELECT FROM tasks t WHERE t.job_id = j.job_id AND t.state IN ('Queued', 'Running') LIMIT j.max_in_flight) t)
                      ELSE 0 END AS "in_flight!"
               FROM job_plans planned JOIN jobs j ON j.job_id = planned.job_id
               WHERE planned.live AND j.removed_at IS NULL AND NOT j.suspended
                 AND EXISTS (SELECT FROM pools p WHERE p.pool_id = j.pool_id AND p.deleted_at IS NULL) AND "# + $condition + " FOR NO KEY UPDATE OF j, planned SKIP LOCKED",
            $($arg),*
        )
    };
}

/// Locks the job that was planned longest ago, if that is longer ago than `older_than`.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn lock_next(conn: &mut PgConnection, older_than: Duration) -> Result<Option<PlannableJob>> {
    let row = lock_job!(
        "(planned.planned_at IS NULL OR planned.planned_at < clock_timestamp() - make_interval(secs => $1))
         ORDER BY planned.planned_at NULLS FIRST LIMIT 1",
        older_than.as_seconds_f64()
    )
    .fetch_optional(conn)
    .await
    .during("lock the next job to plan")?;
    Ok(row.map(Into::into))
}

/// Locks one job; none when it is suspended, removed, or being planned.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn lock(conn: &mut PgConnection, job_id: JobId) -> Result<Option<PlannableJob>> {
    let row = lock_job!("j.job_id = $1", job_id.0).fetch_optional(conn).await.during("lock a job to plan")?;
    Ok(row.map(Into::into))
}

/// What of a job's outputs is committed, and what is on its way.
///
/// One statement, hence one snapshot: a range that commits while this runs is seen as pending or as covered, never as neither.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn coverage(conn: &mut PgConnection, job_id: JobId) -> Result<Vec<OutputCoverage>> {
    let found = sqlx::query!(
        r#"SELECT o.output, c.pending AS "pending?", lower(c.r) AS "start?", upper(c.r) AS "end?"
           FROM job_outputs o LEFT JOIN LATERAL (
               SELECT false AS pending, unnest(range_agg(p.range)) AS r FROM partition_versions p
               WHERE p.namespace = o.namespace AND p.version = o.version AND p.current
               UNION ALL
               SELECT true, unnest(range_agg(t.range)) FROM task_outputs t
               WHERE t.namespace = o.namespace AND t.version = o.version
                 -- The index of the constraint orders versions by their boxes: this one's is as wide as boxes get.
                 AND range_box(t.namespace, t.version, t.range) && range_box(o.namespace, o.version, '[0,9007199254740992)')) c ON true
           WHERE o.job_id = $1 ORDER BY o.output"#,
        job_id.0
    )
    .fetch_all(conn)
    .await
    .during("read the coverage of a job")?;
    let mut outputs: BTreeMap<String, (RangeSet, RangeSet)> = BTreeMap::new();
    for row in found {
        let (covered, pending) = outputs.entry(row.output).or_default();
        let Some(range) =
            row.start.zip(row.end).and_then(|(s, e)| BlockRange::new(rows::count(s), rows::count(e)))
        else {
            continue;
        };
        if row.pending == Some(true) { pending.insert(range) } else { covered.insert(range) }
    }
    let coverage = |(output, (covered, pending))| OutputCoverage { output, covered, pending };
    Ok(outputs.into_iter().map(coverage).collect())
}

/// Inserts planned tasks with what they cover and the messages that offer them. What another job's unfinished task covers
/// already is left to that task (I10). A task has the highest priority among the live jobs that want its version. Returns how
/// many tasks were new.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn insert(conn: &mut PgConnection, job_id: JobId, planned: &[PlannedTask]) -> Result<u64> {
    if planned.is_empty() {
        return Ok(0);
    }
    let ids: Vec<_> = planned.iter().map(|_| Uuid::now_v7()).collect();
    let starts: Vec<_> = planned.iter().map(|t| rows::height_to_pg(t.range.start())).collect();
    let ends: Vec<_> = planned.iter().map(|t| rows::height_to_pg(t.range.end())).collect();
    sqlx::query!(
        "INSERT INTO tasks (task_id, job_id, pool_id, range, state, priority, not_before, max_attempts)
         SELECT u.task_id, j.job_id, j.pool_id, int8range(u.start, u.stop), 'Queued', j.priority, clock_timestamp(), j.max_attempts
         -- Once for all tasks, hence the offset.
         FROM (SELECT j.job_id, j.pool_id, j.max_attempts, LEAST(j.priority, (SELECT min(other.priority) FROM job_outputs mine
                   JOIN job_outputs theirs ON theirs.namespace = mine.namespace AND theirs.version = mine.version
                   JOIN jobs other ON other.job_id = theirs.job_id AND NOT other.suspended AND other.removed_at IS NULL
                   WHERE mine.job_id = j.job_id)) AS priority
               FROM jobs j WHERE j.job_id = $1 OFFSET 0) j,
              UNNEST($2::uuid[], $3::bigint[], $4::bigint[]) AS u (task_id, start, stop)",
        job_id.0,
        &ids,
        &starts,
        &ends
    )
    .execute(&mut *conn)
    .await
    .during("insert planned tasks")?;
    insert_outputs(conn, job_id, planned, &ids).await?;
    offer(conn, &ids).await
}

async fn insert_outputs(
    conn: &mut PgConnection,
    job_id: JobId,
    planned: &[PlannedTask],
    ids: &[Uuid],
) -> Result<()> {
    let pairs = planned
        .iter()
        .zip(ids)
        .flat_map(|(task, id)| task.outputs.iter().map(|output| (*id, output.clone())));
    let (tasks, outputs): (Vec<Uuid>, Vec<String>) = pairs.unzip();
    sqlx::query!(
        "INSERT INTO task_outputs (task_id, output, namespace, version, range)
         SELECT t.task_id, o.output, o.namespace, o.version, t.range
         FROM UNNEST($2::uuid[], $3::text[]) AS u (task_id, output)
         JOIN tasks t ON t.task_id = u.task_id JOIN job_outputs o ON o.job_id = $1 AND o.output = u.output
         -- Committed by another job since the coverage was read. The expression and the offset keep it a look-up by the range.
         WHERE NOT EXISTS (SELECT FROM partition_versions p
                           WHERE p.namespace || '' = o.namespace AND p.version = o.version AND p.current
                             AND range_box(p.namespace, p.version, p.range) && range_box(o.namespace, o.version, t.range) OFFSET 0)
         ON CONFLICT DO NOTHING",
        job_id.0,
        &tasks,
        &outputs
    )
    .execute(conn)
    .await
    .during("insert what planned tasks cover")?;
    Ok(())
}

async fn offer(conn: &mut PgConnection, ids: &[Uuid]) -> Result<u64> {
    sqlx::query!(
        "DELETE FROM tasks t WHERE task_id = ANY($1) AND NOT EXISTS (SELECT FROM task_outputs o WHERE o.task_id = t.task_id)",
        ids
    )
    .execute(&mut *conn)
    .await
    .during("drop tasks that others cover")?;
    let offered = sqlx::query!(
        "INSERT INTO outbox (task_id, attempt, pool_id, priority, not_before)
         SELECT task_id, attempt, pool_id, priority, not_before FROM tasks WHERE task_id = ANY($1)",
        ids
    )
    .execute(conn)
    .await
    .during("write messages of planned tasks")?;
    Ok(offered.rows_affected())
}

/// Asks for the end of tasks that wait for suspended jobs, so that they do not hold their range (I10) against those who want it:
/// what is queued, since resuming plans again, and what failed, where another live job wants the same version and is to give
/// the range its own attempts. What runs is left to finish. Marks a thousand tasks at most and returns how many: none when all are
/// marked, or another replica is at it. [`crate::finish::cancel_unwanted`] ends them.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn mark_suspended(conn: &mut PgConnection) -> Result<u64> {
    let marked = sqlx::query!(
        // From suspended jobs, which are few, to their tasks; through all tasks never. What left its state meanwhile is judged anew by
        // the next call.
        "UPDATE tasks t SET cancel_requested = true
         FROM (SELECT waiting.task_id, waiting.state FROM jobs j CROSS JOIN LATERAL (
                   SELECT q.task_id, q.state FROM tasks q
                   WHERE q.job_id = j.job_id AND q.state IN ('Queued', 'Failed') AND NOT q.cancel_requested OFFSET 0) waiting
               WHERE j.suspended AND j.removed_at IS NULL AND (waiting.state = 'Queued' OR EXISTS (
                   SELECT FROM task_outputs o
                   JOIN job_outputs w ON w.namespace = o.namespace AND w.version = o.version AND w.job_id <> j.job_id
                   JOIN jobs live ON live.job_id = w.job_id AND NOT live.suspended AND live.removed_at IS NULL
                        AND upper(o.range) > live.target_start AND lower(o.range) < live.target_end
                   WHERE o.task_id = waiting.task_id)) LIMIT 1000) unwanted
         WHERE t.task_id = unwanted.task_id AND t.state = unwanted.state AND NOT t.cancel_requested"
    )
    .execute(conn)
    .await
    .during("mark tasks of suspended jobs")?;
    Ok(marked.rows_affected())
}

/// As [`mark_suspended`], for what waits or failed outside of the blocks that a job wants now: a target that was edited, or
/// taken back from a wrong head, leaves it behind.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn mark_outside(conn: &mut PgConnection, job_id: JobId) -> Result<u64> {
    let marked = sqlx::query!(
        "UPDATE tasks t SET cancel_requested = true FROM jobs j JOIN job_plans planned ON planned.job_id = j.job_id
         WHERE j.job_id = $1 AND t.job_id = $1 AND t.state <> 'Running' AND NOT t.cancel_requested
           AND (upper(t.range) > j.target_end OR lower(t.range) < j.target_start)
           -- While the target grows, nothing that was planned for it lies outside.
           AND NOT COALESCE(int8range(j.target_start, GREATEST(j.target_start, j.target_end)) @> planned.planned_target, true)",
        job_id.0
    )
    .execute(conn)
    .await
    .during("mark tasks outside of what is wanted")?;
    Ok(marked.rows_affected())
}

/// Notes that a job was planned, and for which target. A target that came down is noted only when no task of the job lies outside of it
/// any more: what ran there when it came down may wait or fail later, and [`mark_outside`] has to find it then.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn mark_planned(conn: &mut PgConnection, job_id: JobId) -> Result<()> {
    // A busy job is planned many times a second. For who looks for jobs that nobody planned for ten seconds, a row's version each five
    // seconds will do.
    sqlx::query!(
        "WITH wanted AS (
             SELECT j.target_start, j.target_end, p.planned_target,
                    int8range(j.target_start, GREATEST(j.target_start, j.target_end)) AS target
             FROM jobs j JOIN job_plans p ON p.job_id = j.job_id WHERE j.job_id = $1),
         noted AS (
             SELECT CASE WHEN w.planned_target IS NULL OR w.target @> w.planned_target OR NOT EXISTS (
                        SELECT FROM tasks t WHERE t.job_id = $1
                          AND (upper(t.range) > w.target_end OR lower(t.range) < w.target_start))
                    THEN w.target ELSE range_merge(w.planned_target, w.target) END AS target
             FROM wanted w)
         UPDATE job_plans SET planned_at = clock_timestamp(), planned_target = noted.target FROM noted
         WHERE job_id = $1 AND (planned_at IS NULL OR planned_at < clock_timestamp() - interval '5 seconds'
             OR planned_target IS DISTINCT FROM noted.target)",
        job_id.0
    )
    .execute(conn)
    .await
    .during("mark a job as planned")?;
    Ok(())
}

/// Notes that planning a job failed, so that it is the last to be looked at again and not the first.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn mark_tried(conn: &mut PgConnection, job_id: JobId) -> Result<()> {
    sqlx::query!("UPDATE job_plans SET planned_at = clock_timestamp() WHERE job_id = $1", job_id.0)
        .execute(conn)
        .await
        .during("mark a job as tried")?;
    Ok(())
}
