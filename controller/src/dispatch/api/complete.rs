//! Completions: each object is looked at in the store before the completing transaction points at it.

use axum::{Json, extract::State};
use dagwright_contracts::tasks::{
    CommittedPartition, CompleteRequest, Completion, Outcome, OutcomeResponse, Verdict, WrittenObject,
};
use dagwright_core::{
    border::{Ends, Fork},
    objects::attempt_prefix,
    task::Fence,
};
use dagwright_state::{
    Cause,
    complete::{self, Committed, Object, Partition},
    finish::{self, FailedAttempt},
    lease::{self, WriteScope},
};
use dagwright_telemetry::Rejection;
use futures::future::try_join_all;

use super::{
    auth::{Pool, fence, own_tasks},
    finish::stale,
    reject::{self, Body},
};
use crate::dispatch::{Dispatcher, context::jitter};

/// Objects that are looked at, at once.
const LOOKS: usize = 16;

pub(super) async fn complete(
    State(dispatcher): State<Dispatcher>,
    pool: Pool,
    Body(request): Body<CompleteRequest>,
) -> Result<Json<OutcomeResponse>, Rejection> {
    let tasks: Vec<_> = request.completions.iter().map(|c| c.fence.task_id).collect();
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    own_tasks(&mut tx, &pool, &tasks).await?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    let mut outcomes = Vec::with_capacity(tasks.len());
    // Each row commits for itself: what a failing row leaves undone is only its own, and repeating the call does no harm.
    for completion in &request.completions {
        outcomes.push(one(&dispatcher, &pool, completion).await?);
    }
    Ok(Json(OutcomeResponse { outcomes }))
}

async fn one(dispatcher: &Dispatcher, pool: &Pool, completion: &Completion) -> Result<Outcome, Rejection> {
    let fence = fence(&completion.fence);
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    let scope = lease::write_scope(&mut tx, &fence).await.map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    let checked = match &scope {
        Some(scope) => check(dispatcher, scope, &fence, completion).await?,
        // Not current: the transaction tells a repeated completion from a stale one.
        None => Ok(vec![]),
    };
    match checked {
        Ok(partitions) => commit(dispatcher, pool, &complete::Completion { fence, partitions }).await,
        Err(detail) => refuse(dispatcher, pool, fence, "ResultsRefused", detail).await,
    }
}

/// The partitions with their objects as the store holds them, or why they do not hold.
async fn check(
    dispatcher: &Dispatcher,
    scope: &WriteScope,
    fence: &Fence,
    completion: &Completion,
) -> Result<Result<Vec<Partition>, String>, Rejection> {
    let partitions: Result<Vec<_>, String> =
        completion.partitions.iter().map(|p| parse(&dispatcher.args.data_bucket, scope, fence, p)).collect();
    let Ok(partitions) = partitions else { return Ok(partitions) };
    let objects: Vec<&Object> = partitions.iter().flat_map(|p| &p.objects).collect();
    let mut problems = Vec::new();
    for batch in objects.chunks(LOOKS) {
        let looks: Vec<_> = batch.iter().map(|object| look(dispatcher, object)).collect();
        problems.extend(try_join_all(looks).await?.into_iter().flatten());
    }
    Ok(if problems.is_empty() { Ok(partitions) } else { Err(problems.join("; ")) })
}

/// What is wrong with an object in the store, if anything.
async fn look(dispatcher: &Dispatcher, object: &Object) -> Result<Option<String>, Rejection> {
    let key = &object.key;
    let stored = dispatcher.objects.look(&object.bucket, key).await.map_err(|e| reject::aws(&e))?;
    Ok(match stored {
        None => Some(format!("object {key} is not in the store")),
        Some(s) if s.bytes != object.bytes => Some(format!(
            "object {key} has {} bytes in the store and {} in the completion",
            s.bytes, object.bytes
        )),
        Some(s) if s.sha256.as_deref() != Some(object.sha256.as_str()) => {
            let found = s.sha256.as_deref().unwrap_or("none");
            Some(format!(
                "object {key} has the checksum {found} in the store and {} in the completion",
                object.sha256
            ))
        }
        Some(_) => None,
    })
}

