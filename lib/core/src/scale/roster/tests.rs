use proptest::prelude::*;
use time::Duration;
use uuid::Uuid;

use super::*;

fn member(n: u128, phase: Phase, busy: bool, current: bool) -> Member {
    let since = OffsetDateTime::UNIX_EPOCH + Duration::seconds(i64::try_from(n).unwrap());
    Member { id: WorkerId(Uuid::from_u128(n)), phase, busy, current, since }
}

fn id(n: u128) -> WorkerId {
    WorkerId(Uuid::from_u128(n))
}

#[test]
fn idle_workers_are_drained_first_and_nobody_is_stopped_before_it_is_drained() {
    let three = [
        member(1, Phase::Active, true, true),
        member(2, Phase::Active, false, true),
        member(3, Phase::Active, true, true),
    ];
    let first = moves(2, 3, &three, Allowance::Any);
    assert_eq!(first, Moves { drain: vec![id(2)], desired: 3, ..Moves::default() });
    let drained = [three[0], Member { phase: Phase::Drained, ..three[1] }, three[2]];
    assert_eq!(
        moves(2, 3, &drained, Allowance::Any),
        Moves { stop: vec![id(2)], desired: 2, ..Moves::default() }
    );
}

#[test]
fn work_that_comes_back_calls_draining_workers_back() {
    let two = [member(1, Phase::Draining, true, true), member(2, Phase::Drained, false, true)];
    assert_eq!(moves(2, 2, &two, Allowance::Any).resume, [id(2), id(1)]);
    // The count was lowered for the second one already: ECS is about to stop it.
    assert_eq!(
        moves(2, 1, &two, Allowance::Any),
        Moves { resume: vec![id(1)], desired: 2, ..Moves::default() }
    );
}

#[test]
fn old_workers_go_when_a_new_one_is_there_and_the_service_outlives_them() {
    let old = [member(1, Phase::Active, true, false)];
    assert_eq!(moves(1, 1, &old, Allowance::Any), Moves { desired: 1, ..Moves::default() });
    let both = [old[0], member(2, Phase::Active, false, true)];
    assert_eq!(
        moves(1, 1, &both, Allowance::Any),
        Moves { drain: vec![id(1)], desired: 1, ..Moves::default() }
    );
    assert_eq!(
        moves(0, 1, &old, Allowance::Any),
        Moves { drain: vec![id(1)], desired: 1, ..Moves::default() }
    );
    let drained = [member(1, Phase::Drained, false, false)];
    assert_eq!(moves(0, 1, &drained, Allowance::Any), Moves { stop: vec![id(1)], ..Moves::default() });
}

#[test]
fn a_pool_that_cannot_start_keeps_what_it_has_and_tries_one_more_now_and_then() {
    let one = [member(1, Phase::Active, true, true)];
    assert_eq!(moves(5, 5, &one, Allowance::None).desired, 1);
    assert_eq!(moves(5, 1, &one, Allowance::Probe).desired, 2);
    assert_eq!(moves(5, 2, &one, Allowance::Any).desired, 5);
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let phase = prop_oneof![Just(Phase::Active), Just(Phase::Draining), Just(Phase::Drained)];
    let rows = prop::collection::vec((phase, any::<bool>(), prop::bool::weighted(0.7)), 0..8);
    rows.prop_map(|rows| {
        let made = rows.into_iter().zip(1..);
        made.map(|((phase, busy, current), n)| member(n, phase, busy && phase != Phase::Drained, current))
            .collect()
    })
}

/// The world does what it is told: who drains ends its work, who is stopped is gone, and ECS starts what is missing.
fn obey(members: &mut Vec<Member>, told: &Moves) {
    members.retain(|m| !told.stop.contains(&m.id));
    for m in members.iter_mut() {
        if told.drain.contains(&m.id) {
            m.phase = Phase::Draining;
        } else if told.resume.contains(&m.id) {
            m.phase = Phase::Active;
        } else if m.phase == Phase::Draining {
            *m = Member { phase: Phase::Drained, busy: false, ..*m };
        }
    }
    let live = members.iter().filter(|m| m.current).count();
    let missing = usize::try_from(told.desired).unwrap().saturating_sub(live);
    let next = members.iter().map(|m| m.id.0.as_u128()).max().unwrap_or(0) + 1;
    members.extend((next..).take(missing).map(|n| member(n, Phase::Active, false, true)));
}

proptest! {
    #[test]
    fn only_drained_workers_are_stopped_and_ecs_has_no_reason_to_choose(members in members(), wanted in 0u32..8, more in 0u32..4) {
        let live = u32::try_from(members.iter().filter(|m| m.current).count()).unwrap();
        let told = moves(wanted, live + more, &members, Allowance::Any);
        let of = |id: &WorkerId| members.iter().find(|m| m.id == *id).unwrap();
        prop_assert!(told.stop.iter().all(|id| of(id).phase == Phase::Drained));
        prop_assert!(told.drain.iter().all(|id| of(id).phase == Phase::Active));
        prop_assert!(told.resume.iter().all(|id| of(id).phase != Phase::Active && !told.stop.contains(id)));
        let left = members.iter().filter(|m| m.current && !told.stop.contains(&m.id)).count();
        prop_assert!(usize::try_from(told.desired).unwrap() >= left, "{told:?}");
        let old_work = members.iter().any(|m| !m.current && m.phase != Phase::Drained);
        let lowered_to_zero = told.desired == 0 && live + more > 0;
        prop_assert!(!(lowered_to_zero && old_work), "a service of zero would stop old workers that hold work");
    }

    #[test]
    fn obeyed_the_pool_comes_to_the_wanted_size_and_rests(mut members in members(), wanted in 0u32..8, desired in 0u32..10) {
        let mut desired = desired;
        for _ in 0..20 {
            let told = moves(wanted, desired, &members, Allowance::Any);
            desired = told.desired;
            obey(&mut members, &told);
        }
        let resting = moves(wanted, desired, &members, Allowance::Any);
        prop_assert_eq!(&resting, &Moves { desired: wanted, ..Moves::default() });
        prop_assert_eq!(members.len(), usize::try_from(wanted).unwrap());
    }

    #[test]
    fn a_resting_pool_starts_nothing(members in members(), wanted in 0u32..8, desired in 0u32..10) {
        let live = u32::try_from(members.iter().filter(|m| m.current).count()).unwrap();
        prop_assert!(moves(wanted, desired, &members, Allowance::None).desired <= live.max(1));
    }
}
