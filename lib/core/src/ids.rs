//! Every id is a type of its own, so that a task id can never stand where an attempt id is meant.
//!
//! The registry below is append-only: an id kind that once reached a database or a wire stays.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, concat!(stringify!($name), "({})"), self.0) }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> { Uuid::parse_str(s).map(Self) }
        }
        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self { Self(id) }
        }
    )*};
}

ids! {
    /// One installation: one Postgres state, one controller. Drawn once, stored in `cluster`.
    ClusterId;
    /// A Dataset object: UUIDv5(cluster, namespace, name), so that a re-created object finds its data.
    DatasetId;
    /// A dataset version: UUIDv5 of its materialisation hash.
    VersionId;
    /// A job of a Dag or a stream of a ChainSync.
    JobId;
    /// A WorkerPool.
    PoolId;
    /// An RpcPool.
    RpcPoolId;
    /// One unit of work: a range of one job.
    TaskId;
    /// One try at a task.
    AttemptId;
    /// The fencing token of an attempt: whoever does not hold the current one changes nothing.
    LeaseToken;
    /// One worker process.
    WorkerId;
    /// One call of RunTask: at most ten workers.
    LaunchId;
}

/// The UUIDv5 namespace under which all derived ids of Dagwright are made.
const DERIVED: Uuid = Uuid::from_u128(0x6d0e_9b6e_7f3a_5c41_9d2b_2f6a_1c88_40e7);

/// Derives a stable id from a kind, a cluster and an object's place, for example a `DatasetId` from its namespace and name.
fn derived(kind: &str, parts: &[&str]) -> Uuid {
    let mut name = kind.to_owned();
    for part in parts {
        name.push('\0');
        name.push_str(part);
    }
    Uuid::new_v5(&DERIVED, name.as_bytes())
}

impl DatasetId {
    /// The id of the Dataset `namespace/name` of a cluster.
    #[must_use]
    pub fn of(cluster: ClusterId, namespace: &str, name: &str) -> Self {
        Self(derived("dataset", &[&cluster.to_string(), namespace, name]))
    }
}

impl JobId {
    /// The id of the job `job` of an owner (`ChainSync` or `Dag`) `namespace/owner`.
    #[must_use]
    pub fn of(cluster: ClusterId, namespace: &str, owner_kind: &str, owner: &str, job: &str) -> Self {
        Self(derived("job", &[&cluster.to_string(), namespace, owner_kind, owner, job]))
    }
}

impl PoolId {
    /// The id of a WorkerPool object. It follows the object's uid: a re-created pool is another principal with other tokens.
    #[must_use]
    pub fn of(cluster: ClusterId, object_uid: &str) -> Self {
        Self(derived("pool", &[&cluster.to_string(), object_uid]))
    }
}

impl RpcPoolId {
    /// The id of the RpcPool `namespace/name` of a cluster.
    #[must_use]
    pub fn of(cluster: ClusterId, namespace: &str, name: &str) -> Self {
        Self(derived("rpcpool", &[&cluster.to_string(), namespace, name]))
    }
}

impl VersionId {
    /// The version id of a materialisation hash.
    #[must_use]
    pub fn of(hash: &crate::materialization::MaterializationHash) -> Self {
        Self(Uuid::new_v5(&DERIVED, &hash.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_id_is_stable_and_depends_on_every_part() {
        let cluster = ClusterId(Uuid::nil());
        let id = DatasetId::of(cluster, "demo", "blocks");
        assert_eq!(id, DatasetId::of(cluster, "demo", "blocks"));
        assert_ne!(id, DatasetId::of(cluster, "demob", "locks"), "parts are separated");
        assert_ne!(id, DatasetId::of(ClusterId(Uuid::max()), "demo", "blocks"));
        assert_ne!(id.0, RpcPoolId::of(cluster, "demo", "blocks").0, "kinds are separated");
    }
}
