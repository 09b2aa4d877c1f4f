use std::time::{Duration, Instant};

use dagwright_crds::{FINALIZER, PAUSED, REQUESTED_AT, conditions as c, status::ObjectStatus};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{error_boundary::InvalidObject, object::HasStatus},
    runtime::controller::Action,
};
use serde_json::json;

use super::{
    Cleanup, Kind, OUTSIDE, Pass, Stall, Verdict, build_conditions, events,
    memory::jitter,
    write::{self, Due, MANAGER, kube_call},
};
use crate::{context::Context, error::PassError};

/// Longest pass over one object.
const PASS_TIMEOUT: Duration = Duration::from_secs(90);
/// Between looks for our own last write in the store.
const BEHIND: Duration = Duration::from_millis(100);
/// Between looks at an object that has something to say and waits for more.
const UNSAID: Duration = Duration::from_secs(5);
/// Failures in a row after which a Ready object says so: one lost answer is no news.
const PATIENCE: u32 = 3;

/// One pass over an object, whatever state it is in. Never fails: what fails is noted in the status and tried again.
pub(crate) async fn run<K: Kind>(ctx: &Context, object: Result<&K::Object, &InvalidObject>) -> Action {
    let started = Instant::now();
    let (action, result) = match object {
        Err(invalid) => undecodable::<K>(ctx, invalid).await,
        Ok(object) => match tokio::time::timeout(PASS_TIMEOUT, live::<K>(ctx, object)).await {
            Ok(Ok(action)) => (action, "ok"),
            Ok(Err(error)) => failed::<K>(ctx, object, &error).await,
            Err(_) => {
                let error = PassError::Timeout { operation: "reconcile", object: object.name_any() };
                failed::<K>(ctx, object, &error).await
            }
        },
    };
    metrics::counter!("dagwright_controller_reconcile_total", "kind" => K::KIND, "result" => result)
        .increment(1);
    metrics::histogram!("dagwright_controller_reconcile_seconds", "kind" => K::KIND)
        .record(started.elapsed().as_secs_f64());
    action
}

async fn live<K: Kind>(ctx: &Context, object: &K::Object) -> Result<Action, PassError> {
    let uid = object.uid().unwrap_or_default();
    // The store lags behind our own writes: what is said over an older object would only be refused.
    if ctx.memory.is_behind(&uid, object.resource_version().as_deref()) {
        return Ok(Action::requeue(jitter(BEHIND, 2 * BEHIND)));
    }
    if object.annotations().get(PAUSED).is_some_and(|v| v == "true") {
        ctx.memory.succeeded(&uid);
        return Ok(Action::await_change());
    }
    if object.meta().deletion_timestamp.is_some() {
        return if object.finalizers().iter().any(|f| f == FINALIZER) {
            deleted::<K>(ctx, object).await
        } else {
            ctx.memory.forget(&uid);
            Ok(Action::await_change())
        };
    }
    let finalized;
    let mut object = object;
    if K::FINALIZER && !object.finalizers().iter().any(|f| f == FINALIZER) {
        // The store lags behind our own write: go on with what the write returned.
        finalized = add_finalizer::<K>(ctx, object).await?;
        object = &finalized;
    }
    let pass = match K::reconcile(ctx, object).await {
        Ok(pass) => pass,
        Err(error) => match error.stall() {
            Some(stall) => Pass { again: OUTSIDE, ..kept::<K>(object, Verdict::Stalled(stall)) },
            None => return Err(error),
        },
    };
    let waits = report::<K>(ctx, object, pass.clone()).await?;
    ctx.memory.succeeded(&uid);
    let again = waits.map_or(pass.again, |w| w.min(pass.again));
    Ok(Action::requeue(jitter(again, again + again / 5)))
}

/// The status as it stands, under another verdict.
fn kept<K: Kind>(object: &K::Object, verdict: Verdict) -> Pass<K::Status> {
    Pass { status: object.status().cloned().unwrap_or_default(), ..Pass::of(verdict) }
}

/// Writes the status when it is due, and events when conditions turned. Returns how long numbers wait to be written.
async fn report<K: Kind>(
    ctx: &Context,
    object: &K::Object,
    pass: Pass<K::Status>,
) -> Result<Option<Duration>, PassError> {
    let uid = object.uid().unwrap_or_default();
    let old = object.status();
    let before: &[Condition] = old.map_or(&[], |s| s.conditions());
    let generation = object.meta().generation.unwrap_or(0);
    if !pass.patience.is_zero() && old.and_then(ObjectStatus::observed_generation) != Some(generation) {
        let left = pass.patience.saturating_sub(ctx.memory.unsaid(&uid, generation));
        if !left.is_zero() {
            return Ok(Some(left.min(UNSAID)));
        }
    }
    let conditions = build_conditions(before, generation, &pass.verdict, &pass.extra, Timestamp::now());
    let notes = events::notes(before, &conditions, &pass.drift);
    let handled = object.annotations().get(REQUESTED_AT).cloned();
    let mut status = pass.status;
    status.set_head(generation, conditions, handled);
    let still = ctx.memory.still(&uid, [status.numbers(), status.restless()].concat());
    let waits = match write::due(old, &status, pass.spacing, ctx.memory.since_written(&uid), still) {
        Due::No => None,
        Due::Later(wait) => Some(wait),
        Due::Now => {
            let made = write::status::<K>(ctx, object, &status).await?;
            ctx.memory.wrote(&uid);
            ctx.memory.made(&uid, made.as_deref());
            None
        }
    };
    events::publish(ctx, object, notes).await;
    Ok(waits)
}

