//! Messages: a bounded window, priority, loss and duplicates (I5, I6).

use dagwright_core::ids::PoolId;
use dagwright_state::{
    claim::{Offer, claim},
    cursor::Cursor,
    finish,
    outbox::{due, lost, mark_sent, outstanding, pools, try_lock},
    pools::window,
};
use sqlx::PgPool;

use crate::support::{World, full, id, offer};

/// One pass of the publisher from the beginning.
async fn send(world: &World, window: u64) -> Vec<Offer> {
    let mut tx = world.db.begin().await.expect("begin");
    let room = window.saturating_sub(outstanding(&mut tx, world.pool_id).await.expect("count"));
    let mut offers = lost(&mut tx, world.pool_id, room).await.expect("lost");
    offers.extend(due(&mut tx, world.pool_id, &Cursor::START, room).await.expect("due"));
    let offers: Vec<_> = offers.iter().map(|due| due.offer).collect();
    mark_sent(&mut tx, &offers).await.expect("mark");
    tx.commit().await.expect("commit");
    offers
}

#[sqlx::test]
async fn the_window_bounds_what_is_outstanding(db: PgPool) {
    let world = World::new(db).await;
    world.run("UPDATE jobs SET max_in_flight = 100").await;
    world.plan(world.job_id).await;
    let mut conn = world.db.acquire().await.expect("connect");
    assert_eq!(window(&mut conn, world.pool_id).await.expect("window"), 8, "2 x 2 slots x 2 workers");
    assert_eq!(send(&world, 8).await.len(), 8);
    assert_eq!(send(&world, 8).await, [], "the window is full");
    world.claim(&[], 3).await;
    assert!(send(&world, 8).await.len() <= 3, "a claim makes room");
}

#[sqlx::test]
async fn messages_leave_by_priority(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    world.run("UPDATE outbox SET priority = 0 WHERE task_id = (SELECT task_id FROM tasks WHERE lower(range) = 40)").await;
    let first = send(&world, 1).await;
    assert_eq!(world.claim(&first, 0).await.leases[0].range.start(), 40);
}

#[sqlx::test]
async fn an_unclaimed_message_is_published_again_after_two_visibilities(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let first = send(&world, 100).await;
    assert_eq!(send(&world, 100).await, []);
    let mut conn = world.db.acquire().await.expect("connect");
    assert_eq!(pools(&mut conn, &[]).await.expect("pools"), [], "nothing to send");
    world.run("UPDATE outbox SET sent_at = sent_at - interval '61 seconds'").await;
    assert_eq!(pools(&mut conn, &[]).await.expect("pools"), [(world.pool_id, "http://queue".to_owned())]);
    assert_eq!(send(&world, 100).await, first, "the same offers again");
}

#[sqlx::test]
async fn a_message_sent_twice_is_stale_the_second_time(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let sent = send(&world, 1).await;
    assert_eq!(world.claim(&sent, 0).await.leases.len(), 1);
    let again = world.claim(&sent, 0).await;
    assert_eq!((again.leases.len(), again.stale), (0, sent));
}

#[sqlx::test]
async fn marking_a_message_that_was_claimed_meanwhile_does_no_harm(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let mut tx = world.db.begin().await.expect("begin");
    assert!(try_lock(&mut tx, world.pool_id).await.expect("lock"));
    let chosen = due(&mut tx, world.pool_id, &Cursor::START, 10).await.expect("due");
    let chosen: Vec<_> = chosen.iter().map(|due| due.offer).collect();
    // The publisher waits for SQS now; a claim must not wait for the publisher.
    assert_eq!(world.claim(&[], 5).await.leases.len(), 5);
    assert_eq!(mark_sent(&mut tx, &chosen).await.expect("mark"), 0);
    tx.commit().await.expect("commit");
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 0);
}

