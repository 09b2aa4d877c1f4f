//! Leases are given: a batch per call, none to two claimers (I3). State and lease are set by one statement (I8), which takes the
//! message away as well (I5).

use std::collections::{HashMap, HashSet};

use dagwright_core::{
    ids::{AttemptId, LeaseToken, PoolId, TaskId, VersionId, WorkerId},
    range::BlockRange,
    task::Fence,
};
use sqlx::{PgConnection, postgres::types::PgRange};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Result,
    cursor::{Cursor, Place},
    error::During,
    rows,
    task_rows::signed,
};

/// A (task, attempt) that a message offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Offer {
    /// The task.
    pub task_id: TaskId,
    /// Ordinal of the attempt.
    pub attempt: u32,
}

/// What became of a claim.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// New leases.
    pub leases: Vec<Lease>,
    /// Offers that nobody can take any more. An attempt that runs is among them: when its lease is lost, the next attempt has
    /// a message of its own.
    pub stale: Vec<Offer>,
    /// Offers that may be good later.
    pub not_now: Vec<Offer>,
    /// Places of the further tasks among the leases.
    pub further: Vec<Place>,
}

/// A leased task with all that its worker has to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The fence.
    pub fence: Fence,
    /// Ordinal of the attempt.
    pub attempt: u32,
    /// End, by the clock of Postgres.
    pub expires_at: OffsetDateTime,
    /// Length in seconds.
    pub lease_seconds: u32,
    /// The attempt's time limit in seconds.
    pub timeout_seconds: u32,
    /// Namespace.
    pub namespace: String,
    /// `ChainSync` or `Dag`.
    pub owner_kind: String,
    /// Name of the owner.
    pub owner_name: String,
    /// Job or stream.
    pub job: String,
    /// Operator id.
    pub operator: String,
    /// Its semantics.
    pub semantics: u32,
    /// Its config.
    pub config: serde_json::Value,
    /// Blocks.
    pub range: BlockRange,
    /// Outputs, ordered by port.
    pub outputs: Vec<(String, VersionId)>,
    /// Providers that fed wrong data to earlier attempts.
    pub avoid_providers: Vec<String>,
}

/// Claims offered tasks, and further ones by priority, then age, from `from` on, until `further` of them are found.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn claim(
    conn: &mut PgConnection,
    pool_id: PoolId,
    worker: WorkerId,
    offers: &[Offer],
    further: u32,
    from: &Cursor,
) -> Result<Claimed> {
    let claimed = take(conn, pool_id, worker, offers, further, from).await?;
    let mut outputs = outputs_of(conn, &claimed).await?;
    let taken: HashSet<TaskId> = claimed.iter().map(|row| TaskId(row.task_id)).collect();
    let left: Vec<Offer> = offers.iter().copied().filter(|o| !taken.contains(&o.task_id)).collect();
    let (not_now, stale) = sort_out(conn, &left).await?;
    let offered: HashSet<TaskId> = offers.iter().map(|o| o.task_id).collect();
    let further = claimed.iter().map(ClaimedRow::place).filter(|p| !offered.contains(&p.task_id)).collect();
    let lease = |row: ClaimedRow| {
        let outputs = outputs.remove(&row.task_id).unwrap_or_default();
        Lease::try_from(row).map(|lease| Lease { outputs, ..lease })
    };
    Ok(Claimed { leases: claimed.into_iter().map(lease).collect::<Result<_>>()?, stale, not_now, further })
}

struct ClaimedRow {
    task_id: Uuid,
    attempt_id: Uuid,
    lease_token: Uuid,
    attempt: i32,
    expires_at: OffsetDateTime,
    lease_seconds: i32,
    timeout_seconds: i32,
    namespace: String,
    owner_kind: String,
    owner_name: String,
    job: String,
    operator: String,
    semantics: i32,
    config: serde_json::Value,
    range: PgRange<i64>,
    avoid_providers: Vec<String>,
    priority: i16,
    not_before: OffsetDateTime,
}

impl ClaimedRow {
    fn place(&self) -> Place {
        Place { priority: self.priority, not_before: self.not_before, task_id: TaskId(self.task_id) }
    }
}

