//! The protocol holds in every state within the bounds, and each seeded bug is found. `docs/protocol.md` states the bounds.

use dagwright_model::{Mutant, Protocol, fates};
use stateright::{Checker, HasDiscoveries, Model};

/// Two workers and two dispatchers fight for a task that may be tried twice, with any number of faults.
const TWO_BY_TWO: Protocol = Protocol {
    tasks: 1,
    workers: 2,
    dispatchers: 2,
    max_attempts: 2,
    extras: 1,
    sweeper: false,
    mutant: None,
};
/// Releases, drains and redrives in a row, and a sweeper at work.
const COME_AND_GO: Protocol =
    Protocol { dispatchers: 1, max_attempts: 1, extras: 2, sweeper: true, ..TWO_BY_TWO };
/// Tasks side by side.
const TWO_TASKS: Protocol = Protocol { tasks: 2, max_attempts: 1, extras: 0, ..TWO_BY_TWO };

#[test]
fn the_protocol_holds_in_every_reachable_state() {
    let mut states = 0;
    for bound in [TWO_TASKS, COME_AND_GO, TWO_BY_TWO] {
        let started = std::time::Instant::now();
        let checked = bound.clone().checker().threads(2).spawn_bfs().join();
        checked.assert_properties();
        let (seen, took) = (checked.unique_state_count(), started.elapsed());
        println!("{bound:?}: {seen} states in {took:?}");
        states += seen;
    }
    assert!(states >= 1_000_000, "the bounds cover at least a million states, not {states}");
}

/// I9.
#[test]
fn from_every_state_every_task_can_end() {
    for bound in [TWO_TASKS, COME_AND_GO, TWO_BY_TWO] {
        let found = fates(&bound);
        println!("{bound:?}: {found:?}");
        assert_eq!(found.stuck, 0);
    }
}

#[test]
fn every_seeded_bug_is_found() {
    for mutant in Mutant::UNSAFE {
        let checked = Protocol { mutant: Some(mutant), sweeper: true, ..TWO_BY_TWO }
            .checker()
            .threads(2)
            .finish_when(HasDiscoveries::Any)
            .spawn_bfs()
            .join();
        let found: Vec<_> = checked.discoveries().into_keys().collect();
        println!("{mutant:?}: {found:?} after {} states", checked.unique_state_count());
        assert!(!found.is_empty(), "{mutant:?} is not found");
    }
}

/// A protocol without a second way to a task, or to the end of a lease, loses tasks: the search for ends finds it.
#[test]
fn protocols_that_lose_tasks_are_found_stuck() {
    for mutant in Mutant::STUCK {
        let found = fates(&Protocol { mutant: Some(mutant), ..COME_AND_GO });
        assert!(found.stuck > 0, "{mutant:?}: of {} states none is stuck", found.states);
    }
}
