//! Why a pass failed. Everything here is worth another try; what needs a human is a [`crate::engine::Stall`].

use dagwright_aws::{AwsError, Class};

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The state database.
    #[error(transparent)]
    State(#[from] dagwright_state::Error),
    /// AWS.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The Kubernetes API.
    #[error("{operation} {object}")]
    Kube {
        /// Bare verb phrase.
        operation: &'static str,
        /// Which object.
        object: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A call took too long; whether it had an effect is seen by the next pass.
    #[error("{operation} {object}: timed out")]
    Timeout {
        /// Bare verb phrase.
        operation: &'static str,
        /// Which object.
        object: String,
    },
    /// Too little of the Lease is left to change AWS.
    #[error("wait for the leader lease to be renewed")]
    LeaseEnding,
    /// AWS did not settle within the steps of one pass.
    #[error("bring {object} into its wanted state: step {step} still waits")]
    Unsettled {
        /// Which object.
        object: String,
        /// The step that waits.
        step: String,
    },
}

impl PassError {
    /// Stable class for metrics, events and intent rows.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::State(e) => e.category(),
            Self::Aws(e) => e.class.as_str(),
            Self::Kube { .. } => "kubernetes",
            Self::Timeout { .. } => "timeout",
            Self::LeaseEnding => "lease",
            Self::Unsettled { .. } => "unsettled",
        }
    }

    /// Whether another leader writes now.
    #[must_use]
    pub fn deposed(&self) -> bool {
        matches!(self, Self::State(dagwright_state::Error::StaleLeader { .. }))
    }

    /// AWS's refusal, when that is what it is.
    #[must_use]
    pub fn denied(&self) -> Option<&AwsError> {
        match self {
            Self::Aws(e) if e.class == Class::Denied => Some(e),
            _ => None,
        }
    }

    /// With all causes, for logs and messages.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(c) = cause {
            text.push_str(": ");
            text.push_str(&c.to_string());
            cause = c.source();
        }
        text
    }
}
