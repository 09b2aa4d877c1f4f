//! Fences (I3): two claimers, stale completions, lost leases.

use std::collections::HashSet;

use dagwright_core::ids::{PoolId, WorkerId};
use dagwright_state::{
    claim::{Offer, claim},
    complete::Committed,
    cursor::Cursor,
    finish::{self, Verdict},
    lease::{self, Beat},
};
use sqlx::PgPool;

use crate::support::{World, completion, forged, full, id, offer};

#[sqlx::test]
async fn two_claimers_at_once_never_get_the_same_task(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let claims = (0..8u128).map(|n| {
        let world = world.clone();
        tokio::spawn(async move {
            let mut tx = world.db.begin().await.expect("begin");
            let claimed = claim(&mut tx, world.pool_id, id::<WorkerId>(n), &[], 2, &Cursor::START)
                .await
                .expect("claim");
            tx.commit().await.expect("commit");
            claimed.leases
        })
    });
    let mut leases = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        leases.extend(claim.await.expect("no panic"));
    }
    let tasks: HashSet<_> = leases.iter().map(|l| l.fence.task_id).collect();
    assert_eq!((leases.len(), tasks.len()), (5, 5), "each of the five tasks once");
    assert_eq!(world.count("SELECT count(*) FROM tasks WHERE state = 'Running'").await, 5);
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 0, "what is claimed needs no message");
}

#[sqlx::test]
async fn two_offers_of_one_message_give_one_lease(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let (mut a, mut b) = (world.db.begin().await.expect("begin"), world.db.begin().await.expect("begin"));
    let first = claim(&mut a, world.pool_id, id(1), &[], 1, &Cursor::START)
        .await
        .expect("claim")
        .leases
        .pop()
        .expect("one");
    let second = claim(&mut b, world.pool_id, id(2), &[offer(&first)], 0, &Cursor::START)
        .await
        .expect("does not wait");
    assert_eq!((second.leases.len(), second.not_now), (0, vec![offer(&first)]), "held, but not yet for good");
    a.commit().await.expect("commit");
    b.commit().await.expect("commit");
    let third = world.claim(&[offer(&first)], 0).await;
    assert_eq!(third.stale, [offer(&first)], "an attempt that runs needs its message no more");
}

#[sqlx::test]
async fn offers_that_cannot_be_claimed_are_sorted_out(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    let mut tx = world.db.begin().await.expect("begin");
    finish::release(&mut tx, world.pool_id, &[lease.fence], &mut full).await.expect("release");
    tx.commit().await.expect("commit");
    let unknown = Offer { task_id: id(77), attempt: 1 };
    let next = Offer { attempt: 2, ..offer(&lease) };
    world.run("UPDATE tasks SET not_before = clock_timestamp() + interval '1 hour'").await;
    let answer = world.claim(&[offer(&lease), unknown, next], 0).await;
    assert_eq!(answer.stale, [offer(&lease), unknown]);
    assert_eq!(answer.not_now, [next], "not due yet");
}

#[sqlx::test]
async fn further_tasks_come_by_priority_then_age(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    world.run("UPDATE tasks SET priority = 0 WHERE lower(range) = 30").await;
    world.run("UPDATE tasks SET not_before = not_before - interval '1 minute' WHERE lower(range) = 20").await;
    let mut starts = vec![];
    for _ in 0..3 {
        starts.push(world.claim_one().await.range.start());
    }
    assert_eq!(starts[..2], [30, 20]);
}

#[sqlx::test]
async fn a_suspended_job_is_not_claimed_and_its_offers_are_not_kept(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    let mut tx = world.db.begin().await.expect("begin");
    finish::release(&mut tx, world.pool_id, &[lease.fence], &mut full).await.expect("release");
    tx.commit().await.expect("commit");
    world.run("UPDATE jobs SET suspended = true").await;
    let next = Offer { attempt: 2, ..offer(&lease) };
    let answer = world.claim(&[next], 10).await;
    assert_eq!((answer.leases.len(), answer.stale), (0, vec![next]));
    world.run("UPDATE jobs SET suspended = false").await;
    assert_eq!(world.claim(&[], 10).await.leases.len(), 5, "resumed");
}

