//! Desired rows as the controller writes them, and tasks as the planner does.

use anyhow::Context as _;
use dagwright_contracts::token::token_hash;
use dagwright_core::{ids::JobId, plan::PlannedTask, range::BlockRange};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::noop::OPERATOR;

pub(crate) const NAMESPACE: &str = "bench";
pub(crate) const OUTPUT: &str = "out";

/// A pool and its streams.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    pub(crate) pool: Uuid,
    pub(crate) token: String,
    pub(crate) streams: Vec<Stream>,
}

/// A job of one output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) job: Uuid,
    pub(crate) version: Uuid,
}

/// What the product's own planner is to do for a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Planned {
    /// Nothing: the benchmark inserts tasks itself, by the planner's function.
    ByUs,
    /// So many tasks of one block, one at a time.
    OneByOne(u64),
}

impl Installation {
    /// Writes a pool with its token and queue.
    pub(crate) async fn pool(db: &PgPool, queue_url: &str, slots: u32) -> anyhow::Result<Self> {
        let (pool, token) = (Uuid::now_v7(), format!("dwp_{}", Uuid::new_v4().simple()));
        let run = json!({"service": {"min": 1, "max": 1, "tasksPerWorker": slots, "cooldownSeconds": 300}});
        sqlx::query(
            "INSERT INTO pools (pool_id, namespace, name, slots, run, lease_seconds, queue_url, generation)
             VALUES ($1, $2, $3, $4, $5, 60, $6, 1)",
        )
        .bind(pool)
        .bind(NAMESPACE)
        .bind(format!("pool-{pool}"))
        .bind(i32::try_from(slots)?)
        .bind(run)
        .bind(queue_url)
        .execute(db)
        .await
        .context("write a pool")?;
        sqlx::query("INSERT INTO pool_tokens (token_sha256, pool_id) VALUES ($1, $2)")
            .bind(token_hash(&token).as_slice())
            .bind(pool)
            .execute(db)
            .await
            .context("write a pool's token")?;
        Ok(Self { pool, token, streams: vec![] })
    }

    /// Writes streams of that pool.
    pub(crate) async fn add_streams(
        &mut self,
        db: &PgPool,
        count: u32,
        config: &Value,
        planned: Planned,
    ) -> anyhow::Result<()> {
        for _ in 0..count {
            let stream = Stream { job: Uuid::now_v7(), version: Uuid::now_v7() };
            self.add_stream(db, stream, config, planned).await.context("write a stream")?;
            self.streams.push(stream);
        }
        Ok(())
    }

    async fn add_stream(
        &self,
        db: &PgPool,
        stream: Stream,
        config: &Value,
        planned: Planned,
    ) -> anyhow::Result<()> {
        let (target, in_flight) = match planned {
            Planned::ByUs => (0, 1_000_000),
            Planned::OneByOne(tasks) => (i64::try_from(tasks)?, 1),
        };
        let mut tx = db.begin().await?;
        sqlx::query(
            "INSERT INTO dataset_versions (namespace, version, materialization, operator, semantics, output, column_schema)
             VALUES ($1, $2, sha256($2::text::bytea), $3, 1, $4, 1)",
        )
        .bind(NAMESPACE)
        .bind(stream.version)
        .bind(OPERATOR)
        .bind(OUTPUT)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO jobs (job_id, namespace, owner_kind, owner_name, name, generation, operator, semantics, config, pool_id,
                 target_start, target_end, chunk_size, max_in_flight, max_attempts, backoff_ms, max_backoff_ms, timeout_seconds)
             VALUES ($1, $2, 'ChainSync', $3, 'core', 1, $4, 1, $5, $6, 0, $7, 1, $8, 5, 1000, 60000, 900)",
        )
        .bind(stream.job)
        .bind(NAMESPACE)
        .bind(format!("stream-{}", stream.job))
        .bind(OPERATOR)
        .bind(config)
        .bind(self.pool)
        .bind(target)
        .bind(in_flight)
        .execute(&mut *tx)
        .await?;
        sqlx::query("INSERT INTO job_outputs (job_id, output, namespace, version) VALUES ($1, $2, $3, $4)")
            .bind(stream.job)
            .bind(OUTPUT)
            .bind(NAMESPACE)
            .bind(stream.version)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

impl Stream {
    /// Inserts tasks of one block each, from a height on, in one transaction of the planner's own statements. Returns just
    /// before the commit is sent, so that the caller can take the time.
    pub(crate) async fn insert(
        self,
        tx: &mut sqlx::PgConnection,
        from: u64,
        count: u64,
    ) -> anyhow::Result<()> {
        let task = |height| {
            let range = BlockRange::new(height, height + 1)?;
            Some(PlannedTask { range, outputs: vec![OUTPUT.to_owned()] })
        };
        let planned: Vec<_> = (from..from + count).filter_map(task).collect();
        let inserted = dagwright_state::plan::insert(tx, JobId(self.job), &planned).await?;
        anyhow::ensure!(inserted == count, "{inserted} of {count} tasks from height {from} on were new");
        Ok(())
    }
}
