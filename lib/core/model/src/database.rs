//! The database's side: rows, and the one function that changes their state.

use dagwright_core::{
    backoff::Backoff,
    task::{self, AttemptState, Event, Policy, TaskState, Transition},
};
use time::{Duration, OffsetDateTime};

use crate::{Mutant, Protocol};

/// An attempt's identity and token in one: never given twice for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    pub task: u8,
    pub serial: u8,
}

/// A task's row, with ghosts (marked so) that only properties read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub state: RowState,
    pub attempt: u8,
    pub spent: u8,
    pub releases: u8,
    pub lease: Option<u8>,
    /// The outbox row of the task: the attempt that it offers, and whether it is marked as sent.
    pub outbox: Option<(u8, bool)>,
    /// Attempts that pointers were set for.
    pub pointers: Vec<u8>,
    /// Serials whose objects are in the store.
    pub objects: u16,
    /// Ghost: leases given so far.
    pub leases: u8,
    /// Ghost: ordinals that were leased, as bits.
    pub leased_ordinals: u16,
    /// Ghost: attempts that ended by failure or expiry since the last redrive.
    pub failures: u8,
    /// Ghost: what must never have happened.
    pub wrong: Option<Wrong>,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// Somebody committed without the current lease.
    StaleCommit,
    /// An ordinal was leased twice.
    OrdinalReused,
    /// A lease that held was given to another worker or ended behind its back.
    Robbed,
}

/// A task's state; instants are only as fine as decisions need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowState {
    Queued { due: bool },
    Running { over: bool },
    Completed,
    Failed,
    Canceled,
}

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const LATER: Duration = Duration::seconds(60);

impl Default for Row {
    fn default() -> Self {
        Self {
            state: RowState::Queued { due: true },
            attempt: 1,
            spent: 0,
            releases: 0,
            lease: None,
            outbox: Some((1, false)),
            pointers: vec![],
            objects: 0,
            leases: 0,
            leased_ordinals: 0,
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
        let before = self.clone();
        let Ok(Transition { task, attempt, publish }) =
            task::step(&self.core(), event, &policy(protocol), NOW, 1.0)
        else {
            return false;
        };
        self.follow(&task);
        if before.lease.is_some() && self.lease.is_none() || matches!(attempt, Some(AttemptState::Expired)) {
            self.failures += u8::from(matches!(attempt, Some(AttemptState::Expired | AttemptState::Errored)));
        }
        if matches!(event, Event::Redrive) {
            self.failures = 0;
        }
        self.spoil(protocol, &before, event);
        self.outbox = publish.then_some((self.attempt, false));
        if publish && protocol.has(Mutant::RequeuedSilently) {
            self.outbox = None;
        }
        true
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

    /// Leases the row. The answer's serial is what the worker will present.
    pub fn claim(&mut self, protocol: &Protocol) -> Option<u8> {
        let outbox = self.outbox;
        let robbed = protocol.has(Mutant::ClaimIgnoresState)
            && matches!(self.state, RowState::Running { over: false });
        if robbed {
            self.state = RowState::Queued { due: true };
            self.wrong = Some(Wrong::Robbed);
        }
        if !self.apply(protocol, &Event::Claim { lease: LATER }) {
            return None;
        }
        if protocol.has(Mutant::ClaimKeepsOutbox) {
            self.outbox = outbox;
        }
        let serial = self.leases;
        self.leases += 1;
        self.lease = Some(serial);
        if self.leased_ordinals & (1 << self.attempt) != 0 {
            self.wrong = Some(Wrong::OrdinalReused);
        }
        self.leased_ordinals |= 1 << self.attempt;
        Some(serial)
    }

    pub fn renew(&mut self, protocol: &Protocol, serial: u8) -> bool {
        self.lease == Some(serial) && self.apply(protocol, &Event::Renew { lease: LATER })
    }

    /// The completing transaction: fence, objects, pointers and state together.
    pub fn complete(&mut self, protocol: &Protocol, serial: u8) {
        let current = self.lease == Some(serial);
        if protocol.has(Mutant::PointerBeforeFence) && !self.pointers.contains(&serial) {
            self.pointers.push(serial);
        }
        let again = protocol.has(Mutant::CompleteTwice) && self.pointers.contains(&serial);
        let unfenced = protocol.has(Mutant::UnfencedComplete) && self.lease.is_some();
        if again {
            self.pointers.push(serial);
        }
        if !(current || unfenced) || !self.has_objects(protocol, serial) {
            return;
        }
        if self.apply(protocol, &Event::Complete) {
            if !protocol.has(Mutant::PointerBeforeFence) {
                self.pointers.push(serial);
            }
            if !current {
                self.wrong = Some(Wrong::StaleCommit);
            }
        }
    }

    fn has_objects(&self, protocol: &Protocol, serial: u8) -> bool {
        protocol.has(Mutant::ObjectsUnchecked) || self.objects & (1 << serial) != 0
    }

    /// Ends an attempt that did not commit, fenced.
    pub fn finish(&mut self, protocol: &Protocol, serial: u8, event: &Event) {
        if self.lease == Some(serial) {
            self.apply(protocol, event);
        }
    }

    /// Ends a lease that was seen to be over. The product looks and ends under one row lock.
    pub fn expire(&mut self, protocol: &Protocol) {
        if protocol.has(Mutant::ReaperLooksOnce) && matches!(self.state, RowState::Running { over: false }) {
            self.state = RowState::Running { over: true };
            self.wrong = Some(Wrong::Robbed);
        }
        self.apply(protocol, &Event::Expire);
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
