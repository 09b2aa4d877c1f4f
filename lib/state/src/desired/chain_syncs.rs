//! ChainSyncs: their streams are jobs in the tables that Dags use too.

use std::collections::BTreeMap;

use dagwright_core::ids::{DatasetId, JobId, PoolId, VersionId};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::datasets::{Producer, producer};
use crate::{Result, error::During};

/// The owner kind under which ChainSyncs are stored.
pub const OWNER: &str = "ChainSync";

/// All that one revision of an owner wants.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Owner {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Generation of the object.
    pub generation: i64,
    /// Whether nothing new is to start.
    pub suspended: bool,
    /// 0 High, 1 Normal, 2 Low.
    pub priority: i16,
    /// Its jobs.
    pub jobs: Vec<Job>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Job {
    /// Id.
    pub job_id: JobId,
    /// Name within the owner.
    pub name: String,
    /// Operator.
    pub operator: String,
    /// Its semantics.
    pub semantics: i32,
    /// Its config.
    pub config: Value,
    /// Pool that runs the tasks.
    pub pool_id: PoolId,
    /// RpcPool that the head follower asks.
    pub rpc_pool: String,
    /// First wanted block.
    pub target_start: i64,
    /// Block after the last wanted one; `None` where the head is followed.
    pub target_end: Option<i64>,
    /// `{"finalized": {}}`, `{"safe": {}}` or `{"blocks": n}`; `None` for a fixed target.
    pub follow: Option<Value>,
    /// Blocks per task.
    pub chunk_size: i64,
    /// Tasks at once.
    pub max_in_flight: i32,
    /// Attempts per task.
    pub max_attempts: i32,
    /// First wait between attempts.
    pub backoff_ms: i64,
    /// Longest wait between attempts.
    pub max_backoff_ms: i64,
    /// Longest run of an attempt.
    pub timeout_seconds: i32,
    /// What it writes.
    pub outputs: Vec<Output>,
}

/// One output of a stream.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Output {
    /// Port.
    pub name: String,
    /// Version that it writes.
    pub version: VersionId,
    /// The version's hash.
    pub materialization: [u8; 32],
    /// Version of its columns.
    pub column_schema: i32,
    /// Dataset that points at it.
    pub dataset_id: DatasetId,
}

/// A Dataset that somebody else produces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The Dataset.
    pub dataset_id: DatasetId,
    /// Who holds it.
    pub holder: Producer,
}

/// Writes everything that the owner wants and takes back what it no longer wants. With a conflict nothing may be kept: the
/// caller rolls the transaction back.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn apply(conn: &mut PgConnection, owner: &Owner) -> Result<Vec<Conflict>> {
    // Most objects that are applied by the thousand are new, and have nothing to take back.
    let known = is_known(conn, owner).await?;
    if known {
        release_producers(conn, owner).await?;
    }
    let conflicts = claim_producers(conn, owner).await?;
    if !conflicts.is_empty() {
        return Ok(conflicts);
    }
    write_versions(conn, owner).await?;
    for job in &owner.jobs {
        write_job(conn, owner, job).await?;
    }
    if known {
        forget_outputs(conn, owner).await?;
    }
    let moved = write_outputs(conn, owner).await? > 0;
    if known {
        if moved {
            cancel_outdated(conn, owner).await?;
        }
        cancel_strays(conn, owner).await?;
        forget_wants(conn, owner).await?;
        let kept: Vec<Uuid> = owner.jobs.iter().map(|j| j.job_id.0).collect();
        remove_jobs(conn, &owner.namespace, &owner.name, &kept).await?;
    }
    Ok(conflicts)
}

/// Whether the owner ever had a job; removed ones count.
async fn is_known(conn: &mut PgConnection, owner: &Owner) -> Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM jobs WHERE namespace = $1 AND owner_kind = $2 AND owner_name = $3) AS "known!""#,
        owner.namespace,
        OWNER,
        owner.name
    )
    .fetch_one(conn)
    .await
    .during("look for jobs of an owner")
}