async fn take(
    conn: &mut PgConnection,
    pool_id: PoolId,
    worker: WorkerId,
    offers: &[Offer],
    further: u32,
    from: &Cursor,
) -> Result<Vec<ClaimedRow>> {
    let (priorities, times, ids) = from.columns();
    let tasks: Vec<_> = offers.iter().map(|o| o.task_id.0).collect();
    let attempts: Vec<_> = offers.iter().map(|o| signed(o.attempt)).collect();
    sqlx::query_as!(
        ClaimedRow,
        r#"WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
           -- Two branches, not one OR: each has its own index, and offers go first. Offers are looked up by id whatever the
           -- statistics say, which for a queue are those of another moment: hence LATERAL, and a state that fits no partial index.
           offered AS MATERIALIZED (
               SELECT f.task_id FROM UNNEST($3::uuid[], $4::int[]) AS o (task_id, attempt)
               CROSS JOIN LATERAL (
                   SELECT t.task_id FROM tasks t JOIN jobs j ON j.job_id = t.job_id
                   WHERE t.task_id = o.task_id AND t.attempt = o.attempt AND t.pool_id = $1 AND t.state || '' = 'Queued'
                     AND t.not_before <= (SELECT now FROM clock) AND NOT t.cancel_requested AND NOT j.suspended
                   FOR UPDATE OF t SKIP LOCKED) f),
           -- Class after class, each from where its stretch of the index was left; the outer limit stops the inner ones, so that no
           -- row is locked in vain.
           further AS MATERIALIZED (
               SELECT f.task_id FROM UNNEST($6::smallint[], $7::timestamptz[], $8::uuid[]) AS c (priority, not_before, task_id)
               CROSS JOIN LATERAL (
                   SELECT t.task_id FROM tasks t JOIN jobs j ON j.job_id = t.job_id
                   WHERE t.pool_id = $1 AND t.priority = c.priority AND t.state = 'Queued'
                     AND (t.not_before, t.task_id) > (c.not_before, c.task_id) AND t.not_before <= (SELECT now FROM clock)
                     AND NOT t.cancel_requested AND NOT j.suspended AND t.task_id <> ALL ($3::uuid[])
                   ORDER BY t.not_before, t.task_id
                   LIMIT $5 FOR UPDATE OF t SKIP LOCKED) f
               LIMIT $5),
           chosen AS (SELECT task_id FROM offered UNION ALL SELECT task_id FROM further),
           leased AS (
               UPDATE tasks t
               SET state = 'Running', attempt_id = gen_random_uuid(), lease_token = gen_random_uuid(), worker_id = $2,
                   lease_expires_at = clock.now + make_interval(secs => p.lease_seconds),
                   started_at = clock.now, progress_at = clock.now, blocks_done = 0
               FROM chosen, jobs j, pools p, clock
               WHERE t.task_id = chosen.task_id AND j.job_id = t.job_id AND p.pool_id = t.pool_id
               RETURNING t.task_id, t.attempt_id, t.lease_token, t.attempt, t.lease_expires_at, t.priority, t.not_before,
                         p.lease_seconds, j.timeout_seconds, j.namespace, j.owner_kind, j.owner_name, j.name, j.operator,
                         j.semantics, j.config, t.range, t.avoid_providers),
           -- What is claimed needs no message: the window has room for another.
           unsent AS (DELETE FROM outbox o USING leased WHERE o.task_id = leased.task_id)
           SELECT task_id, attempt_id AS "attempt_id!", lease_token AS "lease_token!", attempt, lease_expires_at AS "expires_at!",
                  lease_seconds, timeout_seconds, namespace, owner_kind, owner_name, name AS job, operator, semantics, config,
                  range AS "range!", avoid_providers, priority, not_before
           FROM leased ORDER BY priority, lower(range)"#,
        pool_id.0,
        worker.0,
        &tasks,
        &attempts,
        i64::from(further),
        &priorities,
        &times,
        &ids,
    )
    .fetch_all(conn)
    .await
    .during("claim tasks")
}

async fn outputs_of(
    conn: &mut PgConnection,
    claimed: &[ClaimedRow],
) -> Result<HashMap<Uuid, Vec<(String, VersionId)>>> {
    let mut outputs: HashMap<Uuid, Vec<_>> = HashMap::new();
    if claimed.is_empty() {
        return Ok(outputs);
    }
    let tasks: Vec<_> = claimed.iter().map(|row| row.task_id).collect();
    let rows = sqlx::query!(
        "SELECT task_id, output, version FROM task_outputs WHERE task_id = ANY($1) ORDER BY task_id, output",
        &tasks
    )
    .fetch_all(conn)
    .await
    .during("read the outputs of claimed tasks")?;
    for row in rows {
        outputs.entry(row.task_id).or_default().push((row.output, VersionId(row.version)));
    }
    Ok(outputs)
}

/// Which offers may still be good (queued, but not due or just locked), and which never will be. An offer of a suspended job
/// is not kept: kept messages would be received until they are dead letters; a resumed job's tasks are published again.
async fn sort_out(conn: &mut PgConnection, offers: &[Offer]) -> Result<(Vec<Offer>, Vec<Offer>)> {
    if offers.is_empty() {
        return Ok((vec![], vec![]));
    }
    let tasks: Vec<_> = offers.iter().map(|o| o.task_id.0).collect();
    let queued = sqlx::query!(
        "SELECT t.task_id, t.attempt FROM tasks t JOIN jobs j ON j.job_id = t.job_id
         WHERE t.task_id = ANY($1) AND t.state || '' = 'Queued' AND NOT t.cancel_requested AND NOT j.suspended",
        &tasks
    )
    .fetch_all(conn)
    .await
    .during("sort out offers")?;
    let good: HashSet<(Uuid, i32)> = queued.into_iter().map(|row| (row.task_id, row.attempt)).collect();
    Ok(offers.iter().partition(|o| good.contains(&(o.task_id.0, signed(o.attempt)))))
}

impl TryFrom<ClaimedRow> for Lease {
    type Error = crate::Error;

    fn try_from(row: ClaimedRow) -> Result<Self> {
        Ok(Self {
            fence: Fence {
                task_id: TaskId(row.task_id),
                attempt_id: AttemptId(row.attempt_id),
                lease_token: LeaseToken(row.lease_token),
            },
            attempt: rows::small(row.attempt),
            expires_at: row.expires_at,
            lease_seconds: rows::small(row.lease_seconds),
            timeout_seconds: rows::small(row.timeout_seconds),
            namespace: row.namespace,
            owner_kind: row.owner_kind,
            owner_name: row.owner_name,
            job: row.job,
            operator: row.operator,
            semantics: rows::small(row.semantics),
            config: row.config,
            range: rows::from_pg("tasks", row.task_id, &row.range)?,
            outputs: vec![],
            avoid_providers: row.avoid_providers,
        })
    }
}
