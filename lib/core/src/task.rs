//! The life of a task: one function, [`step`], decides every transition. `docs/state-machine.md` shows the diagram.
//!
//! ```text
//! Task     Queued(not_before) -> Running
//!          Running -> Completed | Queued (released: not spent; retryable error or lease expired: spent) | Failed
//!          Queued | Running -> Canceled;   Failed -> Queued by Redrive only
//! Attempt  Running -> Succeeded | Errored | Expired | Released | Canceled
//! ```
//!
//! Each way back to Queued raises the attempt's ordinal, so a message or a lease of an older attempt is recognised by its number
//! (I1, I3). Numbers are those of `docs/protocol.md`.

use std::fmt;

use time::{Duration, OffsetDateTime};

use crate::{
    backoff::Backoff,
    ids::{AttemptId, LeaseToken, TaskId},
};

/// How often a task may be handed back before handing back counts as an attempt: more than Spot takes from an honest
/// task, few enough to end a task that no worker can keep (I7, I9).
pub const FREE_RELEASES: u32 = 20;

/// The fence of an attempt: who does not present the current triple changes nothing (I3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The task.
    pub task_id: TaskId,
    /// Its current attempt.
    pub attempt_id: AttemptId,
    /// The attempt's token.
    pub lease_token: LeaseToken,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Waits for a worker; not before an instant.
    Queued {
        /// Not claimable earlier.
        not_before: OffsetDateTime,
    },
    /// Leased.
    Running {
        /// End of the lease unless it is renewed.
        lease_expires_at: OffsetDateTime,
    },
    /// Committed. Final.
    Completed,
    /// Out of attempts, or failed for good; waits for a redrive.
    Failed,
    /// Not wanted any more. Final.
    Canceled,
}

impl TaskState {
    /// The state's name, as it is stored.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "Queued",
            Self::Running { .. } => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Canceled => "Canceled",
        }
    }
}

/// A task, as far as its transitions are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Where it stands.
    pub state: TaskState,
    /// Ordinal of the attempt that runs, or of the one that the next claim makes; from 1.
    pub attempt: u32,
    /// Attempts that count.
    pub spent: u32,
    /// How often it was handed back.
    pub releases: u32,
}

impl Task {
    /// A new task.
    #[must_use]
    pub fn queued(not_before: OffsetDateTime) -> Self {
        Self { state: TaskState::Queued { not_before }, attempt: 1, spent: 0, releases: 0 }
    }
}

/// How an attempt stands or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// Leased.
    Running,
    /// Committed.
    Succeeded,
    /// The worker reported an error, or its results did not hold.
    Errored,
    /// The worker fell silent, or its message reached the dead-letter queue.
    Expired,
    /// Handed back.
    Released,
    /// The task was cancelled.
    Canceled,
}

impl AttemptState {
    /// The state's name, as it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Errored => "Errored",
            Self::Expired => "Expired",
            Self::Released => "Released",
            Self::Canceled => "Canceled",
        }
    }
}

/// What happens to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker takes it.
    Claim {
        /// Length of the lease.
        lease: Duration,
    },
    /// Its worker is alive.
    Renew {
        /// Length of the lease.
        lease: Duration,
    },
    /// Its results are committed.
    Complete,
    /// Its worker, or the check of its results, reports an error.
    Fail {
        /// Whether another attempt can help.
        retryable: bool,
    },
    /// Its worker hands it back unfinished.
    Release,
    /// Its lease is over.
    Expire,
    /// The message of its current attempt reached the dead-letter queue.
    DeadLetter,
    /// It is not wanted any more.
    Cancel,
    /// Somebody asks for another round.
    Redrive,
}

impl Event {
    /// The event's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claim { .. } => "Claim",
            Self::Renew { .. } => "Renew",
            Self::Complete => "Complete",
            Self::Fail { .. } => "Fail",
            Self::Release => "Release",
            Self::Expire => "Expire",
            Self::DeadLetter => "DeadLetter",
            Self::Cancel => "Cancel",
            Self::Redrive => "Redrive",
        }
    }
}

/// What bounds a task's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Attempts that may be spent.
    pub max_attempts: u32,
    /// Waits between them.
    pub backoff: Backoff,
}

/// The outcome of a legal event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The task afterwards.
    pub task: Task,
    /// How the current attempt stands afterwards; none when the event touches no attempt.
    pub attempt: Option<AttemptState>,
    /// Whether a message has to offer the task.
    pub publish: bool,
}

/// An event that the task's state does not allow. Nothing changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {state} task does not take {}{}", .event.name(), .because.map(|b| format!(": {b}")).unwrap_or_default())]
pub struct Illegal {
    /// State of the task.
    pub state: &'static str,
    /// What was tried.
    pub event: Event,
    /// Why, where state and event alone do not say it.
    pub because: Option<NotYet>,
}

/// An event that comes too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// The task waits for its backoff.
    NotDue,
    /// The lease still holds.
    LeaseHolds,
}

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotDue => "it is not due yet",
            Self::LeaseHolds => "its lease still holds",
        })
    }
}