/// Ids of pools and datasets that the owner's jobs name and that no row has yet: their own objects write them first.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn unwritten(conn: &mut PgConnection, owner: &Owner) -> Result<Vec<Uuid>> {
    let pools: Vec<Uuid> = owner.jobs.iter().map(|j| j.pool_id.0).collect();
    let datasets: Vec<Uuid> = owner.jobs.iter().flat_map(|j| &j.outputs).map(|o| o.dataset_id.0).collect();
    sqlx::query_scalar!(
        r#"SELECT id AS "id!" FROM unnest($1::uuid[]) AS id
           WHERE NOT EXISTS (SELECT FROM pools WHERE pool_id = id AND deleted_at IS NULL OFFSET 0)
           UNION
           SELECT id FROM unnest($2::uuid[]) AS id
           WHERE NOT EXISTS (SELECT FROM datasets WHERE dataset_id = id AND deleted_at IS NULL OFFSET 0)"#,
        &pools,
        &datasets
    )
    .fetch_all(conn)
    .await
    .during("look for rows that a job needs")
}

/// Takes back everything that the owner wanted: nothing is planned any more, what runs is cancelled, committed data stays.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn remove(conn: &mut PgConnection, namespace: &str, name: &str) -> Result<()> {
    let gone = Owner {
        namespace: namespace.into(),
        name: name.into(),
        generation: 0,
        suspended: true,
        priority: 1,
        jobs: vec![],
    };
    apply(conn, &gone).await.map(drop)
}

async fn release_producers(conn: &mut PgConnection, owner: &Owner) -> Result<()> {
    let kept: Vec<Uuid> = owner.jobs.iter().flat_map(|j| &j.outputs).map(|o| o.dataset_id.0).collect();
    sqlx::query!(
        "DELETE FROM dataset_producers p
         WHERE p.owner_kind = $2 AND p.owner_name = $3 AND p.dataset_id <> ALL($4)
           AND (SELECT d.namespace FROM datasets d WHERE d.dataset_id = p.dataset_id) = $1",
        owner.namespace,
        OWNER,
        owner.name,
        &kept
    )
    .execute(conn)
    .await
    .during("let datasets go")?;
    Ok(())
}

async fn claim_producers(conn: &mut PgConnection, owner: &Owner) -> Result<Vec<Conflict>> {
    // Two outputs of one Dataset are one claim.
    let claims: BTreeMap<Uuid, &str> =
        outputs(owner).map(|(job, o)| (o.dataset_id.0, job.name.as_str())).collect();
    let datasets: Vec<Uuid> = claims.keys().copied().collect();
    let jobs: Vec<String> = claims.values().map(|&job| job.to_owned()).collect();
    let claimed = sqlx::query_scalar!(
        "INSERT INTO dataset_producers (dataset_id, owner_kind, owner_name, job)
         SELECT d.id, $2, $3, d.job FROM UNNEST($1::uuid[], $4::text[]) AS d (id, job)
         ON CONFLICT (dataset_id) DO UPDATE SET job = excluded.job
         WHERE dataset_producers.owner_kind = excluded.owner_kind AND dataset_producers.owner_name = excluded.owner_name
         RETURNING dataset_id",
        &datasets,
        OWNER,
        owner.name,
        &jobs
    )
    .fetch_all(&mut *conn)
    .await
    .during("claim datasets")?;
    let mut conflicts = vec![];
    for dataset_id in datasets.into_iter().filter(|d| !claimed.contains(d)).map(DatasetId) {
        if let Some(holder) = producer(conn, dataset_id).await? {
            conflicts.push(Conflict { dataset_id, holder });
        }
    }
    Ok(conflicts)
}

/// All outputs with their jobs.
fn outputs(owner: &Owner) -> impl Iterator<Item = (&Job, &Output)> {
    owner.jobs.iter().flat_map(|job| job.outputs.iter().map(move |output| (job, output)))
}

async fn write_versions(conn: &mut PgConnection, owner: &Owner) -> Result<()> {
    let versions: Vec<Uuid> = outputs(owner).map(|(_, o)| o.version.0).collect();
    let materializations: Vec<Vec<u8>> = outputs(owner).map(|(_, o)| o.materialization.to_vec()).collect();
    let operators: Vec<String> = outputs(owner).map(|(job, _)| job.operator.clone()).collect();
    let semantics: Vec<i32> = outputs(owner).map(|(job, _)| job.semantics).collect();
    let names: Vec<String> = outputs(owner).map(|(_, o)| o.name.clone()).collect();
    let column_schemas: Vec<i32> = outputs(owner).map(|(_, o)| o.column_schema).collect();
    sqlx::query!(
        "WITH written AS (
             INSERT INTO dataset_versions (namespace, version, materialization, operator, semantics, output, column_schema)
             SELECT $1, v.* FROM UNNEST($2::uuid[], $3::bytea[], $4::text[], $5::int[], $6::text[], $7::int[]) AS v
             ON CONFLICT DO NOTHING)
         INSERT INTO wants (namespace, version, owner_kind, owner_name, revision, suspended, priority)
         SELECT DISTINCT $1, v, $8, $9, $10::bigint, $11::bool, $12::smallint FROM UNNEST($2::uuid[]) AS v
         ON CONFLICT (namespace, version, owner_kind, owner_name) DO UPDATE SET
            revision = excluded.revision, suspended = excluded.suspended, priority = excluded.priority
         WHERE (wants.revision, wants.suspended, wants.priority)
               IS DISTINCT FROM (excluded.revision, excluded.suspended, excluded.priority)",
        owner.namespace,
        &versions,
        &materializations,
        &operators,
        &semantics,
        &names,
        &column_schemas,
        OWNER,
        owner.name,
        owner.generation,
        owner.suspended,
        owner.priority
    )
    .execute(conn)
    .await
    .during("write dataset versions and wants")?;
    Ok(())
}

