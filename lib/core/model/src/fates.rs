//! I9, "every accepted task ends", under fairness: from every reachable state some way leads to the end of all tasks that takes
//! steps only which the product keeps trying by itself. Such a way never leans on luck: on a message that is not lost, on a
//! call of a worker that is gone, on somebody who cancels.

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

/// Visits every reachable state and counts those from which tasks cannot end. States are kept as hashes: a collision can only
/// join two of them.
#[must_use]
pub fn fates(protocol: &Protocol) -> Fates {
    let mut graph = Graph::default();
    for state in protocol.init_states() {
        graph.visit(protocol, state);
    }
    let mut actions = Vec::new();
    while let Some((id, state)) = graph.queue.pop_front() {
        protocol.actions(&state, &mut actions);
        for action in actions.drain(..) {
            let Some(next) = protocol.next_state(&state, action) else { continue };
            let to = graph.visit(protocol, next);
            if action.is_tried(&state) {
                graph.steps.push((to, id));
            }
        }
    }
    Fates { states: graph.ids.len(), stuck: graph.stuck() }
}

#[derive(Default)]
struct Graph {
    ids: HashMap<u64, u32>,
    /// Steps that are tried: (to, from).
    steps: Vec<(u32, u32)>,
    ends: Vec<u32>,
    queue: VecDeque<(u32, State)>,
}

impl Graph {
    fn visit(&mut self, protocol: &Protocol, state: State) -> u32 {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let new = u32::try_from(self.ids.len()).expect("the bound keeps the graph below 2^32 states");
        let id = *self.ids.entry(hasher.finish()).or_insert(new);
        if id == new {
            let ended = state.rows.iter().take(protocol.tasks.into()).all(Row::ended);
            self.ends.extend(ended.then_some(id));
            self.queue.push_back((id, state));
        }
        id
    }

    /// Walks backwards from all ends; what is never met is stuck.
    fn stuck(mut self) -> usize {
        self.steps.sort_unstable();
        let mut can_end = vec![false; self.ids.len()];
        let mut backwards = self.ends;
        while let Some(id) = backwards.pop() {
            if std::mem::replace(&mut can_end[id as usize], true) {
                continue;
            }
            let first = self.steps.partition_point(|(to, _)| *to < id);
            let into = self.steps[first..].iter().take_while(|(to, _)| *to == id);
            backwards.extend(into.map(|(_, from)| *from).filter(|from| !can_end[*from as usize]));
        }
        can_end.iter().filter(|end| !**end).count()
    }
}