async fn failed<K: Kind>(ctx: &Context, object: &K::Object, error: &PassError) -> (Action, &'static str) {
    let uid = object.uid().unwrap_or_default();
    let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    if error.deposed() {
        tracing::error!(kind = K::KIND, name, error = error.chain(), "another leader writes, this one ends");
        ctx.deposed.cancel();
        return (Action::await_change(), "deposed");
    }
    // The object changed or went while we looked at it: its change brings the next pass.
    if let PassError::Kube { source, .. } = error
        && let kube::Error::Api(answer) = &**source
        && (answer.is_conflict() || answer.is_not_found())
    {
        return (Action::requeue(jitter(Duration::from_millis(100), Duration::from_millis(500))), "conflict");
    }
    let (count, wait) = ctx.memory.failed(&uid);
    tracing::warn!(kind = K::KIND, name, count, error = error.chain(), "failed to reconcile");
    let settled = object.status().is_some_and(|s| {
        s.observed_generation() == object.meta().generation
            && s.conditions().iter().any(|c| c.type_ == c::READY && c.status == "True")
    });
    if !settled || count >= PATIENCE {
        let message = format!("{}; it is tried again", error.chain());
        let pass = kept::<K>(object, Verdict::Retrying { message });
        if let Err(error) = report::<K>(ctx, object, pass).await {
            tracing::debug!(kind = K::KIND, name, error = error.chain(), "status not written");
        }
    }
    (Action::requeue(wait), error.category())
}

async fn deleted<K: Kind>(ctx: &Context, object: &K::Object) -> Result<Action, PassError> {
    match K::cleanup(ctx, object).await? {
        Cleanup::Done => {
            remove_finalizer::<K>(ctx, object).await?;
            ctx.memory.forget(&object.uid().unwrap_or_default());
            Ok(Action::await_change())
        }
        Cleanup::Waiting { reason, message, again } => {
            let pass = kept::<K>(object, Verdict::Stalled(Stall { reason, message }));
            report::<K>(ctx, object, pass).await?;
            Ok(Action::requeue(jitter(again, again + again / 5)))
        }
    }
}

async fn add_finalizer<K: Kind>(ctx: &Context, object: &K::Object) -> Result<K::Object, PassError> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(FINALIZER.into());
    set_finalizers::<K>(ctx, object, &finalizers).await
}

async fn remove_finalizer<K: Kind>(ctx: &Context, object: &K::Object) -> Result<(), PassError> {
    let rest: Vec<_> = object.finalizers().iter().filter(|f| *f != FINALIZER).cloned().collect();
    set_finalizers::<K>(ctx, object, &rest).await.map(drop)
}

/// A merge patch replaces the list, so it carries the version that the list was read from.
async fn set_finalizers<K: Kind>(
    ctx: &Context,
    object: &K::Object,
    finalizers: &[String],
) -> Result<K::Object, PassError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let patch = Patch::Merge(
        json!({ "metadata": { "finalizers": finalizers, "resourceVersion": object.resource_version() } }),
    );
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let api = write::api::<K>(ctx, &namespace);
    let call = api.patch(&name, &params, &patch);
    let written: K::Object = kube_call("set finalizers of", &name, call).await?;
    ctx.memory.made(&object.uid().unwrap_or_default(), written.resource_version().as_deref());
    Ok(written)
}

/// An object that our types cannot read: it says so itself, and no other object suffers.
async fn undecodable<K: Kind>(ctx: &Context, invalid: &InvalidObject) -> (Action, &'static str) {
    let meta = &invalid.metadata;
    let generation = meta.generation.unwrap_or(0);
    let name = meta.name.clone().unwrap_or_default();
    let stall = Stall::new(c::UNDECODABLE, format!("this version cannot read the object: {}", invalid.error));
    let conditions = build_conditions(&[], generation, &Verdict::Stalled(stall), &[], Timestamp::now());
    let status = json!({ "observedGeneration": generation, "conditions": conditions });
    let api = write::api::<K>(ctx, meta.namespace.as_deref().unwrap_or_default());
    tracing::error!(kind = K::KIND, name, error = invalid.error, "undecodable object");
    if let Err(error) = write::raw_status(ctx, api, &name, meta.resource_version.clone(), status).await {
        tracing::warn!(kind = K::KIND, name, error = error.chain(), "status not written");
        return (Action::requeue(Duration::from_secs(60)), "undecodable");
    }
    (Action::await_change(), "undecodable")
}
