//! The protocol holds in every state within the bound, and each seeded bug is found.

use dagwright_model::{Mutant, Protocol, fates};
use stateright::{Checker, Model};

/// One task that two workers fight for, with a fault anywhere.
const ONE_TASK: Protocol =
    Protocol { tasks: 1, workers: 2, dispatchers: 1, max_attempts: 2, faults: 1, mutant: None };
/// Two dispatchers that publish the same rows.
const TWO_DISPATCHERS: Protocol = Protocol { workers: 1, dispatchers: 2, ..ONE_TASK };
/// Tasks side by side.
const TWO_TASKS: Protocol = Protocol { tasks: 2, max_attempts: 1, faults: 0, ..ONE_TASK };

#[test]
fn the_protocol_holds_in_every_reachable_state() {
    let mut states = 0;
    for bound in [TWO_TASKS, TWO_DISPATCHERS, ONE_TASK] {
        let checked = bound.clone().checker().threads(2).spawn_bfs().join();
        checked.assert_properties();
        println!("{bound:?}: {} states", checked.unique_state_count());
        states += checked.unique_state_count();
    }
    assert!(states >= 1_000_000, "the bound covers at least a million states, not {states}");
}

#[test]
fn from_every_state_every_task_can_end() {
    let found = fates(&ONE_TASK);
    println!("{found:?}");
    assert_eq!(found.stuck, 0);
}

/// The property that finds each bug first.
#[test]
fn every_seeded_bug_is_found() {
    let safety = [
        Mutant::UnfencedComplete,
        Mutant::CompleteTwice,
        Mutant::PointerBeforeFence,
        Mutant::ObjectsUnchecked,
        Mutant::MarkedBeforeSent,
        Mutant::RequeuedSilently,
        Mutant::ClaimIgnoresState,
        Mutant::ClaimKeepsOutbox,
        Mutant::OrdinalNotRaised,
        Mutant::ReaperLooksOnce,
        Mutant::ReleaseSpends,
        Mutant::FailureIsFree,
    ];
    for mutant in safety {
        let checked = Protocol { mutant: Some(mutant), faults: 2, ..ONE_TASK }
            .checker()
            .threads(2)
            .finish_when(stateright::HasDiscoveries::Any)
            .spawn_bfs()
            .join();
        let found: Vec<_> = checked.discoveries().into_keys().collect();
        println!("{mutant:?}: {found:?}");
        assert!(!found.is_empty(), "{mutant:?} is not found");
    }
}

/// Without a second way to a task, a lost message loses the task: the search for ends finds it.
#[test]
fn a_protocol_that_trusts_messages_is_found_stuck() {
    let found = fates(&Protocol { mutant: Some(Mutant::LostMessageStaysLost), ..ONE_TASK });
    assert!(found.stuck > 0, "of {} states none is stuck", found.states);
}
