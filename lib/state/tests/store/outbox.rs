//! Messages: a bounded window, priority, loss and duplicates.

use dagwright_core::ids::PoolId;
use dagwright_state::{
    claim::Offer,
    finish,
    outbox::{due, mark_sent, pools, try_lock},
    pools::window,
};
use sqlx::PgPool;

use crate::support::{World, full, id, offer};

async fn send(world: &World, window: u64) -> Vec<Offer> {
    let mut tx = world.db.begin().await.expect("begin");
    let offers = due(&mut tx, world.pool_id, window).await.expect("due");
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
    assert_eq!(pools(&mut conn).await.expect("pools"), [], "nothing to send");
    world.run("UPDATE outbox SET sent_at = sent_at - interval '61 seconds'").await;
    assert_eq!(pools(&mut conn).await.expect("pools"), [(world.pool_id, "http://queue".to_owned())]);
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
    let chosen = due(&mut tx, world.pool_id, 10).await.expect("due");
    // The publisher waits for SQS now; a claim must not wait for the publisher.
    assert_eq!(world.claim(&[], 5).await.leases.len(), 5);
    assert_eq!(mark_sent(&mut tx, &chosen).await.expect("mark"), 0);
    tx.commit().await.expect("commit");
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 0);
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
    finish::expire(&mut tx, 10, &mut full).await.expect("expire");
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
