//! A model of the task protocol, small enough to look at every state that it can reach.
//!
//! What the database decides runs through [`dagwright_core::task::step`], the function that the product runs; around it stand
//! what the product's statements add (fences, the outbox, pointers) and what the world adds: messages that are lost, doubled
//! and reordered, answers that are lost after a commit, processes that die between any two steps, leases that end while their
//! worker still works. Numbers of properties are those of `docs/protocol.md`.
//!
//! The order in which messages and calls arrive is free, a worker that does not act for a while is a stopped one, and leases
//! end whenever the checker likes, so clocks need no model of their own: only Postgres' clock judges a lease.

mod database;
mod fates;
mod system;

pub use database::{Lease, Row, RowState};
pub use fates::{Fates, fates};
pub use system::{Action, Call, CallKind, Dispatcher, State, Worker};

/// A bug that the checker must find. Each is a protocol that somebody could have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A completion is taken from whoever names a running task.
    UnfencedComplete,
    /// A completion that is delivered again is applied again.
    CompleteTwice,
    /// Pointers are set before the fence is checked, in a transaction of their own.
    PointerBeforeFence,
    /// A completion is taken without looking for its objects.
    ObjectsUnchecked,
    /// A message is marked as sent, then sent.
    MarkedBeforeSent,
    /// A task that is queued again gets no outbox row.
    RequeuedSilently,
    /// A claim takes a running task whose lease still holds.
    ClaimIgnoresState,
    /// A claim leaves the outbox row behind.
    ClaimKeepsOutbox,
    /// A message of an earlier attempt opens the current one, and the ordinal is not raised on the way back.
    OrdinalNotRaised,
    /// The reaper reads which leases are over, and ends them later without looking again.
    ReaperLooksOnce,
    /// A released attempt counts as spent.
    ReleaseSpends,
    /// A failed attempt does not count.
    FailureIsFree,
    /// Nothing is sent again, and workers do not ask by themselves.
    LostMessageStaysLost,
}

/// The protocol with its bounds.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// Tasks, at most 4.
    pub tasks: u8,
    /// Workers.
    pub workers: u8,
    /// Dispatchers.
    pub dispatchers: u8,
    /// Attempts that a task may spend.
    pub max_attempts: u8,
    /// Faults that may happen in one run.
    pub faults: u8,
    /// The bug that is in it.
    pub mutant: Option<Mutant>,
}

impl Protocol {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}
