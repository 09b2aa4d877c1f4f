//! The API of Dagwright: group `dagwright.dev`, version `v1alpha1`.
//!
//! The Rust types here are the source; [`all`] derives the CustomResourceDefinitions from them and [`finish`] turns what
//! the derive emits into what a strict apiserver wants. `cargo xtask crds` writes them to `crds/yaml/`.
//!
//! **Invariant:** no default enters an object through the schema, except the status that says "nobody looked at this yet".
//! Defaults of the spec are applied where the spec is read, by the accessors of the types (`ChainSyncSpec::timeout()`).
#![warn(missing_docs)]
#![allow(clippy::duplicated_attributes, reason = "printer columns of one kind repeat their types")]

pub mod chain_sync;
pub mod common;
pub mod conditions;
pub mod dag;
pub mod dataset;
pub mod finish;
pub mod kstatus;
pub mod rpc_pool;
mod rules;
pub mod status;
pub mod worker_pool;
pub mod yaml;

pub use chain_sync::{ChainSync, ChainSyncSpec, ChainSyncStatus};
pub use dag::{Dag, DagSpec, DagStatus};
pub use dataset::{Dataset, DatasetSpec, DatasetStatus};
pub use rpc_pool::{RpcPool, RpcPoolSpec, RpcPoolStatus};
pub use worker_pool::{WorkerPool, WorkerPoolSpec, WorkerPoolStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of all kinds.
pub const GROUP: &str = "dagwright.dev";
/// The version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// The finalizer on objects that own AWS resources or data.
pub const FINALIZER: &str = "dagwright.dev/cleanup";
/// Annotation: with the value `true` the controller leaves the object alone.
pub const PAUSED: &str = "dagwright.dev/paused";
/// Annotation: a new value asks for a reconcile; it is echoed in `status.lastHandledReconcileAt`.
pub const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// Label that a Secret must carry before the controller reads an RPC URL from it.
pub const RPC_KEY_LABEL: &str = "dagwright.dev/rpc-key";

/// Every CustomResourceDefinition, ready to be applied.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    [Dag::crd(), Dataset::crd(), ChainSync::crd(), WorkerPool::crd(), RpcPool::crd()]
        .map(finish::finish)
        .into()
}
