//! The completing transaction: fences (I1, I3), borders, pointers, events and history change together or not at all (I2).
//!
//! It moves a set: what a commit costs beyond its rows (locks, round trips, the log's flush) is paid once for all of them. Each
//! completion has its own verdict, the one it would have had alone.

use std::collections::{BTreeMap, HashMap, HashSet, hash_map::Entry};

use dagwright_core::{
    border::{Ends, Fork},
    ids::{PoolId, TaskId, VersionId},
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

mod neighbours;
mod pointers;

use neighbours::Judgement;

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

/// Commits attempts' results; the verdicts come in the order of the completions. Must run in a transaction, which the caller
/// commits whatever the verdicts are.
///
/// # Errors
/// When Postgres cannot be reached, refuses a row, or a row is invalid; the transaction is to be rolled back. With several completions
/// the caller tries each in a transaction of its own: what is wrong with one says nothing about the others.
pub async fn complete(
    conn: &mut PgConnection,
    pool_id: PoolId,
    completions: &[Completion],
    jitter: Jitter<'_>,
) -> Result<Vec<Committed>> {
    let mut verdicts = Verdicts::default();
    let fences: Vec<_> = completions.iter().map(|c| c.fence).collect();
    let held = lock_leases(conn, pool_id, &fences).await?;
    let tasks: Vec<_> = held.iter().map(|row| row.task_id.0).collect();
    let mut held: HashMap<Fence, Locked> =
        held.into_iter().filter_map(|row| Some((row.fence()?, row))).collect();
    let gone: Vec<_> = fences.into_iter().filter(|fence| !held.contains_key(fence)).collect();
    let before = completed_before(conn, &gone).await?;
    let mut targets = targets(conn, &tasks).await?;
    let mut candidates = Vec::with_capacity(held.len());
    for completion in completions {
        let Some(row) = held.remove(&completion.fence) else {
            let early = before.contains(&completion.fence);
            verdicts.gone(completion, if early { Committed::Already } else { Committed::StaleLease });
            continue;
        };
        match pair(targets.remove(&row.task_id).unwrap_or_default(), &completion.partitions) {
            Ok(pairs) => candidates.push(Candidate { fence: completion.fence, row, pairs }),
            Err(expected) => verdicts.put(completion.fence, Committed::WrongOutputs { expected }),
        }
    }
    commit(conn, candidates, &mut verdicts, jitter).await?;
    Ok(completions.iter().map(|c| verdicts.of(&c.fence)).collect())
}

async fn commit(
    conn: &mut PgConnection,
    candidates: Vec<Candidate<'_>>,
    verdicts: &mut Verdicts,
    jitter: Jitter<'_>,
) -> Result<()> {
    if candidates.is_empty() {
        return Ok(());
    }
    lock_versions(conn, &candidates).await?;
    let Judgement { good, superseded, forked } = neighbours::judge(conn, candidates).await?;
    let over: Vec<_> = superseded.iter().map(|c| c.row.clone()).collect();
    supersede(conn, &over, jitter).await?;
    superseded.iter().for_each(|c| verdicts.put(c.fence, Committed::Superseded));
    // What commits resolves first: a fork with it is news.
    neighbours::resolve_forks(conn, &good).await?;
    neighbours::record_forks(conn, &forked).await?;
    for (candidate, forks) in forked {
        verdicts.put(candidate.fence, Committed::ForkAtBorder(forks.into_iter().map(|f| f.fork).collect()));
    }
    pointers::insert(conn, &good).await?;
    let decided = good.iter().filter_map(|c| decide(&c.row, Event::Complete, Cause::default(), jitter));
    let changes: Vec<_> = decided.collect();
    apply(conn, &changes).await?;
    good.iter().for_each(|c| verdicts.put(c.fence, Committed::Applied));
    Ok(())
}

/// A completion whose lease is current and whose outputs are the task's.
struct Candidate<'a> {
    fence: Fence,
    row: Locked,
    pairs: Vec<(Target, &'a Partition)>,
}

/// What became of each fence. A completion that a call names twice is delivered twice.
#[derive(Default)]
struct Verdicts {
    first: HashMap<Fence, Committed>,
    told: HashSet<Fence>,
}

impl Verdicts {
    fn put(&mut self, fence: Fence, verdict: Committed) {
        self.first.insert(fence, verdict);
    }

    /// Of a completion whose lease was not found: it is over, or this call named it before.
    fn gone(&mut self, completion: &Completion, verdict: Committed) {
        if let Entry::Vacant(entry) = self.first.entry(completion.fence) {
            entry.insert(verdict);
        }
    }

    fn of(&mut self, fence: &Fence) -> Committed {
        let verdict = self.first.get(fence).cloned().unwrap_or(Committed::StaleLease);
        let repeated = !self.told.insert(*fence);
        if repeated && verdict == Committed::Applied { Committed::Already } else { verdict }
    }
}

/// The fences among `gone` under which a task was completed: the same call, delivered again.
async fn completed_before(conn: &mut PgConnection, gone: &[Fence]) -> Result<HashSet<Fence>> {
    if gone.is_empty() {
        return Ok(HashSet::new());
    }
    let tasks: Vec<_> = gone.iter().map(|f| f.task_id.0).collect();
    let found = sqlx::query!(
        "SELECT task_id, attempt_id, lease_token FROM task_history WHERE task_id = ANY($1) AND state = 'Completed'",
        &tasks
    )
    .fetch_all(conn)
    .await
    .during("look for an earlier delivery of a completion")?;
    let fence = |task: Uuid, attempt: Option<Uuid>, token: Option<Uuid>| {
        Some(Fence { task_id: task.into(), attempt_id: attempt?.into(), lease_token: token?.into() })
    };
    let known: HashSet<_> =
        found.into_iter().filter_map(|row| fence(row.task_id, row.attempt_id, row.lease_token)).collect();
    Ok(gone.iter().copied().filter(|fence| known.contains(fence)).collect())
}

struct Target {
    output: String,
    namespace: String,
    version: VersionId,
    range: BlockRange,
}

struct TargetRow {
    task_id: Uuid,
    output: String,
    namespace: String,
    version: Uuid,
    range: PgRange<i64>,
}

async fn targets(conn: &mut PgConnection, tasks: &[Uuid]) -> Result<HashMap<TaskId, Vec<Target>>> {
    let mut targets: HashMap<TaskId, Vec<Target>> = HashMap::with_capacity(tasks.len());
    if tasks.is_empty() {
        return Ok(targets);
    }
    let found = sqlx::query_as!(
        TargetRow,
        "SELECT task_id, output, namespace, version, range FROM task_outputs WHERE task_id = ANY($1)
         ORDER BY task_id, namespace, version",
        tasks
    )
    .fetch_all(conn)
    .await
    .during("read the outputs of tasks")?;
    for row in found {
        let range = rows::from_pg("task_outputs", row.task_id, &row.range)?;
        let (output, namespace, version) = (row.output, row.namespace, VersionId(row.version));
        targets.entry(row.task_id.into()).or_default().push(Target { output, namespace, version, range });
    }
    Ok(targets)
}

/// Each output with its partition; the task's outputs unless they match one to one.
fn pair(targets: Vec<Target>, partitions: &[Partition]) -> Result<Vec<(Target, &Partition)>, Vec<String>> {
    let by_output: BTreeMap<&str, &Partition> = partitions.iter().map(|p| (p.output.as_str(), p)).collect();
    let match_all = by_output.len() == partitions.len()
        && partitions.len() == targets.len()
        && targets.iter().all(|t| by_output.contains_key(t.output.as_str()));
    if !match_all {
        return Err(targets.into_iter().map(|t| t.output).collect());
    }
    let paired = targets.into_iter().filter_map(|t| {
        let partition = *by_output.get(t.output.as_str())?;
        Some((t, partition))
    });
    Ok(paired.collect())
}

/// Commits of one version queue up here: two neighbours that commit at once could not see each other's hashes. Always in the same
/// order, so that two commits cannot wait for each other.
async fn lock_versions(conn: &mut PgConnection, candidates: &[Candidate<'_>]) -> Result<()> {
    let versions: HashSet<(&str, Uuid)> =
        candidates.iter().flat_map(|c| &c.pairs).map(|(t, _)| (t.namespace.as_str(), t.version.0)).collect();
    let (namespaces, versions): (Vec<String>, Vec<Uuid>) =
        versions.into_iter().map(|(namespace, version)| (namespace.to_owned(), version)).unzip();
    sqlx::query_scalar!(
        "SELECT v.version FROM dataset_versions v
         JOIN UNNEST($1::text[], $2::uuid[]) AS u (namespace, version) ON u.namespace = v.namespace AND u.version = v.version
         ORDER BY v.namespace, v.version FOR NO KEY UPDATE OF v",
        &namespaces,
        &versions
    )
    .fetch_all(conn)
    .await
    .during("lock dataset versions")?;
    Ok(())
}
