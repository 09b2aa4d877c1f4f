//! Why a pass failed. Everything here is worth another try; what needs a human is a [`crate::engine::Stall`].

use dagwright_aws::{AwsError, Class};
use dagwright_crds::conditions::{FORBIDDEN, REFUSED};

use crate::engine::Stall;

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

    /// What a human has to know when trying again cannot help: AWS refused, for want of a right or because of what was asked.
    #[must_use]
    pub fn stall(&self) -> Option<Stall> {
        let Self::Aws(error) = self else { return None };
        match error.class {
            Class::Denied => Some(Stall::new(
                FORBIDDEN,
                format!("the controller's role may not {error}; grant it that right"),
            )),
            Class::Permanent => Some(Stall::new(REFUSED, error.to_string())),
            _ => None,
        }
    }

    /// With all causes, for logs and messages.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        if let Self::Kube { source, .. } = self
            && let kube::Error::Api(status) = &**source
        {
            // The whole answer is pages long; its message is meant for people.
            return format!("{text}: {}", status.message);
        }
        let mut cause = std::error::Error::source(self);
        while let Some(c) = cause {
            let next = c.to_string();
            // Some libraries write their source into their own text.
            if !text.contains(&next) {
                text = format!("{text}: {next}");
            }
            cause = c.source();
        }
        text
    }
}