#[sqlx::test]
async fn marking_waits_for_no_claim(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let mut publisher = world.db.begin().await.expect("begin");
    let chosen = due(&mut publisher, world.pool_id, &Cursor::START, 10).await.expect("due");
    let chosen: Vec<_> = chosen.iter().map(|due| due.offer).collect();
    // A claim that has not committed holds two of the rows.
    let mut claimer = world.db.begin().await.expect("begin");
    let claimed = claim(&mut claimer, world.pool_id, id(9), &[], 2, &Cursor::START).await.expect("claim");
    assert_eq!(claimed.leases.len(), 2);
    assert_eq!(mark_sent(&mut publisher, &chosen).await.expect("mark"), 3, "the others, at once");
    claimer.rollback().await.expect("roll back");
    publisher.commit().await.expect("commit");
    let left = "SELECT count(*) FROM outbox WHERE sent_at IS NULL";
    assert_eq!(world.count(left).await, 2, "sent and not marked: they are sent again");
}

#[sqlx::test]
async fn a_look_goes_on_behind_its_cursor_and_finds_what_was_left_there_from_the_beginning(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    world.run("UPDATE tasks SET not_before = now() - make_interval(secs => 60 - lower(range))").await;
    world.run("UPDATE outbox o SET not_before = t.not_before FROM tasks t WHERE t.task_id = o.task_id").await;
    let mut conn = world.db.acquire().await.expect("connect");
    let first = due(&mut conn, world.pool_id, &Cursor::START, 3).await.expect("due");
    let mut cursor = Cursor::START;
    first.iter().for_each(|due| cursor.pass(&due.place));
    let rest = due(&mut conn, world.pool_id, &cursor, 10).await.expect("due");
    assert_eq!((first.len(), rest.len()), (3, 2));
    assert!(rest.iter().all(|due| !first.contains(due)));
    let claimed = claim(&mut conn, world.pool_id, id(9), &[], 10, &cursor).await.expect("claim");
    let starts: Vec<_> = claimed.leases.iter().map(|l| l.range.start()).collect();
    assert_eq!(starts, [30, 40], "behind the cursor");
    assert_eq!(claimed.further.len(), 2);
    // What is more urgent than all that was seen is found without the beginning.
    let urgent = world.run("UPDATE tasks SET priority = 0 WHERE lower(range) = 0").await;
    let claimed = claim(&mut conn, world.pool_id, id(9), &[], 10, &cursor).await.expect("claim");
    assert_eq!((urgent, claimed.leases.len()), (1, 1));
    let claimed = claim(&mut conn, world.pool_id, id(9), &[], 10, &Cursor::START).await.expect("claim");
    assert_eq!(claimed.leases.len(), 2, "the others");
}

#[sqlx::test]
async fn one_replica_publishes_a_pool_at_a_time(db: PgPool) {
    let world = World::new(db).await;
    let (mut a, mut b) = (world.db.begin().await.expect("begin"), world.db.begin().await.expect("begin"));
    assert!(try_lock(&mut a, world.pool_id).await.expect("lock"));
    assert!(!try_lock(&mut b, world.pool_id).await.expect("lock"));
    assert!(try_lock(&mut b, id::<PoolId>(2)).await.expect("lock"), "another pool is free");
    a.commit().await.expect("commit");
    assert!(try_lock(&mut b, world.pool_id).await.expect("lock"));
}

#[sqlx::test]
async fn a_retry_is_offered_when_it_is_due(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    send(&world, 100).await;
    let lease = world.claim_one().await;
    world.expire_leases().await;
    let mut tx = world.db.begin().await.expect("begin");
    finish::expire(&mut tx, None, 10, &mut full).await.expect("expire");
    tx.commit().await.expect("commit");
    assert_eq!(send(&world, 100).await, [], "its backoff is not over");
    world.make_due().await;
    assert_eq!(send(&world, 100).await, [Offer { attempt: 2, ..offer(&lease) }]);
}

#[sqlx::test]
async fn a_suspended_jobs_messages_wait(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    world.run("UPDATE jobs SET suspended = true").await;
    assert_eq!(send(&world, 100).await, []);
}
