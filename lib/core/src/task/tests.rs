use proptest::prelude::*;

use super::*;

const T0: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const LEASE: Duration = Duration::seconds(60);
const POLICY: Policy =
    Policy { max_attempts: 3, backoff: Backoff { first: Duration::seconds(5), cap: Duration::seconds(60) } };

const EVENTS: [Event; 10] = [
    Event::Claim { lease: LEASE },
    Event::Renew { lease: LEASE },
    Event::Complete,
    Event::Fail { retryable: true },
    Event::Fail { retryable: false },
    Event::Release,
    Event::Expire,
    Event::DeadLetter,
    Event::Cancel,
    Event::Redrive,
];

fn queued() -> Task {
    Task::queued(T0)
}

fn running() -> Task {
    Task { state: TaskState::Running { lease_expires_at: T0 + LEASE }, ..queued() }
}

fn with(state: TaskState) -> Task {
    Task { state, ..queued() }
}

fn at(task: &Task, event: Event, now: OffsetDateTime) -> Result<Transition, Illegal> {
    step(task, &event, &POLICY, now, 1.0)
}

#[test]
fn every_state_takes_exactly_the_events_of_the_diagram() {
    let late = T0 + Duration::hours(1);
    let table: [(Task, &[(Event, &str)]); 5] = [
        (
            queued(),
            &[
                (Event::Claim { lease: LEASE }, "Running"),
                (Event::DeadLetter, "Queued"),
                (Event::Cancel, "Canceled"),
            ],
        ),
        (
            running(),
            &[
                (Event::Renew { lease: LEASE }, "Running"),
                (Event::Complete, "Completed"),
                (Event::Fail { retryable: true }, "Queued"),
                (Event::Fail { retryable: false }, "Failed"),
                (Event::Release, "Queued"),
                (Event::Expire, "Queued"),
                (Event::DeadLetter, "Queued"),
                (Event::Cancel, "Canceled"),
            ],
        ),
        (with(TaskState::Failed), &[(Event::Redrive, "Queued")]),
        (with(TaskState::Completed), &[]),
        (with(TaskState::Canceled), &[]),
    ];
    for (task, legal) in table {
        for event in EVENTS {
            let expected = legal.iter().find(|(e, _)| *e == event).map(|(_, to)| *to);
            let got = at(&task, event, late);
            assert_eq!(
                got.as_ref().ok().map(|t| t.task.state.name()),
                expected,
                "{:?} + {event:?} = {got:?}",
                task.state
            );
        }
    }
}

#[test]
fn a_claim_sets_the_lease_and_waits_for_the_backoff() {
    let task = Task::queued(T0 + Duration::seconds(5));
    let early = at(&task, Event::Claim { lease: LEASE }, T0).expect_err("not due");
    assert_eq!(early.because, Some(NotYet::NotDue));
    assert_eq!(early.to_string(), "a Queued task does not take Claim: it is not due yet");
    let due = T0 + Duration::seconds(5);
    let claimed = at(&task, Event::Claim { lease: LEASE }, due).expect("due");
    assert_eq!(claimed.task.state, TaskState::Running { lease_expires_at: due + LEASE });
    assert_eq!(claimed.attempt, Some(AttemptState::Running));
    assert_eq!((claimed.task.attempt, claimed.task.spent, claimed.publish), (1, 0, false));
}

#[test]
fn a_renewal_moves_the_lease_alone() {
    let now = T0 + Duration::seconds(30);
    let renewed = at(&running(), Event::Renew { lease: LEASE }, now).expect("running");
    assert_eq!(
        renewed.task,
        Task { state: TaskState::Running { lease_expires_at: now + LEASE }, ..running() }
    );
}

#[test]
fn a_retryable_error_spends_an_attempt_and_waits() {
    let failed = at(&running(), Event::Fail { retryable: true }, T0).expect("running");
    assert_eq!(failed.task.state, TaskState::Queued { not_before: T0 + Duration::seconds(5) });
    assert_eq!((failed.task.attempt, failed.task.spent), (2, 1));
    assert_eq!((failed.attempt, failed.publish), (Some(AttemptState::Errored), true));
}

