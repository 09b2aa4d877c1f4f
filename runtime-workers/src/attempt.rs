//! One attempt, from lease to report.

use std::{panic::AssertUnwindSafe, time::Duration};

use dagwright_contracts::tasks::{CommittedPartition, Completion, Failure, Fence, TaskLease};
use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::operators::{OperatorError, Reason, Registry, TaskContext};

/// What the dispatcher is to hear.
#[derive(Clone, Debug)]
pub enum Report {
    /// Commit it.
    Complete(Completion),
    /// It failed.
    Fail(Failure),
    /// Give it to somebody else.
    Release(Fence),
}

impl Report {
    /// The lease that it is about.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        match self {
            Self::Complete(completion) => &completion.fence,
            Self::Fail(failure) => &failure.fence,
            Self::Release(fence) => fence,
        }
    }

    /// The metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Complete(_) => "complete",
            Self::Fail(_) => "fail",
            Self::Release(_) => "release",
        }
    }
}

/// Runs the operator until it ends, its time is over, the lease is `lost` (then there is nothing to report), or the worker
/// is to `stop` (then the lease goes back).
pub async fn run(
    registry: &Registry,
    lease: &TaskLease,
    task: &TaskContext,
    lost: &CancellationToken,
    stop: &CancellationToken,
) -> Option<Report> {
    let fence = lease.fence;
    let result = tokio::select! {
        biased;
        () = lost.cancelled() => return None,
        () = stop.cancelled() => return Some(Report::Release(fence)),
        result = operate(registry, lease, task) => result,
    };
    Some(match result {
        Ok(partitions) => Report::Complete(Completion { fence, partitions }),
        Err(OperatorError { reason, message, retryable, provider }) => {
            Report::Fail(Failure { fence, message, reason: reason.as_str().into(), retryable, provider })
        }
    })
}

async fn operate(
    registry: &Registry,
    lease: &TaskLease,
    task: &TaskContext,
) -> Result<Vec<CommittedPartition>, OperatorError> {
    let operator = registry.find(&task.work)?;
    let limit = Duration::from_secs(lease.timeout_seconds.max(1).into());
    // A panic is one attempt's failure and not the end of its neighbours'.
    let run = AssertUnwindSafe(operator.run(task)).catch_unwind();
    match tokio::time::timeout(limit, run).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => {
            Err(OperatorError::new(Reason::Panicked, "the operator panicked; see the worker's log"))
        }
        Err(_) => {
            let done = task.progress.blocks();
            let message = format!(
                "not finished after {} s; {done} of {} blocks done",
                limit.as_secs(),
                task.work.range.len()
            );
            Err(OperatorError::new(Reason::Timeout, message))
        }
    }
}

#[cfg(test)]
mod tests;