fn parse(
    bucket: &str,
    scope: &WriteScope,
    fence: &Fence,
    wire: &CommittedPartition,
) -> Result<Partition, String> {
    let name = &wire.output;
    let Some((_, version)) = scope.outputs.iter().find(|(output, _)| output == name) else {
        return Err(format!("the task has no output {name}"));
    };
    let prefix = attempt_prefix(&scope.namespace, *version, scope.range, fence.attempt_id);
    if let Some(stray) = wire.objects.iter().find(|o| !o.key.starts_with(&prefix)) {
        return Err(format!("object {} of output {name} lies outside its prefix {prefix}", stray.key));
    }
    let verification = match wire.verification.as_str() {
        level @ ("verified" | "unverifiable") => level.to_owned(),
        other => return Err(format!("output {name} has the unknown verification level {other:?}")),
    };
    let object = |o: &WrittenObject| Object {
        bucket: bucket.to_owned(),
        key: o.key.clone(),
        bytes: o.bytes,
        sha256: o.sha256.clone(),
        rows: o.rows,
    };
    Ok(Partition {
        output: name.clone(),
        content_hash: hash(name, "contentHash", &wire.content_hash)?,
        ends: Ends {
            first_parent_hash: hash(name, "firstParentHash", &wire.first_parent_hash)?,
            last_hash: hash(name, "lastHash", &wire.last_hash)?,
        },
        rows: wire.rows,
        verification,
        objects: wire.objects.iter().map(object).collect(),
    })
}

fn hash(output: &str, field: &str, text: &str) -> Result<Vec<u8>, String> {
    let bytes = hex::decode(text.strip_prefix("0x").unwrap_or(text)).ok().filter(|bytes| bytes.len() == 32);
    bytes.ok_or_else(|| format!("{field} of output {output} is not a hash of 32 bytes in hex"))
}

async fn commit(
    dispatcher: &Dispatcher,
    pool: &Pool,
    completion: &complete::Completion,
) -> Result<Outcome, Rejection> {
    let fence = completion.fence;
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    let committed =
        complete::complete(&mut tx, pool.0.pool_id, completion, &mut jitter).await.map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    let accepted = Outcome { task_id: fence.task_id, verdict: Verdict::Accepted, detail: String::new() };
    match committed {
        Committed::Applied => {
            metrics::counter!("dagwright_tasks_completed_total").increment(1);
            Ok(accepted)
        }
        Committed::Already | Committed::Superseded => Ok(accepted),
        Committed::StaleLease => Ok(stale(fence.task_id)),
        Committed::WrongOutputs { expected } => {
            let detail =
                format!("the task's outputs are {}; the completion must name each once", expected.join(", "));
            refuse(dispatcher, pool, fence, "ResultsRefused", detail).await
        }
        Committed::ForkAtBorder(forks) => {
            refuse(dispatcher, pool, fence, "ForkAtBorder", fork_text(&forks)).await
        }
    }
}

fn fork_text(forks: &[Fork]) -> String {
    let text = |f: &Fork| {
        let (below, above) = (hex::encode(&f.below_hash), hex::encode(&f.above_parent_hash));
        format!(
            "at height {} the range below ends with 0x{below}, the range above names 0x{above} as its parent",
            f.height
        )
    };
    forks.iter().map(text).collect::<Vec<_>>().join("; ")
}

/// Fails the attempt: another one, perhaps with another provider, may do better.
async fn refuse(
    dispatcher: &Dispatcher,
    pool: &Pool,
    fence: Fence,
    reason: &str,
    detail: String,
) -> Result<Outcome, Rejection> {
    let cause = Cause { reason: Some(reason.to_owned()), message: Some(detail.clone()), provider: None };
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    let failed = [FailedAttempt { fence, retryable: true, cause }];
    let verdicts =
        finish::fail(&mut tx, pool.0.pool_id, &failed, &mut jitter).await.map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;
    metrics::counter!("dagwright_completions_rejected_total").increment(1);
    Ok(match verdicts.first() {
        Some((_, finish::Verdict::Accepted)) => {
            Outcome { task_id: fence.task_id, verdict: Verdict::Rejected, detail }
        }
        _ => stale(fence.task_id),
    })
}