#[test]
fn the_last_attempt_ends_in_failed_whatever_spends_it() {
    let last = Task { spent: 2, ..running() };
    let late = T0 + Duration::hours(1);
    for event in [Event::Fail { retryable: true }, Event::Expire, Event::DeadLetter] {
        let ended = at(&last, event, late).expect("running");
        assert_eq!(
            (ended.task.state, ended.task.spent, ended.publish),
            (TaskState::Failed, 3, false),
            "{event:?}"
        );
    }
    let unclaimed = Task { spent: 2, ..queued() };
    assert_eq!(at(&unclaimed, Event::DeadLetter, late).expect("queued").task.state, TaskState::Failed);
}

#[test]
fn a_lease_expires_only_when_it_is_over() {
    let early = at(&running(), Event::Expire, T0 + Duration::seconds(59)).expect_err("the lease holds");
    assert_eq!(early.because, Some(NotYet::LeaseHolds));
    let expired = at(&running(), Event::Expire, T0 + LEASE).expect("over");
    assert_eq!((expired.attempt, expired.task.spent), (Some(AttemptState::Expired), 1));
}

#[test]
fn a_release_costs_nothing_until_the_cap_then_it_counts() {
    let free = at(&running(), Event::Release, T0).expect("running");
    assert_eq!(free.task.state, TaskState::Queued { not_before: T0 }, "at once");
    assert_eq!((free.task.spent, free.task.releases, free.task.attempt), (0, 1, 2));
    assert_eq!(free.attempt, Some(AttemptState::Released));
    let last_free = at(&Task { releases: 19, ..running() }, Event::Release, T0).expect("running");
    assert_eq!((last_free.task.releases, last_free.task.spent), (20, 0));
    let counted = at(&Task { releases: 20, ..running() }, Event::Release, T0).expect("running");
    assert_eq!((counted.task.spent, counted.attempt), (1, Some(AttemptState::Released)));
    let exhausted = at(&Task { releases: 20, spent: 2, ..running() }, Event::Release, T0).expect("running");
    assert_eq!(exhausted.task.state, TaskState::Failed);
}

#[test]
fn a_redrive_starts_a_fresh_round_under_a_new_ordinal() {
    let failed = Task { state: TaskState::Failed, attempt: 7, spent: 3, releases: 4 };
    let redriven = at(&failed, Event::Redrive, T0).expect("failed");
    assert_eq!(
        redriven.task,
        Task { state: TaskState::Queued { not_before: T0 }, attempt: 8, spent: 0, releases: 0 }
    );
    assert_eq!((redriven.attempt, redriven.publish), (None, true));
}

#[test]
fn a_cancelled_attempt_is_told_apart_from_a_cancelled_wait() {
    assert_eq!(at(&running(), Event::Cancel, T0).expect("running").attempt, Some(AttemptState::Canceled));
    assert_eq!(at(&queued(), Event::Cancel, T0).expect("queued").attempt, None);
}

proptest! {
    /// Whatever happens, in whatever order: attempts never exceed the policy, ordinals only rise, ends are final.
    #[test]
    fn any_history_keeps_the_invariants(choices in prop::collection::vec((0usize..EVENTS.len(), 0i64..200, 0.0f64..1.0), 0..80)) {
        let (mut task, mut now) = (queued(), T0);
        for (choice, seconds, jitter) in choices {
            now += Duration::seconds(seconds);
            let before = task;
            let event = EVENTS[choice];
            let Ok(next) = step(&task, &event, &POLICY, now, jitter) else { continue };
            prop_assert!(!matches!(before.state, TaskState::Completed | TaskState::Canceled), "ends are final");
            prop_assert!(next.task.spent <= POLICY.max_attempts);
            prop_assert!(next.task.attempt >= before.attempt);
            prop_assert!(next.task.releases <= FREE_RELEASES + POLICY.max_attempts);
            prop_assert_eq!(next.publish, next.task.attempt > before.attempt, "each new ordinal is offered once");
            if let TaskState::Queued { not_before } = next.task.state {
                prop_assert!(not_before >= now && not_before <= now + POLICY.backoff.cap);
            }
            task = next.task;
        }
    }
}
