//! The database's side: rows, and the one function that changes their state.

use dagwright_core::{
    backoff::Backoff,
    task::{self, AttemptState, Event, Policy, TaskState, Transition},
};
use time::{Duration, OffsetDateTime};

use crate::{Mutant, Protocol};

/// A task's row, with ghosts (marked so) that only properties read. An ordinal is leased once at most, which is checked, so it
/// stands for the whole fence. Sets of ordinals are bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    pub state: RowState,
    pub attempt: u8,
    pub spent: u8,
    pub releases: u8,
    /// The ordinal that holds the lease.
    pub lease: Option<u8>,
    /// The outbox row of the task.
    pub outbox: Option<Outbox>,
    /// Attempts whose objects are in the store.
    pub objects: u8,
    /// Attempts that pointers are set for.
    pub pointers: u8,
    /// Ghost: how often pointers were set.
    pub commits: u8,
    /// Ghost: whether the queue ever took the message of the current ordinal.
    pub sent: bool,
    /// Ghost: the highest ordinal that was leased.
    pub leased: u8,
    /// Ghost: attempts that ended by failure or expiry since the last redrive.
    pub failures: u8,
    /// Ghost: what must never have happened.
    pub wrong: Option<Wrong>,
}

/// A message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outbox {
    /// The attempt that it offers.
    pub attempt: u8,
    /// Whether it is marked as sent.
    pub marked: bool,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrong {
    /// Somebody committed without the current lease.
    StaleCommit,
    /// An ordinal was leased twice.
    OrdinalReused,
    /// A lease that held was given to another worker or ended behind its back.
    Robbed,
}

/// A task's state; instants are only as fine as decisions need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowState {
    Queued { due: bool },
    Running { over: bool },
    Completed,
    Failed,
    Canceled,
}

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const LATER: Duration = Duration::seconds(60);

pub(crate) fn bit(ordinal: u8) -> u8 {
    1 << ordinal
}

impl Default for Row {
    fn default() -> Self {
        Self {
            state: RowState::Queued { due: true },
            attempt: 1,
            spent: 0,
            releases: 0,
            lease: None,
            outbox: Some(Outbox { attempt: 1, marked: false }),
            objects: 0,
            pointers: 0,
            commits: 0,
            sent: false,
            leased: 0,
            failures: 0,
            wrong: None,
        }
    }
}

impl Row {
    pub fn ended(&self) -> bool {
        matches!(self.state, RowState::Completed | RowState::Failed | RowState::Canceled)
    }

    /// Applies an event as the product does: [`task::step`] decides, the row follows.
    pub fn apply(&mut self, protocol: &Protocol, event: &Event) -> bool {
        self.apply_seen(protocol, self.state, event)
    }

    /// As [`Row::apply`], for somebody who takes the row to be in state `seen`. Only mutants see what is not there.
    fn apply_seen(&mut self, protocol: &Protocol, seen: RowState, event: &Event) -> bool {
        let before = *self;
        self.state = seen;
        let Ok(Transition { task, attempt, publish }) =
            task::step(&self.core(), event, &policy(protocol), NOW, 1.0)
        else {
            *self = before;
            return false;
        };
        self.follow(&task);
        self.observe(&before, event, attempt);
        self.spoil(protocol, &before, event);
        self.outbox = (publish && !protocol.has(Mutant::RequeuedSilently))
            .then_some(Outbox { attempt: self.attempt, marked: false });
        true
    }

    /// Keeps the ghosts.
    fn observe(&mut self, before: &Self, event: &Event, attempt: Option<AttemptState>) {
        let held = before.state == RowState::Running { over: false };
        if held && matches!(event, Event::Claim { .. } | Event::Expire | Event::DeadLetter) {
            self.wrong = Some(Wrong::Robbed);
        }
        self.failures += u8::from(matches!(attempt, Some(AttemptState::Expired | AttemptState::Errored)));
        if matches!(event, Event::Redrive) {
            self.failures = 0;
        }
        self.sent &= self.attempt == before.attempt;
    }

    fn spoil(&mut self, protocol: &Protocol, before: &Self, event: &Event) {
        match (protocol.mutant, event) {
            (Some(Mutant::OrdinalNotRaised), _) if !matches!(event, Event::Redrive) => {
                self.attempt = before.attempt;
            }
            (Some(Mutant::ReleaseSpends), Event::Release) => self.spent += 1,
            (Some(Mutant::FailureIsFree), Event::Fail { .. }) => self.spent = before.spent,
            _ => {}
        }
    }

