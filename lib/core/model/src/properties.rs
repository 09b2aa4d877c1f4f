//! The invariants of `docs/protocol.md`, as properties of a state.

use stateright::Property;

use crate::{Protocol, State, Worker, database::RowState};

pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always("I1 at most one attempt commits a task", |_, s: &State| {
            s.rows.iter().all(|r| r.commits <= 1)
        }),
        Property::always("I2 a commit is visible whole or not at all", |_, s: &State| {
            s.rows.iter().all(|r| (r.pointers != 0) == (r.state == RowState::Completed))
        }),
        Property::always("I3 only the holder of the current lease changes anything", |_, s: &State| {
            s.rows.iter().all(|r| r.wrong.is_none()) && !held_twice(s)
        }),
        Property::always("I4 a pointer names objects that are there", |_, s: &State| {
            s.rows.iter().all(|r| r.pointers & !r.objects == 0)
        }),
        Property::always(
            "I5 exactly the queued tasks have an outbox row, of their attempt",
            |_, s: &State| {
                s.rows.iter().all(|r| {
                    let queued = matches!(r.state, RowState::Queued { .. });
                    r.outbox.map(|o| o.attempt) == queued.then_some(r.attempt)
                })
            },
        ),
        Property::always("I6 what is marked as sent was sent", |_, s: &State| {
            s.rows.iter().all(|r| r.sent || r.outbox.is_none_or(|o| !o.marked))
        }),
        Property::always("I7 failures are spent, releases are not", |p: &Protocol, s: &State| {
            s.rows.iter().all(|r| r.spent == r.failures && r.spent <= p.max_attempts)
        }),
        Property::always("I8 exactly running tasks have a lease", |_, s: &State| {
            s.rows.iter().all(|r| r.lease.is_some() == matches!(r.state, RowState::Running { .. }))
        }),
    ]
}

/// Whether two workers were given one lease.
fn held_twice(state: &State) -> bool {
    match state.workers {
        [Worker::Working { task: a, ordinal: m, .. }, Worker::Working { task: b, ordinal: n, .. }] => {
            (a, m) == (b, n)
        }
        _ => false,
    }
}
