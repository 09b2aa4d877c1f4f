//! A small installation: one pool, one ChainSync stream with two outputs, two Datasets.

use dagwright_core::{
    border::Ends,
    ids::{DatasetId, JobId, PoolId, TaskId, VersionId, WorkerId},
    plan::{PlanRequest, PlannedTask, plan},
    task::Fence,
};
use dagwright_state::{
    claim::{Claimed, Lease, Offer, claim},
    complete::{Committed, Completion, Object, Partition, complete},
    cursor::Cursor,
    plan as jobs,
};
use sqlx::{PgPool, Row};
use uuid::Uuid;

pub(crate) const NAMESPACE: &str = "demo";
pub(crate) const LEASE_SECONDS: i32 = 30;

pub(crate) fn id<T: From<Uuid>>(n: u128) -> T {
    Uuid::from_u128(n).into()
}

/// Backoff without chance: always the upper bound.
pub(crate) fn full() -> f64 {
    1.0
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) db: PgPool,
    pub(crate) pool_id: PoolId,
    pub(crate) job_id: JobId,
}

pub(crate) fn dataset(n: u128) -> DatasetId {
    id(300 + n)
}

pub(crate) fn version(n: u128) -> VersionId {
    id(200 + n)
}

impl World {
    pub(crate) async fn new(db: PgPool) -> Self {
        let world = Self { db, pool_id: id(1), job_id: id(100) };
        world.add_pool(world.pool_id, "ingest").await;
        world.add_dataset(0, "blocks").await;
        world.add_job(world.job_id, "core").await;
        world.add_output(world.job_id, "core", 0, "blocks").await;
        world
    }

    pub(crate) async fn run(&self, sql: &'static str) -> u64 {
        sqlx::query(sql).execute(&self.db).await.expect(sql).rows_affected()
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query(sql).fetch_one(&self.db).await.expect(sql).get(0)
    }

    pub(crate) async fn add_pool(&self, pool_id: PoolId, name: &str) {
        let run =
            serde_json::json!({"service": {"min": 0, "max": 2, "tasksPerWorker": 4, "cooldownSeconds": 60}});
        sqlx::query(
            "INSERT INTO pools (pool_id, namespace, name, slots, run, lease_seconds, queue_url, generation)
             VALUES ($1, $2, $3, 2, $4, $5, 'http://queue', 1)",
        )
        .bind(pool_id.0)
        .bind(NAMESPACE)
        .bind(name)
        .bind(run)
        .bind(LEASE_SECONDS)
        .execute(&self.db)
        .await
        .expect("insert a pool");
    }

    pub(crate) async fn add_dataset(&self, n: u128, name: &str) {
        sqlx::query(
            "INSERT INTO datasets (dataset_id, namespace, name, storage, schema, read_roles, generation)
             VALUES ($1, $2, $3, '{\"s3\": {}}', '{\"evm\": \"blocks\"}', '{analyst}', 1)",
        )
        .bind(dataset(n).0)
        .bind(NAMESPACE)
        .bind(name)
        .execute(&self.db)
        .await
        .expect("insert a dataset");
        self.add_version(n, name).await;
    }

    pub(crate) async fn add_version(&self, n: u128, output: &str) {
        sqlx::query(
            "INSERT INTO dataset_versions (namespace, version, materialization, operator, semantics, output, column_schema)
             VALUES ($1, $2, decode(repeat('00', 32), 'hex'), 'evm_ingest', 1, $3, 1)",
        )
        .bind(NAMESPACE)
        .bind(version(n).0)
        .bind(output)
        .execute(&self.db)
        .await
        .expect("insert a version");
    }

