use dagwright_contracts::tasks::Work;
use dagwright_core::{
    ids::{AttemptId, LeaseToken},
    range::BlockRange,
};
use uuid::Uuid;

use super::*;

pub(crate) fn lease(task: u128, attempt: u32, seconds: u32) -> TaskLease {
    TaskLease {
        fence: Fence {
            task_id: TaskId(Uuid::from_u128(task)),
            attempt_id: AttemptId(Uuid::from_u128(task * 100 + u128::from(attempt))),
            lease_token: LeaseToken(Uuid::from_u128(task * 1000 + u128::from(attempt))),
        },
        attempt,
        expires_at: time::OffsetDateTime::UNIX_EPOCH,
        lease_seconds: seconds,
        timeout_seconds: 60,
        work: Work {
            namespace: "demo".into(),
            subject: "ChainSync demo/local stream core".into(),
            operator: "evm_ingest".into(),
            semantics: 1,
            config: serde_json::Value::Null,
            range: BlockRange::new(0, 1).unwrap(),
            outputs: vec![],
            avoid_providers: vec![],
        },
    }
}

fn offer(task: u128, attempt: u32) -> Offer {
    Offer { task_id: TaskId(Uuid::from_u128(task)), attempt }
}

fn extended(task: u128, lease_seconds: u32) -> Extended {
    let (task_id, expires_at) = (TaskId(Uuid::from_u128(task)), time::OffsetDateTime::UNIX_EPOCH);
    Extended { task_id, expires_at, lease_seconds }
}

fn handle(name: &str) -> ReceiptHandle {
    ReceiptHandle(name.into())
}

#[test]
fn a_message_that_comes_after_its_claim_joins_the_lease() {
    let (mut book, now) = (LeaseBook::default(), Instant::now());
    let held = lease(1, 2, 30);
    book.enter(&held, None, now);
    assert_eq!(book.attach(offer(1, 2), &handle("a")), Known::Held);
    assert_eq!(book.attach(offer(1, 1), &handle("old")), Known::Ended, "an older attempt's message can go");
    assert_eq!(
        book.attach(offer(1, 3), &handle("newer")),
        Known::No,
        "a newer attempt is the dispatcher's to judge"
    );
    assert_eq!(book.attach(offer(2, 1), &handle("b")), Known::No);
    assert_eq!(book.end(&held.fence), Some(handle("a")));
    assert_eq!(book.attach(offer(1, 2), &handle("again")), Known::Ended);
}

#[test]
fn a_heartbeat_extends_from_when_it_was_sent() {
    let (mut book, now) = (LeaseBook::default(), Instant::now());
    let held = lease(1, 1, 30);
    let (progress, lost) = book.enter(&held, Some(handle("a")), now);
    progress.add(5);
    assert_eq!(book.beats()[0].blocks_done, 5);
    assert_eq!(book.period(), Some(Duration::from_secs(10)));
    let messages = book.extended(&[extended(1, 30)], now + Duration::from_secs(20));
    assert_eq!(messages[&Duration::from_secs(30)], vec![handle("a")]);
    assert!(book.expire(now + Duration::from_secs(49)).is_empty());
    assert!(book.is_current(&held.fence, now + Duration::from_secs(49)));
    assert_eq!(book.expire(now + Duration::from_secs(50)), vec![held.fence.task_id]);
    assert!(lost.is_cancelled());
    assert!(book.expire(now + Duration::from_secs(51)).is_empty(), "told once");
}

#[test]
fn a_lease_that_was_given_anew_replaces_the_old_one() {
    let (mut book, now) = (LeaseBook::default(), Instant::now());
    let (old, new) = (lease(1, 1, 30), lease(1, 2, 30));
    let (_, old_lost) = book.enter(&old, Some(handle("old")), now);
    let (_, new_lost) = book.enter(&new, None, now);
    assert!(old_lost.is_cancelled() && !new_lost.is_cancelled());
    assert_eq!(book.end(&old.fence), None, "the end of the old attempt must not take out the new one");
    assert_eq!(book.len(), 1);
    book.lost(&[new.fence.task_id]);
    assert!(new_lost.is_cancelled());
    book.forget(&new.fence);
    assert!(book.is_empty());
    assert_eq!(
        book.attach(offer(1, 2), &handle("b")),
        Known::No,
        "a lost lease's message may be claimable again"
    );
}

#[test]
fn only_so_many_ended_attempts_are_remembered() {
    let (mut book, now) = (LeaseBook::default(), Instant::now());
    for task in 1..=(REMEMBERED as u128 + 1) {
        let held = lease(task, 1, 30);
        book.enter(&held, None, now);
        book.end(&held.fence);
    }
    assert_eq!(book.attach(offer(1, 1), &handle("a")), Known::No);
    assert_eq!(book.attach(offer(2, 1), &handle("b")), Known::Ended);
}

#[test]
fn a_shorter_lease_of_the_pool_is_followed_from_the_next_heartbeat_on() {
    let (mut book, now) = (LeaseBook::default(), Instant::now());
    let held = lease(1, 1, 300);
    book.enter(&held, None, now);
    assert_eq!(book.period(), Some(Duration::from_secs(100)));
    book.extended(&[extended(1, 30)], now + Duration::from_secs(100));
    assert_eq!(book.period(), Some(Duration::from_secs(10)), "else the next beat would come too late");
    assert!(book.is_current(&held.fence, now + Duration::from_secs(129)));
    assert!(
        !book.is_current(&held.fence, now + Duration::from_secs(130)),
        "sooner than the first lease would have ended"
    );
}

#[test]
fn what_ended_is_remembered_within_bounds() {
    let (mut book, now) = (LeaseBook::default(), Instant::now());
    for task in 0..=REMEMBERED as u128 {
        let held = lease(task, 1, 30);
        book.enter(&held, None, now);
        book.end(&held.fence);
    }
    assert_eq!(book.attach(offer(0, 1), &handle("old")), Known::No, "the oldest is forgotten");
    assert_eq!(book.attach(offer(1, 1), &handle("new")), Known::Ended);
    assert!(book.is_empty());
}
