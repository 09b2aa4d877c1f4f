//! Locked task rows, and the one place that writes what `core` decided about them.

use dagwright_core::{
    backoff::Backoff,
    ids::{AttemptId, LeaseToken, TaskId},
    task::{Event, Fence, Policy, Task, TaskState, Transition, step},
};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Error, Result,
    error::{During, expect_rows},
    rows,
};

/// Draws from 0..1; the caller owns the source, so that a test can fix it.
pub type Jitter<'a> = &'a mut (dyn FnMut() -> f64 + Send);

/// A task row that this transaction holds.
#[derive(Clone, Debug)]
pub(crate) struct Locked {
    pub(crate) task_id: TaskId,
    pub(crate) lease: Option<(AttemptId, LeaseToken)>,
    pub(crate) worker: Option<Uuid>,
    pub(crate) started_at: Option<OffsetDateTime>,
    pub(crate) task: Task,
    pub(crate) policy: Policy,
    pub(crate) now: OffsetDateTime,
}

/// The columns that [`locked_tasks`] selects.
pub(crate) struct LockedRow {
    pub(crate) task_id: Uuid,
    pub(crate) state: String,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) attempt: i32,
    pub(crate) attempts_spent: i32,
    pub(crate) max_attempts: i32,
    pub(crate) releases: i32,
    pub(crate) attempt_id: Option<Uuid>,
    pub(crate) lease_token: Option<Uuid>,
    pub(crate) lease_expires_at: Option<OffsetDateTime>,
    pub(crate) worker_id: Option<Uuid>,
    pub(crate) started_at: Option<OffsetDateTime>,
    pub(crate) backoff_ms: i64,
    pub(crate) max_backoff_ms: i64,
    pub(crate) now: OffsetDateTime,
}

/// Locks task rows `t` (with their job `j`) that a condition selects. The condition names its own lock, so that a caller says
/// whether it waits or skips; rows come ordered by id, so that two callers that wait cannot wait for each other.
macro_rules! locked_tasks {
    ($condition:tt $(, $arg:expr)*) => {
        $crate::task_rows::locked_tasks!(in "", $condition, "" $(, $arg)*)
    };
    (in $before:tt, $condition:tt, $after:tt $(, $arg:expr)*) => {
        sqlx::query_as!(
            $crate::task_rows::LockedRow,
            $before + r#"SELECT t.task_id, t.state, t.not_before, t.attempt, t.attempts_spent, t.max_attempts, t.releases,
                      t.attempt_id, t.lease_token, t.lease_expires_at, t.worker_id, t.started_at, j.backoff_ms, j.max_backoff_ms, clock_timestamp() AS "now!"
               FROM tasks t JOIN jobs j ON j.job_id = t.job_id WHERE "# + $condition + $after
            $(, $arg)*
        )
    };
}
pub(crate) use locked_tasks;

impl TryFrom<LockedRow> for Locked {
    type Error = Error;

    fn try_from(row: LockedRow) -> Result<Self> {
        let state = match (row.state.as_str(), row.lease_expires_at) {
            ("Queued", _) => TaskState::Queued { not_before: row.not_before },
            ("Running", Some(lease_expires_at)) => TaskState::Running { lease_expires_at },
            ("Failed", _) => TaskState::Failed,
            (other, _) => return Err(Error::invalid("tasks", "state", row.task_id, other)),
        };
        let backoff = Backoff {
            first: Duration::milliseconds(row.backoff_ms),
            cap: Duration::milliseconds(row.max_backoff_ms),
        };
        Ok(Self {
            task_id: TaskId(row.task_id),
            lease: row.attempt_id.zip(row.lease_token).map(|(a, t)| (AttemptId(a), LeaseToken(t))),
            worker: row.worker_id,
            started_at: row.started_at,
            task: Task {
                state,
                attempt: rows::small(row.attempt),
                spent: rows::small(row.attempts_spent),
                releases: rows::small(row.releases),
            },
            policy: Policy { max_attempts: rows::small(row.max_attempts), backoff },
            now: row.now,
        })
    }
}

