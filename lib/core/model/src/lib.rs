//! A model of the task protocol, small enough to look at every state that it can reach.
//!
//! What the database decides runs through [`dagwright_core::task::step`], the function that the product runs; around it stand
//! what the product's statements add (fences, the outbox, pointers, the sweeper) and what the world adds. Numbers of properties
//! are those of `docs/protocol.md`.
//!
//! Faults cost nothing: any number of them may happen in one run. A message that was sent may arrive never, once or often, at
//! any time; so may a call of a worker, each time with its answer lost or heard. Any process may die between any two steps.
//! What is bounded instead is what would make ordinals grow without end: attempts, and together the releases, redrives and
//! drains ([`Protocol::extras`]).
//!
//! Clocks need no numbers. Leases end whenever the checker likes; a worker whose clock lags goes on working past the end, for as
//! long as the checker likes; one whose clock is ahead gives up while its lease holds. Only Postgres' clock judges a lease, and
//! the mutants that let another clock judge are found.
//!
//! Workers are alike, and so are dispatchers and tasks: states that differ by a swap of two of them are one state
//! ([`State::canonical`]), which is what makes two of each fit.

mod act;
mod database;
mod fates;
mod mutant;
mod properties;
mod state;

use stateright::{Model, Property};

pub use act::Action;
pub use database::{Outbox, Row, RowState, Wrong};
pub use fates::{Fates, fates};
pub use mutant::Mutant;
pub use state::{Dispatcher, Kind, State, Wire, Worker};

/// Ordinals that a state has room for.
const ORDINALS: u8 = 8;

/// The protocol with its bounds.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// Tasks, at most 2.
    pub tasks: u8,
    /// Workers, at most 2.
    pub workers: u8,
    /// Dispatchers, at most 2.
    pub dispatchers: u8,
    /// Attempts that a task may spend.
    pub max_attempts: u8,
    /// Releases, redrives and drains that may happen in one run.
    pub extras: u8,
    /// Whether dispatchers sweep objects without a pointer.
    pub sweeper: bool,
    /// The bug that is in it.
    pub mutant: Option<Mutant>,
}

impl Protocol {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.dispatcher_actions(state, actions);
        self.worker_actions(state, actions);
        self.world_actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = *last;
        self.act(&mut next, action);
        (next != *last).then(|| next.canonical(self))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }

    /// Only bugs leave it: they are found before.
    fn within_boundary(&self, state: &State) -> bool {
        state.rows.iter().all(|row| row.attempt < ORDINALS)
    }
}
