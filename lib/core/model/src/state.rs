//! Everything outside of the database: what is on the wire, workers, dispatchers.

use crate::{
    Protocol,
    database::{Row, bit},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub rows: [Row; 2],
    pub wires: [Wire; 2],
    pub workers: [Worker; 2],
    pub dispatchers: [Dispatcher; 2],
    pub extras_left: u8,
}

/// What was sent about a task, and may arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wire {
    /// Ordinals that a message in the queue offers, as bits. A message is there until it is lost.
    pub messages: u8,
    /// What workers said: four bits per ordinal. What was said may arrive at any time from then on.
    pub said: u32,
}

/// A call that ends an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Complete,
    Fail,
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worker {
    Idle,
    /// Believes that it holds the lease of this attempt.
    Working {
        task: u8,
        ordinal: u8,
        /// Told to go: it takes nothing more.
        draining: bool,
    },
    /// Scaled in; another may come in its place.
    Gone,
    /// Not within the bound.
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dispatcher {
    Idle,
    /// Chose a message to send.
    Chose {
        task: u8,
        ordinal: u8,
    },
    /// The queue took it (or, in a mutant, it was marked first).
    Half {
        task: u8,
        ordinal: u8,
    },
    /// Saw a lease that is over (only in the mutant that looks once).
    SawExpired {
        task: u8,
    },
    /// Saw an object of an attempt that holds no lease (in a mutant: that has no pointer).
    SawOrphan {
        task: u8,
        ordinal: u8,
    },
    /// Not within the bound.
    Absent,
}

impl Wire {
    pub fn has(&self, ordinal: u8) -> bool {
        self.messages & bit(ordinal) != 0
    }

    /// What the attempt's worker said.
    pub fn said(&self, ordinal: u8) -> impl Iterator<Item = Kind> + use<> {
        let said = self.said >> (4 * ordinal);
        [Kind::Complete, Kind::Fail, Kind::Release]
            .into_iter()
            .filter(move |kind| said & (1 << *kind as u32) != 0)
    }

    pub fn say(&mut self, ordinal: u8, kind: Kind) {
        self.said |= 1 << (4 * u32::from(ordinal) + kind as u32);
    }
}

impl State {
    pub fn new(protocol: &Protocol) -> Self {
        let mut state = Self {
            rows: [Row::default(); 2],
            wires: [Wire::default(); 2],
            workers: [Worker::Absent; 2],
            dispatchers: [Dispatcher::Absent; 2],
            extras_left: protocol.extras,
        };
        state.workers[..usize::from(protocol.workers)].fill(Worker::Idle);
        state.dispatchers[..usize::from(protocol.dispatchers)].fill(Dispatcher::Idle);
        state
    }

    /// The one of the states that differ by swaps of workers, dispatchers and tasks which stands for them all.
    #[must_use]
    pub fn canonical(mut self, protocol: &Protocol) -> Self {
        self.workers.sort_unstable();
        self.dispatchers.sort_unstable();
        if protocol.tasks < 2 {
            return self;
        }
        let mut swapped = self;
        swapped.rows.swap(0, 1);
        swapped.wires.swap(0, 1);
        for worker in &mut swapped.workers {
            if let Worker::Working { task, .. } = worker {
                *task = 1 - *task;
            }
        }
        for dispatcher in &mut swapped.dispatchers {
            match dispatcher {
                Dispatcher::Chose { task, .. }
                | Dispatcher::Half { task, .. }
                | Dispatcher::SawExpired { task }
                | Dispatcher::SawOrphan { task, .. } => *task = 1 - *task,
                Dispatcher::Idle | Dispatcher::Absent => {}
            }
        }
        swapped.workers.sort_unstable();
        swapped.dispatchers.sort_unstable();
        self.min(swapped)
    }
}