/// A fixed target is written as it is. A followed one keeps what the head follower wrote, unless the start moved above it.
async fn write_job(conn: &mut PgConnection, owner: &Owner, job: &Job) -> Result<()> {
    sqlx::query!(
        "INSERT INTO jobs AS j (job_id, namespace, owner_kind, owner_name, name, generation, operator, semantics, config,
            pool_id, rpc_pool, target_start, target_end, follow, chunk_size, max_in_flight, max_attempts, backoff_ms,
            max_backoff_ms, timeout_seconds, priority, suspended)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::bigint, COALESCE($13::bigint, $12::bigint), $14, $15, $16, $17, $18, $19, $20, $21, $22)
         ON CONFLICT (job_id) DO UPDATE SET
            generation = excluded.generation, operator = excluded.operator, semantics = excluded.semantics,
            config = excluded.config, pool_id = excluded.pool_id, rpc_pool = excluded.rpc_pool,
            target_start = excluded.target_start,
            target_end = CASE WHEN $14::jsonb IS NULL THEN excluded.target_end
                              WHEN j.follow IS DISTINCT FROM excluded.follow THEN excluded.target_start
                              ELSE GREATEST(j.target_end, excluded.target_start) END,
            follow = excluded.follow, chunk_size = excluded.chunk_size, max_in_flight = excluded.max_in_flight,
            max_attempts = excluded.max_attempts, backoff_ms = excluded.backoff_ms,
            max_backoff_ms = excluded.max_backoff_ms, timeout_seconds = excluded.timeout_seconds,
            priority = excluded.priority, suspended = excluded.suspended, removed_at = NULL
         WHERE (j.generation, j.config, j.pool_id, j.semantics, j.suspended, j.priority)
               IS DISTINCT FROM (excluded.generation, excluded.config, excluded.pool_id, excluded.semantics,
                                 excluded.suspended, excluded.priority)
            OR j.removed_at IS NOT NULL",
        job.job_id.0,
        owner.namespace,
        OWNER,
        owner.name,
        job.name,
        owner.generation,
        job.operator,
        job.semantics,
        job.config,
        job.pool_id.0,
        job.rpc_pool,
        job.target_start,
        job.target_end,
        job.follow,
        job.chunk_size,
        job.max_in_flight,
        job.max_attempts,
        job.backoff_ms,
        job.max_backoff_ms,
        job.timeout_seconds,
        owner.priority,
        owner.suspended
    )
    .execute(conn)
    .await
    .during("write a job")?;
    Ok(())
}

async fn forget_outputs(conn: &mut PgConnection, owner: &Owner) -> Result<()> {
    let (jobs, names): (Vec<Uuid>, Vec<String>) =
        outputs(owner).map(|(j, o)| (j.job_id.0, o.name.clone())).unzip();
    sqlx::query!(
        "DELETE FROM job_outputs o WHERE o.job_id = ANY($1)
           AND NOT EXISTS (SELECT FROM UNNEST($1::uuid[], $2::text[]) AS k (job, name) WHERE k.job = o.job_id AND k.name = o.output)",
        &jobs,
        &names
    )
    .execute(conn)
    .await
    .during("remove outputs of jobs")?;
    Ok(())
}

