//! What workers can do: operators by id, each with the semantics that it still speaks.

pub mod evm_ingest;

use std::{fmt, ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use dagwright_contracts::tasks::{CommittedPartition, Work};

use crate::{gateway::Gateway, leases::Progress, store::TaskStore};

/// What an attempt may use.
pub struct TaskContext {
    /// What to do.
    pub work: Work,
    /// Tell it how far you are.
    pub progress: Progress,
    /// Where to write.
    pub store: TaskStore,
    /// Where to read the chain.
    pub gateway: Gateway,
}

/// One kind of work.
#[async_trait]
pub trait Operator: Send + Sync {
    /// The id in [`Work::operator`].
    fn id(&self) -> &'static str;

    /// The semantics that it speaks: the newest and the one before, so that an upgrade can wait for the spec.
    fn semantics(&self) -> RangeInclusive<u32>;

    /// Does the work. It may be dropped at any await; what it wrote by then is swept.
    async fn run(&self, task: &TaskContext) -> Result<Vec<CommittedPartition>, OperatorError>;
}

/// Stable class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The task's config cannot be read or makes no sense.
    InvalidConfig,
    /// This worker does not know the operator, or not these semantics of it.
    UnsupportedOperator,
    /// A block is disproved by a root, a hash or its own shape.
    VerificationFailed,
    /// A block cannot be proven, and the policy asks for proof.
    Unverifiable,
    /// Two neighbours in the range do not link.
    BrokenLink,
    /// No provider gave what is needed.
    Upstream,
    /// S3 did not take an object.
    Storage,
    /// Rows could not be encoded.
    Encoding,
    /// It took longer than the task may.
    Timeout,
    /// A bug of ours.
    Panicked,
}

impl Reason {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidConfig => "InvalidConfig",
            Self::UnsupportedOperator => "UnsupportedOperator",
            Self::VerificationFailed => "VerificationFailed",
            Self::Unverifiable => "Unverifiable",
            Self::BrokenLink => "BrokenLink",
            Self::Upstream => "Upstream",
            Self::Storage => "Storage",
            Self::Encoding => "Encoding",
            Self::Timeout => "Timeout",
            Self::Panicked => "Panicked",
        }
    }

    /// Whether another attempt can help, unless the error knows better.
    fn is_retryable(self) -> bool {
        match self {
            Self::InvalidConfig | Self::UnsupportedOperator | Self::Unverifiable | Self::Encoding => false,
            Self::VerificationFailed
            | Self::BrokenLink
            | Self::Upstream
            | Self::Storage
            | Self::Timeout
            | Self::Panicked => true,
        }
    }
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorError {
    /// Class.
    pub reason: Reason,
    /// For people: the object, what happened.
    pub message: String,
    /// Whether another attempt can help.
    pub retryable: bool,
    /// The provider whose answer was wrong, if that is why.
    pub provider: Option<String>,
}

impl OperatorError {
    /// Retryable as its reason usually is.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retryable: reason.is_retryable(), provider: None }
    }

    /// Overrules the reason.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// Names the provider that another attempt is to avoid.
    #[must_use]
    pub fn blame(mut self, provider: impl Into<String>) -> Self {
        self.provider = Some(provider.into());
        self
    }
}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.message)
    }
}

/// The operators that this worker knows.
#[derive(Clone)]
pub struct Registry(Arc<[Arc<dyn Operator>]>);

impl Default for Registry {
    fn default() -> Self {
        Self::new(vec![Arc::new(evm_ingest::EvmIngest)])
    }
}

impl Registry {
    /// Exactly these.
    #[must_use]
    pub fn new(operators: Vec<Arc<dyn Operator>>) -> Self {
        Self(operators.into())
    }

    /// The operator for a piece of work.
    ///
    /// # Errors
    /// When this worker cannot do it.
    pub fn find(&self, work: &Work) -> Result<Arc<dyn Operator>, OperatorError> {
        let unsupported = |why| OperatorError::new(Reason::UnsupportedOperator, why);
        let operator = self.0.iter().find(|operator| operator.id() == work.operator).ok_or_else(|| {
            unsupported(format!("operator {} is not known to this worker; use a newer image", work.operator))
        })?;
        let spoken = operator.semantics();
        if !spoken.contains(&work.semantics) {
            return Err(unsupported(format!(
                "operator {} speaks semantics {} to {}, the task asks for {}; use a matching image",
                work.operator,
                spoken.start(),
                spoken.end(),
                work.semantics
            )));
        }
        Ok(Arc::clone(operator))
    }
}