pub(crate) fn locked(rows: Vec<LockedRow>) -> Result<Vec<Locked>> {
    rows.into_iter().map(Locked::try_from).collect()
}

impl Locked {
    pub(crate) fn fence(&self) -> Option<Fence> {
        let (attempt_id, lease_token) = self.lease?;
        Some(Fence { task_id: self.task_id, attempt_id, lease_token })
    }
}

/// Why an attempt ended, for people and for `status.problems`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Stable class.
    pub reason: Option<String>,
    /// The object, what happened.
    pub message: Option<String>,
    /// The RPC provider at fault, to be avoided by the next attempts.
    pub provider: Option<String>,
}

impl Cause {
    pub(crate) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), message: Some(message.into()), provider: None }
    }
}

/// A row, what becomes of it, and why.
pub(crate) struct Change {
    pub(crate) row: Locked,
    pub(crate) to: Transition,
    pub(crate) cause: Cause,
}

/// Asks `core` what an event makes of a locked row. None: the event is not legal any more, and nothing is to be done.
pub(crate) fn decide(row: &Locked, event: Event, cause: Cause, jitter: Jitter<'_>) -> Option<Change> {
    let to = step(&row.task, &event, &row.policy, row.now, jitter()).ok()?;
    Some(Change { row: row.clone(), to, cause })
}

/// Writes decided changes, as sets: back to Queued or to Failed in place, to Completed or Canceled into history. No lease stays with
/// them (I8), and exactly those that are queued again get a message (I5).
pub(crate) async fn apply(conn: &mut PgConnection, changes: &[Change]) -> Result<()> {
    let (ended, stay): (Vec<_>, Vec<_>) =
        changes.iter().partition(|c| matches!(c.to.task.state, TaskState::Completed | TaskState::Canceled));
    end_attempts(conn, changes).await?;
    update(conn, &stay).await?;
    publish(conn, &stay).await?;
    archive(conn, &ended).await
}

async fn update(conn: &mut PgConnection, changes: &[&Change]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let not_before: Vec<_> = changes.iter().map(|c| not_before(c)).collect();
    let releases: Vec<_> = changes.iter().map(|c| signed(c.to.task.releases)).collect();
    let spent: Vec<_> = changes.iter().map(|c| signed(c.to.task.spent)).collect();
    let attempts: Vec<_> = changes.iter().map(|c| signed(c.to.task.attempt)).collect();
    let states: Vec<_> = changes.iter().map(|c| c.to.task.state.name().to_owned()).collect();
    let reasons: Vec<_> = changes.iter().map(|c| c.cause.reason.clone()).collect();
    let messages: Vec<_> = changes.iter().map(|c| c.cause.message.clone()).collect();
    let providers: Vec<_> = changes.iter().map(|c| c.cause.provider.clone()).collect();
    let from = From::of(changes);
    let changed = sqlx::query!(
        r#"UPDATE tasks t
           SET state = u.state, not_before = u.not_before, attempt = u.attempt, attempts_spent = u.spent, releases = u.releases,
               queued_at = CASE WHEN u.state = 'Queued' THEN clock_timestamp() ELSE t.queued_at END,
               failed_at = CASE WHEN u.state = 'Failed' THEN clock_timestamp() END,
               failed_generation = CASE WHEN u.state = 'Failed' THEN j.generation END,
               -- A redriven task follows what its job says now.
               pool_id = CASE WHEN u.from_state = 'Failed' THEN j.pool_id ELSE t.pool_id END,
               max_attempts = CASE WHEN u.from_state = 'Failed' THEN j.max_attempts ELSE t.max_attempts END,
               last_reason = COALESCE(u.reason, t.last_reason), last_error = COALESCE(u.message, t.last_error),
               avoid_providers = CASE WHEN u.provider IS NULL OR u.provider = ANY (t.avoid_providers)
                                      THEN t.avoid_providers ELSE t.avoid_providers || u.provider END,
               attempt_id = NULL, lease_token = NULL, lease_expires_at = NULL, worker_id = NULL, started_at = NULL,
               progress_at = NULL, blocks_done = 0
           FROM UNNEST($1::uuid[], $2::text[], $3::int[], $4::uuid[], $5::text[], $6::timestamptz[], $7::int[], $8::int[], $9::int[],
                       $10::text[], $11::text[], $12::text[])
                AS u (task_id, from_state, from_attempt, from_attempt_id, state, not_before, attempt, spent, releases, reason, message, provider), jobs j
           WHERE j.job_id = t.job_id AND t.task_id = u.task_id AND t.state = u.from_state AND t.attempt = u.from_attempt
             AND t.attempt_id IS NOT DISTINCT FROM u.from_attempt_id"#,
        &from.tasks,
        &from.states,
        &from.attempts,
        &from.attempt_ids as &[Option<Uuid>],
        &states,
        &not_before,
        &attempts,
        &spent,
        &releases,
        &reasons as &[Option<String>],
        &messages as &[Option<String>],
        &providers as &[Option<String>],
    )
    .execute(conn)
    .await
    .during("move tasks to their next state")?;
    expect_rows("move tasks to their next state", changes.len() as u64, changed.rows_affected())
}

