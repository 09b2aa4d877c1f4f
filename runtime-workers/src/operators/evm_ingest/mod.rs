//! `evm_ingest`: block and receipts bundles in, verified Parquet out.
//!
//! 1. Fetch the range in batches of a few blocks, a few batches at once, each answered by one provider.
//! 2. Verify every block by itself. What fails is never written: its provider is reported and avoided by the next attempt.
//! 3. Check the links inside the range; the links to the neighbours are the dispatcher's.
//! 4. Encode each output, upload, say what was written.

mod fetch;
mod plan;
mod verify;

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use dagwright_contracts::tasks::{CommittedPartition, Output};
use dagwright_evm::{
    EVM_INGEST_SEMANTICS, OutputKind, VerifiedBundle,
    parquet::{EncodeContext, EncodedFile, encode},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use self::{
    fetch::{Fetcher, RawBundle},
    plan::Plan,
};
use super::{Operator, OperatorError, Reason, TaskContext};

/// Batches in flight per task: enough to hide the latency of a provider, few enough to be fair to other tasks.
const BATCHES_IN_FLIGHT: usize = 4;
/// Size of all answers of a task. The rows of a range are held until they are written, so this bounds a slot's memory.
const MAX_TASK_BYTES: usize = 512 << 20;

/// The operator.
pub struct EvmIngest;

#[async_trait]
impl Operator for EvmIngest {
    fn id(&self) -> &'static str {
        "evm_ingest"
    }

    fn semantics(&self) -> RangeInclusive<u32> {
        EVM_INGEST_SEMANTICS.saturating_sub(1).max(1)..=EVM_INGEST_SEMANTICS
    }

    async fn run(&self, task: &TaskContext) -> Result<Vec<CommittedPartition>, OperatorError> {
        let mut partitions = Vec::new();
        for (output, file) in read_range(task).await? {
            partitions.push(write(task, output, file).await?);
        }
        Ok(partitions)
    }
}

/// Everything but the writing: one file per output of the task, made of verified and linked blocks only.
///
/// # Errors
/// When the task makes no sense, or its blocks cannot be had or do not hold.
pub async fn read_range(task: &TaskContext) -> Result<Vec<(&Output, EncodedFile)>, OperatorError> {
    let plan = Arc::new(Plan::read(&task.work)?);
    let bundles = Arc::new(fetch_and_verify(task, &plan).await?);
    let mut files = Vec::with_capacity(plan.kinds.len());
    for (kind, output) in plan.kinds.iter().zip(&task.work.outputs) {
        files.push((output, encoded(*kind, &plan, &bundles).await?));
    }
    Ok(files)
}

/// All blocks of the range, verified and linked, in order.
async fn fetch_and_verify(
    task: &TaskContext,
    plan: &Arc<Plan>,
) -> Result<Vec<VerifiedBundle>, OperatorError> {
    let fetcher = Fetcher { task, pool: &plan.config.rpc_pool };
    // Boxed, because the future of a whole fetch is large and there are several.
    let mut batches = stream::iter(plan.batches())
        .map(|heights| Box::pin(async { verified(task, plan, fetcher.fetch(heights).await?).await }))
        .buffered(BATCHES_IN_FLIGHT);
    let (mut bundles, mut bytes) = (Vec::new(), 0);
    let mut last_provider = String::new();
    while let Some((size, provider, batch)) = batches.try_next().await? {
        bytes += size;
        if bytes > MAX_TASK_BYTES {
            let message = format!(
                "the answers for blocks {} exceed {MAX_TASK_BYTES} bytes after {} blocks; lower the stream's chunk size",
                plan.range,
                bundles.len()
            );
            return Err(OperatorError::new(Reason::InvalidConfig, message));
        }
        for bundle in batch {
            verify::link(bundles.last(), &bundle, &last_provider, &provider)?;
            last_provider.clone_from(&provider);
            bundles.push(bundle);
        }
    }
    Ok(bundles)
}

/// Verifies a batch away from the async threads, because that is hashing and elliptic curves. A bad block's provider is
/// reported before the attempt fails.
async fn verified(
    task: &TaskContext,
    plan: &Arc<Plan>,
    batch: Vec<RawBundle>,
) -> Result<(usize, String, Vec<VerifiedBundle>), OperatorError> {
    let size = batch.iter().map(RawBundle::size).sum();
    let provider = batch.first().map(|raw| raw.provider.clone()).unwrap_or_default();
    let (count, owned) = (batch.len() as u64, Arc::clone(plan));
    let work = move || batch.iter().map(|raw| verify::verify(&owned, raw)).collect::<Result<Vec<_>, _>>();
    match blocking(work).await? {
        Ok(bundles) => {
            task.progress.add(count);
            metrics::counter!("dagwright_worker_blocks_total", "result" => "verified").increment(count);
            Ok((size, provider, bundles))
        }
        Err(fault) => {
            metrics::counter!("dagwright_worker_blocks_total", "result" => fault.label()).increment(1);
            if let Some(report) = fault.report() {
                let reported =
                    task.gateway.verification_failed(&task.work.namespace, &plan.config.rpc_pool, report);
                if let Err(error) = reported.await {
                    tracing::warn!(error = %crate::chain(&error), "cannot report a provider that fed wrong data");
                }
            }
            Err(fault.into_error(&plan.config.rpc_pool))
        }
    }
}

async fn encoded(
    kind: OutputKind,
    plan: &Arc<Plan>,
    bundles: &Arc<Vec<VerifiedBundle>>,
) -> Result<EncodedFile, OperatorError> {
    let (plan, bundles) = (Arc::clone(plan), Arc::clone(bundles));
    let work = move || {
        let context =
            EncodeContext { chain_id: plan.config.chain_id, profile: plan.profile, range: plan.range };
        encode(kind, &context, &bundles)
    };
    blocking(work).await?.map_err(|error| OperatorError::new(Reason::Encoding, crate::chain(&error)))
}

async fn write(
    task: &TaskContext,
    output: &Output,
    file: EncodedFile,
) -> Result<CommittedPartition, OperatorError> {
    let object = task.store.write(output, 0, file.bytes, file.rows).await?;
    Ok(CommittedPartition {
        output: output.name.clone(),
        content_hash: format!("0x{}", hex::encode(file.content_hash)),
        first_parent_hash: file.edges.first_parent_hash.to_string(),
        last_hash: file.edges.last_hash.to_string(),
        rows: file.rows,
        verification: file.level.as_str().into(),
        objects: vec![object],
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, OperatorError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| {
        OperatorError::new(Reason::Panicked, format!("verification or encoding ended abnormally: {error}"))
    })
}