    pub(crate) async fn add_job(&self, job_id: JobId, name: &str) {
        sqlx::query(
            "INSERT INTO jobs (job_id, namespace, owner_kind, owner_name, name, generation, operator, semantics, config, pool_id,
                 target_start, target_end, chunk_size, max_in_flight, max_attempts, backoff_ms, max_backoff_ms, timeout_seconds)
             VALUES ($1, $2, 'ChainSync', 'local', $3, 1, 'evm_ingest', 1, '{}', $4, 0, 100, 10, 5, 3, 5000, 60000, 900)",
        )
        .bind(job_id.0)
        .bind(NAMESPACE)
        .bind(name)
        .bind(self.pool_id.0)
        .execute(&self.db)
        .await
        .expect("insert a job");
    }

    /// Points an output of a job at version and dataset `n`, and makes the job the dataset's producer.
    pub(crate) async fn add_output(&self, job_id: JobId, job: &str, n: u128, output: &str) {
        sqlx::query("INSERT INTO job_outputs (job_id, output, namespace, version, dataset_id) VALUES ($1, $2, $3, $4, $5)")
            .bind(job_id.0)
            .bind(output)
            .bind(NAMESPACE)
            .bind(version(n).0)
            .bind(dataset(n).0)
            .execute(&self.db)
            .await
            .expect("insert an output");
        sqlx::query(
            "INSERT INTO dataset_producers (dataset_id, owner_kind, owner_name, job) VALUES ($1, 'ChainSync', 'local', $2)
             ON CONFLICT DO NOTHING",
        )
        .bind(dataset(n).0)
        .bind(job)
        .execute(&self.db)
        .await
        .expect("insert a producer");
    }

    /// One pass of the planner over one job. `None`: the job was not to be had.
    pub(crate) async fn plan(&self, job_id: JobId) -> Option<u64> {
        let mut tx = self.db.begin().await.expect("begin");
        let job = jobs::lock(&mut tx, job_id).await.expect("lock")?;
        let planned = decide(&mut tx, &job).await;
        let inserted = jobs::insert(&mut tx, job.job_id, &planned).await.expect("insert");
        jobs::mark_planned(&mut tx, job.job_id).await.expect("mark");
        tx.commit().await.expect("commit");
        Some(inserted)
    }

    pub(crate) async fn claim(&self, offers: &[Offer], further: u32) -> Claimed {
        let mut tx = self.db.begin().await.expect("begin");
        let claimed = claim(&mut tx, self.pool_id, id::<WorkerId>(9), offers, further, &Cursor::START)
            .await
            .expect("claim");
        tx.commit().await.expect("commit");
        claimed
    }

    pub(crate) async fn claim_one(&self) -> Lease {
        self.claim(&[], 1).await.leases.pop().expect("a task is due")
    }

    pub(crate) async fn complete(&self, completion: &Completion) -> Committed {
        let mut tx = self.db.begin().await.expect("begin");
        let committed = complete(&mut tx, self.pool_id, std::slice::from_ref(completion), &mut full).await;
        tx.commit().await.expect("commit");
        committed.expect("complete").pop().expect("a verdict")
    }

    /// Plans, claims and completes until nothing is left to do.
    pub(crate) async fn work_to_rest(&self, job_id: JobId) {
        loop {
            let planned = self.plan(job_id).await.expect("nobody else plans");
            let leases = self.claim(&[], 100).await.leases;
            if planned == 0 && leases.is_empty() {
                return;
            }
            for lease in leases {
                assert_eq!(self.complete(&completion(&lease)).await, Committed::Applied);
            }
        }
    }

    pub(crate) async fn task(&self, task_id: TaskId) -> Option<TaskRow> {
        let row = sqlx::query(
            "SELECT state, attempt, attempts_spent, releases, last_reason FROM tasks WHERE task_id = $1",
        )
        .bind(task_id.0)
        .fetch_optional(&self.db)
        .await
        .expect("read a task")?;
        Some(TaskRow {
            state: row.get(0),
            attempt: row.get(1),
            spent: row.get(2),
            releases: row.get(3),
            reason: row.get(4),
        })
    }

    /// Committed ranges of a version, in order.
    pub(crate) async fn ranges(&self, n: u128) -> Vec<(i64, i64)> {
        let rows = sqlx::query(
            "SELECT lower(range), upper(range) FROM partition_versions WHERE version = $1 AND current ORDER BY 1",
        )
        .bind(version(n).0)
        .fetch_all(&self.db)
        .await
        .expect("read ranges");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    pub(crate) async fn expire_leases(&self) {
        self.run("UPDATE tasks SET lease_expires_at = clock_timestamp() - interval '1 second' WHERE state = 'Running'").await;
    }

    pub(crate) async fn make_due(&self) {
        self.run("UPDATE tasks SET not_before = clock_timestamp()").await;
        self.run("UPDATE outbox SET not_before = clock_timestamp()").await;
    }
}

pub(crate) async fn decide(tx: &mut sqlx::PgConnection, job: &jobs::PlannableJob) -> Vec<PlannedTask> {
    let Some(wanted) = job.wanted else { return vec![] };
    let outputs = jobs::coverage(tx, job.job_id).await.expect("coverage");
    let (chunk, in_flight, max_in_flight) = (job.chunk, job.in_flight, job.max_in_flight);
    plan(&PlanRequest { wanted, outputs, chunk, in_flight, max_in_flight })
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TaskRow {
    pub(crate) state: String,
    pub(crate) attempt: i32,
    pub(crate) spent: i32,
    pub(crate) releases: i32,
    pub(crate) reason: Option<String>,
}

/// The hash of a block on the one true chain of these tests.
pub(crate) fn block_hash(height: u64) -> Vec<u8> {
    let mut hash = vec![7; 32];
    hash[..8].copy_from_slice(&height.to_be_bytes());
    hash
}

/// What an honest worker reports.
pub(crate) fn completion(lease: &Lease) -> Completion {
    let partition = |output: &str| Partition {
        output: output.into(),
        content_hash: vec![1; 32],
        ends: Ends {
            first_parent_hash: lease.range.start().checked_sub(1).map_or(vec![0; 32], block_hash),
            last_hash: block_hash(lease.range.end() - 1),
        },
        rows: lease.range.len(),
        verification: "verified".into(),
        objects: vec![Object {
            bucket: "data".into(),
            key: format!("{}/{output}/0.parquet", lease.fence.attempt_id),
            bytes: 100,
            sha256: "c2hh".into(),
            rows: lease.range.len(),
        }],
    };
    let partitions = lease.outputs.iter().map(|(output, _)| partition(output)).collect();
    Completion { fence: lease.fence, partitions }
}

pub(crate) fn offer(lease: &Lease) -> Offer {
    Offer { task_id: lease.fence.task_id, attempt: lease.attempt }
}

pub(crate) fn forged(fence: Fence) -> Fence {
    Fence { lease_token: id(0xbad), ..fence }
}
