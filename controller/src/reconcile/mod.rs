//! One folder per kind. Each reads: observe (what is), validate (what is wanted, or why it cannot be), decide (what to do
//! about the difference: pure), apply (do it), status (say it: pure).

pub mod chain_sync;
pub mod dag;
pub mod dataset;
pub mod rpc_pool;
pub mod worker_pool;

use dagwright_crds::status::ObjectStatus;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Resource, ResourceExt};
use time::OffsetDateTime;

/// Namespace and name of an object.
pub(crate) fn place<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// An instant of the state database as Kubernetes writes it, in whole seconds: finer ones would not come back equal.
pub(crate) fn instant(at: OffsetDateTime) -> Option<Time> {
    Timestamp::from_second(at.unix_timestamp()).ok().map(Time)
}

/// Whether nothing was said yet of any generation of an object: a status begins with generation -1.
pub(crate) fn is_unsaid(status: Option<&impl ObjectStatus>) -> bool {
    status.and_then(ObjectStatus::observed_generation).is_none_or(|generation| generation < 0)
}

/// A count as statuses write it.
pub(crate) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
