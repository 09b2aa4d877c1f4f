//! Completions: each object is looked at in the store before the completing transaction points at it (I4). The rows of a call commit
//! together, and each for itself when together they do not. While the store is asked, the call leaves its place to others.

use std::collections::HashSet;

use axum::{Json, extract::State};
use dagwright_contracts::tasks::{
    CommittedPartition, CompleteRequest, Completion, Outcome, OutcomeResponse, Verdict, WrittenObject,
};
use dagwright_core::{
    border::{Ends, Fork},
    ids::TaskId,
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
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    auth::{Pool, fence, own_tasks},
    finish::stale,
    lanes::Place,
    reject::{self, Body},
};
use crate::dispatch::{Dispatcher, context::jitter, loops::chain};

/// Completions whose objects are looked at, at once.
const CHECKS: usize = 8;
/// Objects of one completion that are looked at, at once.
const LOOKS: usize = 4;

pub(super) async fn complete(
    State(dispatcher): State<Dispatcher>,
    pool: Pool,
    mut place: Place,
    Body(request): Body<CompleteRequest>,
) -> Result<Json<OutcomeResponse>, Rejection> {
    let tasks: Vec<_> = request.completions.iter().map(|c| c.fence.task_id).collect();
    let fences: Vec<_> = request.completions.iter().map(|c| fence(&c.fence)).collect();
    let mut tx = dispatcher.begin().await.map_err(reject::state)?;
    own_tasks(&mut tx, &pool, &tasks).await?;
    let scopes = lease::write_scopes(&mut tx, &fences).await.map_err(reject::state)?;
    dagwright_state::commit(tx).await.map_err(reject::state)?;

    let mut checks = Vec::with_capacity(fences.len());
    for (completion, fence) in request.completions.iter().zip(fences) {
        checks.push(examine(&dispatcher, scopes.get(&fence), fence, completion));
    }
    let checked: Vec<_> = place.outside(stream::iter(checks).buffered(CHECKS).collect()).await;
    let mut rows = Rows { current: scopes.keys().copied().collect(), ..Rows::default() };
    for (fence, checked) in checked {
        match checked {
            Ok(Ok(partitions)) => rows.good.push(complete::Completion { fence, partitions }),
            Ok(Err(detail)) => rows.refused.push(Refusal { fence, reason: "ResultsRefused", detail }),
            Err(rejection) => rows.trouble = Some(rejection),
        }
    }
    rows.commit(&dispatcher, &pool).await;
    rows.refuse(&dispatcher, &pool).await;
    rows.answer()
}

/// Rows of one call on their way to their outcomes. Trouble with one is its own: the others are decided, and the caller sends it
/// again.
#[derive(Default)]
struct Rows {
    /// Leases that held, and were not canceled, when the objects were looked at.
    current: HashSet<Fence>,
    good: Vec<complete::Completion>,
    refused: Vec<Refusal>,
    outcomes: Vec<Outcome>,
    trouble: Option<Rejection>,
}

/// A completion whose attempt is to be failed: another one, perhaps with another provider, may do better.
struct Refusal {
    fence: Fence,
    reason: &'static str,
    detail: String,
}

impl Rows {
    /// Commits the good rows together; when that fails, each for itself.
    async fn commit(&mut self, dispatcher: &Dispatcher, pool: &Pool) {
        let good = std::mem::take(&mut self.good);
        if good.is_empty() {
            return;
        }
        let error = match commit(dispatcher, pool, &good).await {
            Ok(verdicts) => return self.sort(&good, verdicts),
            Err(error) => error,
        };
        if good.len() == 1 || error.category() == "unavailable" {
            self.trouble = Some(reject::state(error));
            return;
        }
        tracing::warn!(
            error = chain(&error),
            rows = good.len(),
            "completions do not commit together, trying each"
        );
        for completion in good {
            let alone = std::slice::from_ref(&completion);
            match commit(dispatcher, pool, alone).await {
                Ok(verdicts) => self.sort(alone, verdicts),
                Err(error) => {
                    let away = error.category() == "unavailable";
                    self.trouble = Some(reject::state(error));
                    if away {
                        return;
                    }
                }
            }
        }
    }