fn not_before(change: &Change) -> OffsetDateTime {
    match change.to.task.state {
        TaskState::Queued { not_before } => not_before,
        TaskState::Running { .. } | TaskState::Completed | TaskState::Failed | TaskState::Canceled => {
            change.row.now
        }
    }
}

/// Replaces what was to be sent of a task by a message of its new ordinal; a failed task has none.
async fn publish(conn: &mut PgConnection, changes: &[&Change]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let unclaimed = changes.iter().filter(|c| matches!(c.row.task.state, TaskState::Queued { .. }));
    take_back(conn, &unclaimed.map(|c| c.row.task_id.0).collect::<Vec<_>>()).await?;
    let offered: Vec<_> = changes.iter().filter(|c| c.to.publish).map(|c| c.row.task_id.0).collect();
    let inserted = sqlx::query!(
        "INSERT INTO outbox (task_id, attempt, pool_id, priority, not_before)
         SELECT task_id, attempt, pool_id, priority, not_before FROM tasks WHERE task_id = ANY($1) AND state = 'Queued'",
        &offered
    )
    .execute(conn)
    .await
    .during("write messages of next attempts")?;
    expect_rows("write messages of next attempts", offered.len() as u64, inserted.rows_affected())
}

async fn take_back(conn: &mut PgConnection, tasks: &[Uuid]) -> Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    sqlx::query!("DELETE FROM outbox WHERE task_id = ANY($1)", tasks)
        .execute(conn)
        .await
        .during("take back messages of ended attempts")?;
    Ok(())
}

