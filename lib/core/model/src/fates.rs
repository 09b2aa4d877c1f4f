//! "Every accepted task ends", under fairness: from every reachable state some way leads to the end of all tasks. A system that
//! always has a way, and whose steps keep being tried, takes it.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use stateright::Model;

use crate::{Protocol, Row, State};

/// What the search saw.
#[derive(Debug)]
pub struct Fates {
    /// Reachable states.
    pub states: usize,
    /// How many of them have no way to the end of all tasks.
    pub stuck: usize,
}

/// Visits every reachable state and counts those from which tasks cannot end. States are kept as hashes: a million of them
/// fit in memory, and a collision can only join two of them.
#[must_use]
pub fn fates(protocol: &Protocol) -> Fates {
    let mut graph = Graph::default();
    for state in protocol.init_states() {
        graph.visit(state, None);
    }
    let mut actions = Vec::new();
    while let Some((id, state)) = graph.queue.pop_front() {
        protocol.actions(&state, &mut actions);
        for next in actions.drain(..).filter_map(|action| protocol.next_state(&state, action)) {
            graph.visit(next, Some(id));
        }
    }
    Fates { states: graph.parents.len(), stuck: graph.stuck() }
}

#[derive(Default)]
struct Graph {
    ids: HashMap<u64, u32>,
    parents: Vec<Vec<u32>>,
    ends: Vec<u32>,
    queue: VecDeque<(u32, State)>,
}

impl Graph {
    fn visit(&mut self, state: State, from: Option<u32>) {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let new = u32::try_from(self.parents.len()).expect("the bound keeps the graph below 2^32 states");
        let id = *self.ids.entry(hasher.finish()).or_insert(new);
        if id == new {
            self.parents.push(vec![]);
            self.ends.extend(state.rows.iter().all(Row::ended).then_some(id));
            self.queue.push_back((id, state));
        }
        self.parents[id as usize].extend(from);
    }

    fn stuck(self) -> usize {
        let mut can_end = vec![false; self.parents.len()];
        let mut backwards = self.ends;
        while let Some(id) = backwards.pop() {
            if !std::mem::replace(&mut can_end[id as usize], true) {
                backwards.extend(&self.parents[id as usize]);
            }
        }
        can_end.iter().filter(|end| !**end).count()
    }
}