/// Applies an event. `now` is the database's clock; `jitter` is drawn by the caller from 0..1.
///
/// # Errors
/// When the state does not allow the event.
pub fn step(
    task: &Task,
    event: &Event,
    policy: &Policy,
    now: OffsetDateTime,
    jitter: f64,
) -> Result<Transition, Illegal> {
    match task.state {
        TaskState::Queued { not_before } => from_queued(task, not_before, event, policy, now, jitter),
        TaskState::Running { lease_expires_at } => {
            from_running(task, lease_expires_at, event, policy, now, jitter)
        }
        TaskState::Failed => match event {
            Event::Redrive => {
                let queued = TaskState::Queued { not_before: now };
                let task = Task { state: queued, attempt: task.attempt + 1, spent: 0, releases: 0 };
                Ok(Transition { task, attempt: None, publish: true })
            }
            Event::Claim { .. }
            | Event::Renew { .. }
            | Event::Complete
            | Event::Fail { .. }
            | Event::Release
            | Event::Expire
            | Event::DeadLetter
            | Event::Cancel => illegal(task, event, None),
        },
        TaskState::Completed | TaskState::Canceled => illegal(task, event, None),
    }
}

fn from_queued(
    task: &Task,
    not_before: OffsetDateTime,
    event: &Event,
    policy: &Policy,
    now: OffsetDateTime,
    jitter: f64,
) -> Result<Transition, Illegal> {
    match *event {
        Event::Claim { .. } if now < not_before => illegal(task, event, Some(NotYet::NotDue)),
        Event::Claim { lease } => Ok(running(task, now + lease)),
        // Received too often and never claimed: whoever reads the message dies of it.
        Event::DeadLetter => Ok(spend(task, AttemptState::Expired, policy, now, jitter)),
        Event::Cancel => Ok(ended(task, TaskState::Canceled, None)),
        Event::Renew { .. }
        | Event::Complete
        | Event::Fail { .. }
        | Event::Release
        | Event::Expire
        | Event::Redrive => illegal(task, event, None),
    }
}

fn from_running(
    task: &Task,
    lease_expires_at: OffsetDateTime,
    event: &Event,
    policy: &Policy,
    now: OffsetDateTime,
    jitter: f64,
) -> Result<Transition, Illegal> {
    match *event {
        Event::Renew { lease } => Ok(running(task, now + lease)),
        Event::Complete => Ok(ended(task, TaskState::Completed, Some(AttemptState::Succeeded))),
        Event::Fail { retryable: true } => Ok(spend(task, AttemptState::Errored, policy, now, jitter)),
        Event::Fail { retryable: false } => {
            let spent = Task { spent: task.spent + 1, ..*task };
            Ok(ended(&spent, TaskState::Failed, Some(AttemptState::Errored)))
        }
        Event::Release => Ok(release(task, policy, now, jitter)),
        // A lost message says nothing of a worker that is alive: while the lease holds, it is not taken (I3).
        Event::Expire | Event::DeadLetter if now < lease_expires_at => {
            illegal(task, event, Some(NotYet::LeaseHolds))
        }
        Event::Expire | Event::DeadLetter => Ok(spend(task, AttemptState::Expired, policy, now, jitter)),
        Event::Cancel => Ok(ended(task, TaskState::Canceled, Some(AttemptState::Canceled))),
        Event::Claim { .. } | Event::Redrive => illegal(task, event, None),
    }
}

fn illegal(task: &Task, event: &Event, because: Option<NotYet>) -> Result<Transition, Illegal> {
    Err(Illegal { state: task.state.name(), event: *event, because })
}

fn running(task: &Task, lease_expires_at: OffsetDateTime) -> Transition {
    let task = Task { state: TaskState::Running { lease_expires_at }, ..*task };
    Transition { task, attempt: Some(AttemptState::Running), publish: false }
}

fn ended(task: &Task, state: TaskState, attempt: Option<AttemptState>) -> Transition {
    Transition { task: Task { state, ..*task }, attempt, publish: false }
}

fn release(task: &Task, policy: &Policy, now: OffsetDateTime, jitter: f64) -> Transition {
    let released = Task { releases: task.releases + 1, ..*task };
    if released.releases > FREE_RELEASES {
        return spend(&released, AttemptState::Released, policy, now, jitter);
    }
    again(&released, AttemptState::Released, now)
}

fn spend(
    task: &Task,
    attempt: AttemptState,
    policy: &Policy,
    now: OffsetDateTime,
    jitter: f64,
) -> Transition {
    let spent = Task { spent: task.spent + 1, ..*task };
    if spent.spent >= policy.max_attempts {
        return ended(&spent, TaskState::Failed, Some(attempt));
    }
    again(&spent, attempt, now + policy.backoff.wait(spent.spent, jitter))
}

fn again(task: &Task, attempt: AttemptState, not_before: OffsetDateTime) -> Transition {
    let task = Task { state: TaskState::Queued { not_before }, attempt: task.attempt + 1, ..*task };
    Transition { task, attempt: Some(attempt), publish: true }
}

#[cfg(test)]
mod tests;