async fn archive(conn: &mut PgConnection, changes: &[&Change]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let from = From::of(changes);
    let states: Vec<_> = changes.iter().map(|c| c.to.task.state.name().to_owned()).collect();
    let unclaimed = changes.iter().filter(|c| matches!(c.row.task.state, TaskState::Queued { .. }));
    take_back(conn, &unclaimed.map(|c| c.row.task_id.0).collect::<Vec<_>>()).await?;
    let moved = sqlx::query!(
        r#"WITH ended AS (
               DELETE FROM tasks t
               USING UNNEST($1::uuid[], $2::text[], $3::int[], $4::uuid[], $5::text[])
                     AS u (task_id, from_state, from_attempt, from_attempt_id, state)
               WHERE t.task_id = u.task_id AND t.state = u.from_state AND t.attempt = u.from_attempt
                 AND t.attempt_id IS NOT DISTINCT FROM u.from_attempt_id
               RETURNING t.task_id, t.job_id, t.pool_id, t.range, u.state, t.attempt, t.attempt_id, t.lease_token, t.created_at, t.started_at)
           INSERT INTO task_history
               (task_id, job_id, pool_id, range, outputs, state, attempt, attempt_id, lease_token, created_at, started_at)
           -- The rows that the deletion cascades to are still visible to this statement.
           SELECT e.task_id, e.job_id, e.pool_id, e.range, ARRAY(SELECT o.output FROM task_outputs o WHERE o.task_id = e.task_id ORDER BY o.output),
                  e.state, e.attempt, e.attempt_id, e.lease_token, e.created_at, e.started_at
           FROM ended e"#,
        &from.tasks,
        &from.states,
        &from.attempts,
        &from.attempt_ids as &[Option<Uuid>],
        &states,
    )
    .execute(conn)
    .await
    .during("move ended tasks to history")?;
    expect_rows("move ended tasks to history", changes.len() as u64, moved.rows_affected())
}

/// Writes the attempts that the changes end, one row each. An attempt that nobody ever claimed (its message died) gets an id here.
async fn end_attempts(conn: &mut PgConnection, changes: &[Change]) -> Result<()> {
    let ended: Vec<_> = changes.iter().filter_map(|c| Some((c, c.to.attempt?.name().to_owned()))).collect();
    if ended.is_empty() {
        return Ok(());
    }
    let attempts: Vec<_> =
        ended.iter().map(|(c, _)| c.row.lease.map_or_else(Uuid::now_v7, |(attempt, _)| attempt.0)).collect();
    let tasks: Vec<_> = ended.iter().map(|(c, _)| c.row.task_id.0).collect();
    let numbers: Vec<_> = ended.iter().map(|(c, _)| signed(c.row.task.attempt)).collect();
    let states: Vec<_> = ended.iter().map(|(_, state)| state.clone()).collect();
    let workers: Vec<_> = ended.iter().map(|(c, _)| c.row.worker.unwrap_or_default()).collect();
    let started: Vec<_> = ended.iter().map(|(c, _)| c.row.started_at.unwrap_or(c.row.now)).collect();
    let reasons: Vec<_> = ended.iter().map(|(c, _)| c.cause.reason.clone()).collect();
    let messages: Vec<_> = ended.iter().map(|(c, _)| c.cause.message.clone()).collect();
    let providers: Vec<_> = ended.iter().map(|(c, _)| c.cause.provider.clone()).collect();
    let written = sqlx::query!(
        "INSERT INTO attempts (attempt_id, task_id, number, state, worker_id, started_at, reason, message, provider)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::uuid[], $6::timestamptz[], $7::text[], $8::text[], $9::text[])",
        &attempts,
        &tasks,
        &numbers,
        &states,
        &workers,
        &started,
        &reasons as &[Option<String>],
        &messages as &[Option<String>],
        &providers as &[Option<String>],
    )
    .execute(conn)
    .await
    .during("end attempts")?;
    expect_rows("end attempts", ended.len() as u64, written.rows_affected())
}

/// The preconditions of changes, as columns.
struct From {
    tasks: Vec<Uuid>,
    states: Vec<String>,
    attempts: Vec<i32>,
    attempt_ids: Vec<Option<Uuid>>,
}

impl From {
    fn of(changes: &[&Change]) -> Self {
        Self {
            tasks: changes.iter().map(|c| c.row.task_id.0).collect(),
            states: changes.iter().map(|c| c.row.task.state.name().to_owned()).collect(),
            attempts: changes.iter().map(|c| signed(c.row.task.attempt)).collect(),
            attempt_ids: changes.iter().map(|c| c.row.lease.map(|(attempt, _)| attempt.0)).collect(),
        }
    }
}

/// Ordinals and counters are small; one that is not would be refused by the column.
pub(crate) fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