/// Returns how many are new, or name another version or dataset than before.
async fn write_outputs(conn: &mut PgConnection, owner: &Owner) -> Result<u64> {
    let jobs: Vec<Uuid> = outputs(owner).map(|(job, _)| job.job_id.0).collect();
    let names: Vec<String> = outputs(owner).map(|(_, o)| o.name.clone()).collect();
    let versions: Vec<Uuid> = outputs(owner).map(|(_, o)| o.version.0).collect();
    let datasets: Vec<Uuid> = outputs(owner).map(|(_, o)| o.dataset_id.0).collect();
    let written = sqlx::query!(
        "INSERT INTO job_outputs (job_id, output, namespace, version, dataset_id)
         SELECT o.job, o.name, $1, o.version, o.dataset
         FROM UNNEST($2::uuid[], $3::text[], $4::uuid[], $5::uuid[]) AS o (job, name, version, dataset)
         ON CONFLICT (job_id, output) DO UPDATE SET version = excluded.version, dataset_id = excluded.dataset_id
         WHERE (job_outputs.version, job_outputs.dataset_id) IS DISTINCT FROM (excluded.version, excluded.dataset_id)",
        owner.namespace,
        &jobs,
        &names,
        &versions,
        &datasets
    )
    .execute(conn)
    .await
    .during("write outputs of jobs")?;
    Ok(written.rows_affected())
}

/// A claim hands a task out with what its job says now, so that a task must not outlive the version that it was planned for: it would
/// write one version by the recipe of another. The new one is planned anew.
async fn cancel_outdated(conn: &mut PgConnection, owner: &Owner) -> Result<()> {
    let jobs: Vec<Uuid> = owner.jobs.iter().map(|j| j.job_id.0).collect();
    sqlx::query!(
        "UPDATE tasks t SET cancel_requested = true
         WHERE t.job_id = ANY($1) AND NOT t.cancel_requested AND EXISTS (
             SELECT FROM task_outputs o JOIN job_outputs w ON w.job_id = t.job_id AND w.output = o.output
             WHERE o.task_id = t.task_id AND w.version <> o.version)",
        &jobs
    )
    .execute(conn)
    .await
    .during("cancel tasks of versions that their jobs left")?;
    Ok(())
}

/// Tasks that were queued for a pool which their job left would wait for ever.
async fn cancel_strays(conn: &mut PgConnection, owner: &Owner) -> Result<()> {
    let (jobs, pools): (Vec<Uuid>, Vec<Uuid>) = owner.jobs.iter().map(|j| (j.job_id.0, j.pool_id.0)).unzip();
    sqlx::query!(
        "UPDATE tasks t SET cancel_requested = true FROM UNNEST($1::uuid[], $2::uuid[]) AS j (id, pool)
         WHERE t.job_id = j.id AND t.pool_id <> j.pool AND t.state <> 'Failed' AND NOT t.cancel_requested",
        &jobs,
        &pools
    )
    .execute(conn)
    .await
    .during("cancel tasks of a pool that a job left")?;
    Ok(())
}

async fn forget_wants(conn: &mut PgConnection, owner: &Owner) -> Result<()> {
    let kept: Vec<Uuid> = owner.jobs.iter().flat_map(|j| &j.outputs).map(|o| o.version.0).collect();
    sqlx::query!(
        "DELETE FROM wants WHERE namespace = $1 AND owner_kind = $2 AND owner_name = $3 AND version <> ALL($4)",
        owner.namespace,
        OWNER,
        owner.name,
        &kept
    )
    .execute(conn)
    .await
    .during("forget wants")?;
    Ok(())
}

async fn remove_jobs(conn: &mut PgConnection, namespace: &str, name: &str, kept: &[Uuid]) -> Result<()> {
    let removed = sqlx::query_scalar!(
        "UPDATE jobs SET removed_at = clock_timestamp()
         WHERE namespace = $1 AND owner_kind = $2 AND owner_name = $3 AND job_id <> ALL($4) AND removed_at IS NULL
         RETURNING job_id",
        namespace,
        OWNER,
        name,
        kept
    )
    .fetch_all(&mut *conn)
    .await
    .during("remove jobs")?;
    if removed.is_empty() {
        return Ok(());
    }
    // Failed ones too: when an owner of this name comes back at once, it must not find them.
    sqlx::query!(
        "UPDATE tasks SET cancel_requested = true WHERE job_id = ANY($1) AND NOT cancel_requested",
        &removed
    )
    .execute(&mut *conn)
    .await
    .during("cancel tasks of removed jobs")?;
    sqlx::query!("DELETE FROM job_outputs WHERE job_id = ANY($1)", &removed)
        .execute(conn)
        .await
        .during("remove outputs of removed jobs")?;
    Ok(())
}
