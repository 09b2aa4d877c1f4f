use std::time::Duration;

use dagwright_crds::status::ObjectStatus;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::Kind;
use crate::{
    context::{Context, KUBE_TIMEOUT},
    error::PassError,
};

/// The field manager of everything that we write.
pub(crate) const MANAGER: &str = "dagwright-controller";

/// Whether a status is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing changed.
    No,
    /// Now.
    Now,
    /// Only numbers moved, and they were written a moment ago.
    Later(Duration),
}

/// Decides whether to write: facts at once; numbers that move by themselves after `spacing` when they moved by a hundredth, else
/// after ten times that; and once they have stood still for `spacing`, so that what is at rest shows where.
pub(crate) fn due<S: ObjectStatus>(
    old: Option<&S>,
    new: &S,
    spacing: Duration,
    since_written: Duration,
    still: Duration,
) -> Due {
    let Some(old) = old else { return Due::Now };
    if old == new {
        return Due::No;
    }
    if old.settled() != new.settled() {
        return Due::Now;
    }
    let (before, after) = (old.numbers(), new.numbers());
    if before == after && old.restless() == new.restless() {
        // Only derived or rounded fields differ; they go out with the next number.
        return Due::No;
    }
    let wait = if moved(&before, &after) { spacing } else { spacing * 10 };
    match wait.saturating_sub(since_written).min(spacing.saturating_sub(still)) {
        Duration::ZERO => Due::Now,
        left => Due::Later(left),
    }
}

/// Whether any number moved by a hundredth or more.
fn moved(before: &[i64], after: &[i64]) -> bool {
    before.len() != after.len()
        || before
            .iter()
            .zip(after)
            .any(|(b, a)| a.abs_diff(*b) > 0 && a.abs_diff(*b) >= b.unsigned_abs().div_ceil(100))
}

/// Writes the status by server-side apply, only over the version of the object that the pass read. Answers with the version that it
/// made.
pub(crate) async fn status<K: Kind>(
    ctx: &Context,
    object: &K::Object,
    status: &K::Status,
) -> Result<Option<String>, PassError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    raw_status(ctx, api::<K>(ctx, &namespace), &name, object.resource_version(), json!(status)).await
}

/// As [`status`], for an object that could not be read.
pub(crate) async fn raw_status<O>(
    ctx: &Context,
    api: Api<O>,
    name: &str,
    resource_version: Option<String>,
    status: serde_json::Value,
) -> Result<Option<String>, PassError>
where
    O: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let body = json!({
        "apiVersion": O::api_version(&()),
        "kind": O::kind(&()),
        "metadata": { "name": name, "resourceVersion": resource_version },
        "status": status,
    });
    // The answer is not needed as an object; an undecodable one must not turn a good write into an error.
    let api: Api<kube::core::DynamicObject> = dynamic(ctx, &api);
    let params = PatchParams::apply(MANAGER).force();
    let patch = Patch::Apply(&body);
    let written = kube_call("write status of", name, api.patch_status(name, &params, &patch)).await?;
    Ok(written.resource_version())
}

fn dynamic<O: Resource<DynamicType = ()>>(ctx: &Context, api: &Api<O>) -> Api<kube::core::DynamicObject> {
    let resource = kube::core::ApiResource::erase::<O>(&());
    match api.namespace() {
        Some(namespace) => Api::namespaced_with(ctx.client.clone(), namespace, &resource),
        None => Api::all_with(ctx.client.clone(), &resource),
    }
}

/// The API of a kind in a namespace.
pub(crate) fn api<K: Kind>(ctx: &Context, namespace: &str) -> Api<K::Object> {
    Api::namespaced(ctx.client.clone(), namespace)
}

/// A call to the Kubernetes API with a limit of its own: the client's retries would hide hours.
pub(crate) async fn kube_call<T>(
    operation: &'static str,
    object: &str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, PassError> {
    match tokio::time::timeout(KUBE_TIMEOUT, call).await {
        Ok(done) => {
            done.map_err(|e| PassError::Kube { operation, object: object.into(), source: Box::new(e) })
        }
        Err(_) => Err(PassError::Timeout { operation, object: object.into() }),
    }
}

#[cfg(test)]
mod tests {
    use dagwright_crds::{ChainSyncStatus, DatasetStatus, chain_sync::StreamStatus};

    use super::*;

    fn rows(rows: i64) -> DatasetStatus {
        DatasetStatus { observed_generation: Some(1), rows: Some(rows), ..Default::default() }
    }

    #[test]
    fn facts_are_written_at_once_and_numbers_with_spacing() {
        let (minute, moving) = (Duration::from_secs(60), Duration::ZERO);
        assert_eq!(due(None, &rows(1), minute, Duration::ZERO, moving), Due::Now);
        assert_eq!(due(Some(&rows(1)), &rows(1), minute, Duration::MAX, Duration::MAX), Due::No);
        assert_eq!(
            due(Some(&rows(100)), &rows(101), minute, Duration::from_secs(20), moving),
            Due::Later(Duration::from_secs(40))
        );
        assert_eq!(due(Some(&rows(100)), &rows(101), minute, minute, moving), Due::Now);
        let served = DatasetStatus { served_version: Some("v".into()), ..rows(1) };
        assert_eq!(due(Some(&rows(1)), &served, minute, Duration::ZERO, moving), Due::Now);
    }

    #[test]
    fn numbers_that_hardly_moved_are_written_when_they_rest() {
        let minute = Duration::from_secs(60);
        let after = |written: u64, still: u64| {
            let (written, still) = (Duration::from_secs(written), Duration::from_secs(still));
            due(Some(&rows(1000)), &rows(1001), minute, written, still)
        };
        assert_eq!(after(60, 0), Due::Later(minute), "it is looked at again when it may rest");
        assert_eq!(after(590, 0), Due::Later(Duration::from_secs(10)));
        assert_eq!(after(90, 50), Due::Later(Duration::from_secs(10)));
        assert_eq!(after(100, 60), Due::Now);
    }

    #[test]
    fn the_last_task_in_flight_is_not_shown_for_ever() {
        let busy = |in_flight| ChainSyncStatus {
            streams: vec![StreamStatus {
                name: "core".into(),
                cursor: 296,
                target: Some(296),
                in_flight,
                failed: 0,
                blocks_per_second: None,
                eta_at: None,
            }],
            ..Default::default()
        };
        let minute = Duration::from_secs(60);
        let due = |still| due(Some(&busy(1)), &busy(0), minute, Duration::ZERO, still);
        assert_eq!((due(Duration::ZERO), due(minute)), (Due::Later(minute), Due::Now));
    }
}
