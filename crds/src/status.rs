//! What the five statuses have in common.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Serialize, de::DeserializeOwned};

use crate::{ChainSyncStatus, DagStatus, DatasetStatus, RpcPoolStatus, WorkerPoolStatus};

/// The head of every status, and which of its fields move by themselves.
pub trait ObjectStatus:
    Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The generation that it speaks of.
    fn observed_generation(&self) -> Option<i64>;
    /// Its conditions.
    fn conditions(&self) -> &[Condition];
    /// The last handled request to reconcile.
    fn last_handled_reconcile_at(&self) -> Option<&str>;
    /// Replaces the head.
    fn set_head(&mut self, generation: i64, conditions: Vec<Condition>, handled: Option<String>);
    /// The same status without the fields that move by themselves.
    #[must_use]
    fn settled(&self) -> Self;
    /// The numbers that move by themselves, in a fixed order.
    fn numbers(&self) -> Vec<i64>;
    /// Numbers that move with every task: news only when they come to rest.
    fn restless(&self) -> Vec<i64> {
        vec![]
    }
}

macro_rules! object_status {
    ($type:ty, |$status:ident| $settle:block, |$from:ident| $numbers:expr $(, |$of:ident| $restless:expr)?) => {
        impl ObjectStatus for $type {
            fn observed_generation(&self) -> Option<i64> {
                self.observed_generation
            }
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }
            fn last_handled_reconcile_at(&self) -> Option<&str> {
                self.last_handled_reconcile_at.as_deref()
            }
            fn set_head(&mut self, generation: i64, conditions: Vec<Condition>, handled: Option<String>) {
                self.observed_generation = Some(generation);
                self.conditions = conditions;
                self.last_handled_reconcile_at = handled;
            }
            fn settled(&self) -> Self {
                #[allow(unused_mut)]
                let mut $status = self.clone();
                $settle
                $status
            }
            fn numbers(&self) -> Vec<i64> {
                let $from = self;
                $numbers
            }
            $(fn restless(&self) -> Vec<i64> {
                let $of = self;
                $restless
            })?
        }
    };
}

object_status!(
    DagStatus,
    |status| {
        status.progress = None;
    },
    |_status| vec![]
);

object_status!(
    DatasetStatus,
    |status| {
        status.partitions = None;
        status.rows = None;
        status.bytes = None;
        status.range = None;
        status.last_commit_at = None;
    },
    |s| vec![
        s.partitions.unwrap_or(0),
        s.rows.unwrap_or(0),
        s.bytes.unwrap_or(0),
        s.range.map_or(0, |r| r.end - r.start)
    ]
);

object_status!(
    ChainSyncStatus,
    |status| {
        status.head = None;
        status.progress = None;
        for stream in &mut status.streams {
            stream.cursor = 0;
            stream.target = None;
            stream.in_flight = 0;
            stream.blocks_per_second = None;
            stream.eta_at = None;
        }
        // A problem that is retried comes and goes; one that needs a human changes `failed` and the conditions.
        status.problems.clear();
    },
    |s| {
        let problems = s.problems.iter().map(|p| p.attempts).sum();
        let streams = s.streams.iter().flat_map(|s| [s.cursor, s.target.unwrap_or(0)]);
        streams.chain([s.head.unwrap_or(0), problems]).collect()
    },
    |s| s.streams.iter().map(|s| s.in_flight).collect()
);

object_status!(
    WorkerPoolStatus,
    |status| {
        status.backlog = None;
        status.oldest_queued_at = None;
        if let Some(workers) = &mut status.workers {
            workers.busy = 0;
        }
    },
    |s| vec![s.backlog.unwrap_or(0), s.workers.map_or(0, |w| w.busy)]
);

object_status!(
    RpcPoolStatus,
    |status| {
        status.head = None;
        for provider in &mut status.providers {
            provider.head = None;
            provider.error_rate_percent = 0;
        }
    },
    |s| s.providers.iter().map(|p| p.error_rate_percent).chain([s.head.unwrap_or(0)]).collect()
);