    /// Leases the row. The answer's ordinal is what the worker will present.
    pub fn claim(&mut self, protocol: &Protocol) -> Option<u8> {
        let outbox = self.outbox;
        let seen = match self.state {
            RowState::Running { .. } if protocol.has(Mutant::ClaimIgnoresState) => {
                RowState::Queued { due: true }
            }
            state => state,
        };
        if !self.apply_seen(protocol, seen, &Event::Claim { lease: LATER }) {
            return None;
        }
        if protocol.has(Mutant::ClaimKeepsOutbox) {
            self.outbox = outbox;
        }
        self.lease = Some(self.attempt);
        if self.attempt <= self.leased {
            self.wrong = Some(Wrong::OrdinalReused);
        }
        self.leased = self.attempt;
        self.lease
    }

    /// A heartbeat. False: the lease is lost.
    pub fn renew(&mut self, protocol: &Protocol, ordinal: u8) -> bool {
        self.lease == Some(ordinal) && self.apply(protocol, &Event::Renew { lease: LATER })
    }

    /// The completing transaction: fence, objects, pointers and state together. `believes`: the worker takes its lease to hold.
    pub fn complete(&mut self, protocol: &Protocol, ordinal: u8, believes: bool) {
        let current = self.lease == Some(ordinal);
        let pointed = self.pointers & bit(ordinal) != 0;
        if protocol.has(Mutant::PointerBeforeFence) && !pointed
            || protocol.has(Mutant::CompleteTwice) && pointed
            || protocol.has(Mutant::CommitOutsideTransaction) && current && !pointed
        {
            return self.point(ordinal);
        }
        let trusted = protocol.has(Mutant::UnfencedComplete) && self.lease.is_some()
            || protocol.has(Mutant::WorkerClockTrusted) && believes && !self.ended();
        if !current && !trusted {
            return;
        }
        if self.objects & bit(ordinal) == 0 && !protocol.has(Mutant::ObjectsUnchecked) {
            // The results do not hold.
            return self.finish(protocol, ordinal, &Event::Fail { retryable: true });
        }
        let seen = if trusted { RowState::Running { over: false } } else { self.state };
        if self.apply_seen(protocol, seen, &Event::Complete) {
            if !pointed {
                self.point(ordinal);
            }
            if !current {
                self.wrong = Some(Wrong::StaleCommit);
            }
        }
    }

    fn point(&mut self, ordinal: u8) {
        self.pointers |= bit(ordinal);
        self.commits = (self.commits + 1).min(2);
    }

    /// Ends an attempt that did not commit, fenced.
    pub fn finish(&mut self, protocol: &Protocol, ordinal: u8, event: &Event) {
        let current = self.lease == Some(ordinal);
        let unfenced = protocol.has(Mutant::UnfencedRelease) && *event == Event::Release;
        if !current && !unfenced {
            return;
        }
        let applied = self.apply(protocol, event);
        if applied && !current {
            self.wrong = Some(Wrong::Robbed);
        }
    }

    /// Ends a lease that is over. The product looks and ends under one row lock.
    pub fn expire(&mut self, protocol: &Protocol) {
        self.apply(protocol, &Event::Expire);
    }

    /// Ends a lease that somebody takes to be over: who looked earlier, by another clock, or for another reason.
    pub fn expire_blindly(&mut self, protocol: &Protocol) {
        if matches!(self.state, RowState::Running { .. }) {
            self.apply_seen(protocol, RowState::Running { over: true }, &Event::Expire);
        }
    }

    fn core(&self) -> task::Task {
        let at = |reached: bool| if reached { NOW } else { NOW + LATER };
        let state = match self.state {
            RowState::Queued { due } => TaskState::Queued { not_before: at(due) },
            RowState::Running { over } => TaskState::Running { lease_expires_at: at(over) },
            RowState::Completed => TaskState::Completed,
            RowState::Failed => TaskState::Failed,
            RowState::Canceled => TaskState::Canceled,
        };
        task::Task {
            state,
            attempt: self.attempt.into(),
            spent: self.spent.into(),
            releases: self.releases.into(),
        }
    }

    fn follow(&mut self, task: &task::Task) {
        let narrow = |n: u32| u8::try_from(n).expect("the model's bounds keep counters small");
        self.state = match task.state {
            TaskState::Queued { not_before } => RowState::Queued { due: not_before <= NOW },
            TaskState::Running { lease_expires_at } => RowState::Running { over: lease_expires_at <= NOW },
            TaskState::Completed => RowState::Completed,
            TaskState::Failed => RowState::Failed,
            TaskState::Canceled => RowState::Canceled,
        };
        (self.attempt, self.spent, self.releases) =
            (narrow(task.attempt), narrow(task.spent), narrow(task.releases));
        if !matches!(self.state, RowState::Running { .. }) {
            self.lease = None;
        }
    }
}

fn policy(protocol: &Protocol) -> Policy {
    Policy { max_attempts: protocol.max_attempts.into(), backoff: Backoff { first: LATER, cap: LATER } }
}