    fn sort(&mut self, completions: &[complete::Completion], verdicts: Vec<Committed>) {
        for (completion, verdict) in completions.iter().zip(verdicts) {
            let fence = completion.fence;
            let refusal = match verdict {
                Committed::Applied => {
                    metrics::counter!("dagwright_tasks_completed_total").increment(1);
                    self.outcomes.push(accepted(fence));
                    continue;
                }
                Committed::Already | Committed::Superseded => {
                    self.outcomes.push(accepted(fence));
                    continue;
                }
                Committed::StaleLease => {
                    self.outcomes.push(stale(fence.task_id));
                    continue;
                }
                // Its results were not looked at: it is to be canceled, and no other attempt is wanted.
                Committed::WrongOutputs { .. } if !self.current.contains(&fence) => {
                    self.outcomes.push(stale(fence.task_id));
                    continue;
                }
                Committed::WrongOutputs { expected } => {
                    let detail = format!(
                        "the task's outputs are {}; the completion must name each once",
                        expected.join(", ")
                    );
                    Refusal { fence, reason: "ResultsRefused", detail }
                }
                Committed::ForkAtBorder(forks) => {
                    Refusal { fence, reason: "ForkAtBorder", detail: fork_text(&forks) }
                }
            };
            self.refused.push(refusal);
        }
    }

    async fn refuse(&mut self, dispatcher: &Dispatcher, pool: &Pool) {
        let refused = std::mem::take(&mut self.refused);
        if refused.is_empty() {
            return;
        }
        match fail(dispatcher, pool, &refused).await {
            Ok(verdicts) => {
                for (refusal, (task_id, verdict)) in refused.into_iter().zip(verdicts) {
                    self.outcomes.push(match verdict {
                        finish::Verdict::Accepted => {
                            metrics::counter!("dagwright_completions_rejected_total").increment(1);
                            Outcome { task_id, verdict: Verdict::Rejected, detail: refusal.detail }
                        }
                        finish::Verdict::StaleLease => stale(task_id),
                    });
                }
            }
            Err(error) => self.trouble = Some(reject::state(error)),
        }
    }

    /// What was decided; the trouble when nothing was.
    fn answer(self) -> Result<Json<OutcomeResponse>, Rejection> {
        match self.trouble {
            Some(trouble) if self.outcomes.is_empty() => Err(trouble),
            _ => Ok(Json(OutcomeResponse { outcomes: self.outcomes })),
        }
    }
}

fn accepted(fence: Fence) -> Outcome {
    Outcome { task_id: fence.task_id, verdict: Verdict::Accepted, detail: String::new() }
}

async fn examine(
    dispatcher: &Dispatcher,
    scope: Option<&WriteScope>,
    fence: Fence,
    completion: &Completion,
) -> (Fence, Result<Result<Vec<Partition>, String>, Rejection>) {
    let checked = match scope {
        Some(scope) => check(dispatcher, scope, &fence, completion).await,
        // Not current: the transaction tells a repeated completion from a stale one.
        None => Ok(Ok(vec![])),
    };
    (fence, checked)
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
    let mut looks = Vec::with_capacity(objects.len());
    for object in objects {
        looks.push(look(dispatcher, object));
    }
    let looks: Vec<_> = stream::iter(looks).buffered(LOOKS).try_collect().await?;
    let problems: Vec<String> = looks.into_iter().flatten().collect();
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
    completions: &[complete::Completion],
) -> dagwright_state::Result<Vec<Committed>> {
    let mut tx = dispatcher.begin().await?;
    let verdicts = complete::complete(&mut tx, pool.0.pool_id, completions, &mut jitter).await?;
    dagwright_state::commit(tx).await?;
    Ok(verdicts)
}

async fn fail(
    dispatcher: &Dispatcher,
    pool: &Pool,
    refused: &[Refusal],
) -> dagwright_state::Result<Vec<(TaskId, finish::Verdict)>> {
    let failed: Vec<_> = refused
        .iter()
        .map(|r| {
            let (reason, message) = (Some(r.reason.to_owned()), Some(r.detail.clone()));
            FailedAttempt {
                fence: r.fence,
                retryable: true,
                cause: Cause { reason, message, provider: None },
            }
        })
        .collect();
    let mut tx = dispatcher.begin().await?;
    let verdicts = finish::fail(&mut tx, pool.0.pool_id, &failed, &mut jitter).await?;
    dagwright_state::commit(tx).await?;
    Ok(verdicts)
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