#[sqlx::test]
async fn a_completion_with_a_lost_lease_changes_nothing(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    world.expire_leases().await;
    let mut tx = world.db.begin().await.expect("begin");
    assert_eq!(finish::expire(&mut tx, None, 10, &mut full).await.expect("expire"), 1);
    tx.commit().await.expect("commit");
    world.make_due().await;
    let second =
        world.claim(&[Offer { attempt: 2, ..offer(&lease) }], 0).await.leases.pop().expect("offered again");

    assert_eq!(
        world.complete(&completion(&lease)).await,
        Committed::StaleLease,
        "the first holder comes too late"
    );
    assert_eq!(world.count("SELECT count(*) FROM partition_versions").await, 0);
    assert_eq!(world.complete(&completion(&second)).await, Committed::Applied);
    assert_eq!(world.complete(&completion(&lease)).await, Committed::StaleLease);
    assert_eq!(world.ranges(0).await.len(), 1, "committed once");
}

#[sqlx::test]
async fn what_ended_lately_is_found_without_a_look_at_all_leases(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let mut conn = world.db.acquire().await.expect("connect");
    let lately = Some(time::Duration::minutes(5));
    world.claim_one().await;
    world.run("UPDATE tasks SET lease_expires_at = clock_timestamp() - interval '10 minutes' WHERE state = 'Running'").await;
    assert_eq!(finish::expire(&mut conn, lately, 10, &mut full).await.expect("look"), 0);
    assert_eq!(finish::expire(&mut conn, None, 10, &mut full).await.expect("look"), 1);
    world.claim_one().await;
    world.expire_leases().await;
    assert_eq!(finish::expire(&mut conn, lately, 10, &mut full).await.expect("look"), 1);
}

#[sqlx::test]
async fn every_call_is_fenced_by_the_token(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    let task_id = lease.fence.task_id;
    let bad = forged(lease.fence);
    let mut tx = world.db.begin().await.expect("begin");
    let beats = [Beat { fence: bad, blocks_done: 5 }];
    assert_eq!(lease::renew(&mut tx, world.pool_id, &beats).await.expect("renew").lost, [task_id]);
    let released = finish::release(&mut tx, world.pool_id, &[bad], &mut full).await.expect("release");
    assert_eq!(released, [(task_id, Verdict::StaleLease)]);
    assert_eq!(lease::write_scope(&mut tx, &bad).await.expect("scope"), None);
    tx.commit().await.expect("commit");
    let mut forged_completion = completion(&lease);
    forged_completion.fence = bad;
    assert_eq!(world.complete(&forged_completion).await, Committed::StaleLease);
    assert_eq!(world.task(task_id).await.map(|t| t.state).as_deref(), Some("Running"));
}

#[sqlx::test]
async fn a_heartbeat_extends_until_the_timeout_and_tells_of_a_cancellation(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let (a, b) = (world.claim_one().await, world.claim_one().await);
    let beats = [Beat { fence: a.fence, blocks_done: 3 }, Beat { fence: b.fence, blocks_done: 0 }];
    let mut conn = world.db.acquire().await.expect("connect");
    let renewed = lease::renew(&mut conn, world.pool_id, &beats).await.expect("renew");
    assert_eq!((renewed.extended.len(), renewed.lost.len()), (2, 0));
    assert!(renewed.extended.iter().all(|(_, until, seconds)| *until > a.expires_at && *seconds == 30));
    sqlx::query("UPDATE tasks SET cancel_requested = true WHERE task_id = $1")
        .bind(a.fence.task_id.0)
        .execute(&world.db)
        .await
        .expect("mark");
    sqlx::query("UPDATE tasks SET started_at = started_at - interval '901 seconds' WHERE task_id = $1")
        .bind(b.fence.task_id.0)
        .execute(&world.db)
        .await
        .expect("age");
    let renewed = lease::renew(&mut conn, world.pool_id, &beats).await.expect("renew");
    assert_eq!(renewed.extended, [], "one is cancelled, the other is past its timeout");
    assert_eq!(renewed.lost, [a.fence.task_id, b.fence.task_id]);
}

#[sqlx::test]
async fn a_task_of_another_pool_is_recognised_while_it_lives_and_after(db: PgPool) {
    let world = World::new(db).await;
    let other: PoolId = id(2);
    world.add_pool(other, "other").await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    let task = lease.fence.task_id;
    let mut conn = world.db.acquire().await.expect("connect");
    assert_eq!(lease::foreign_task(&mut conn, world.pool_id, &[task]).await.expect("look"), None);
    assert_eq!(lease::foreign_task(&mut conn, other, &[task]).await.expect("look"), Some(task));
    assert_eq!(world.complete(&completion(&lease)).await, Committed::Applied);
    assert_eq!(lease::foreign_task(&mut conn, other, &[task]).await.expect("look"), Some(task));
    let claimed = claim(&mut conn, other, id(5), &[], 10, &Cursor::START).await.expect("claim");
    assert_eq!(claimed.leases.len(), 0, "a pool claims its own tasks only");
}
