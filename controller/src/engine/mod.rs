//! The frame of every reconcile pass: read, finalizer, the kind's own work, conditions, events, at most one status write.
//!
//! kube's [`applier`](kube::runtime::applier) runs one pass at a time per object. What it lacks is here: a backoff per object,
//! a limit on the time of a pass, and a queue of our own, so that no failing watch can hold another one up.

mod conditions;
mod events;
mod memory;
mod pass;
mod run;
mod write;

use std::{fmt::Debug, future::Future, time::Duration};

use dagwright_crds::status::ObjectStatus;
use kube::{
    Resource,
    core::{NamespaceResourceScope, object::HasStatus},
};
use serde::{Serialize, de::DeserializeOwned};

pub use conditions::{Tri, build as build_conditions};
pub use memory::PassMemory;
pub use run::run;
pub(crate) use write::kube_call;

use crate::{context::Context, error::PassError, references::Target};

/// How long an object rests when nothing happens; AWS is not watched, so truth has to be asked for. Plus jitter.
pub const RESYNC: Duration = Duration::from_secs(300);

/// How long an object rests that waits for something outside of Kubernetes to be mended.
pub const OUTSIDE: Duration = Duration::from_secs(30);

/// A kind that the controller reconciles.
pub trait Kind: Send + Sync + 'static {
    /// The object.
    type Object: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + HasStatus<Status = Self::Status>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static;
    /// Its status.
    type Status: ObjectStatus;
    /// Its name.
    const KIND: &'static str;
    /// Whether it owns AWS resources or data that have to be cleaned up.
    const FINALIZER: bool;
    /// Passes at once. Kinds that call AWS share its rate limits with the rest of the account.
    const CONCURRENCY: u16 = 8;

    /// One pass over a live object.
    fn reconcile(
        ctx: &Context,
        object: &Self::Object,
    ) -> impl Future<Output = Result<Pass<Self::Status>, PassError>> + Send;

    /// Cleans up behind a deleted object; called until it is [`Cleanup::Done`].
    fn cleanup(
        _ctx: &Context,
        _object: &Self::Object,
    ) -> impl Future<Output = Result<Cleanup, PassError>> + Send {
        async { Ok(Cleanup::Done) }
    }

    /// What an object refers to: changes of it concern the object.
    fn references(_object: &Self::Object) -> Vec<Target> {
        vec![]
    }
}

/// What a pass came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass<S> {
    /// The status without its head.
    pub status: S,
    /// What Ready, Reconciling and Stalled shall say.
    pub verdict: Verdict,
    /// Conditions of the kind's own.
    pub extra: Vec<Extra>,
    /// When to look again, should nothing happen before.
    pub again: Duration,
    /// Shortest time between writes of numbers that moved by a hundredth or more.
    pub spacing: Duration,
    /// How long this may go unsaid for a generation of which nothing was said yet: tools read that as progress. Who applies many
    /// objects at once applies them in any order, and what is missing for a moment is no news.
    pub patience: Duration,
    /// What was corrected although nobody changed the spec.
    pub drift: Vec<String>,
}

impl<S: Default> Pass<S> {
    /// A pass with a verdict and nothing else to say.
    #[must_use]
    pub fn of(verdict: Verdict) -> Self {
        Self {
            status: S::default(),
            verdict,
            extra: vec![],
            again: RESYNC,
            spacing: Duration::from_secs(60),
            patience: Duration::ZERO,
            drift: vec![],
        }
    }
}

/// What Ready, Reconciling and Stalled shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as wanted.
    Ready {
        /// For people.
        message: String,
    },
    /// The controller waits for something that comes by itself.
    Progressing {
        /// What it waits for.
        message: String,
    },
    /// A step failed and is tried again.
    Retrying {
        /// What failed.
        message: String,
    },
    /// A human must act.
    Stalled(Stall),
}

/// Why a human must act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// A constant of [`dagwright_crds::conditions`].
    pub reason: &'static str,
    /// Names the object, what happened, a way out.
    pub message: String,
}

impl Stall {
    /// With a reason and a message.
    #[must_use]
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// A condition of a kind's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Condition type.
    pub type_: &'static str,
    /// Its status.
    pub status: Tri,
    /// Its reason.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
}

impl Extra {
    /// A condition.
    #[must_use]
    pub fn new(type_: &'static str, status: Tri, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status, reason, message: message.into() }
    }
}

/// How far a clean-up is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Nothing of the object is left: the finalizer can go.
    Done,
    /// Something has to happen first.
    Waiting {
        /// A constant of [`dagwright_crds::conditions`].
        reason: &'static str,
        /// What has to happen.
        message: String,
        /// When to look again.
        again: Duration,
    },
}
