//! What nobody needs any more goes, and nothing else.

use dagwright_state::tidy;
use sqlx::PgPool;

use crate::support::World;

#[sqlx::test]
async fn a_removed_job_goes_when_neither_a_task_nor_history_names_it(db: PgPool) {
    let world = World::new(db).await;
    let mut conn = world.db.acquire().await.expect("connect");
    let mut removed = async || tidy::removed_jobs(&mut conn).await.expect("delete");
    world.plan(world.job_id).await;
    assert_eq!(removed().await, 0, "it is wanted");
    world.run("UPDATE jobs SET removed_at = clock_timestamp() - interval '2 days'").await;
    assert_eq!(removed().await, 0, "its tasks are there");
    world.run("UPDATE jobs SET removed_at = NULL").await;
    world.work_to_rest(world.job_id).await;
    world.run("UPDATE jobs SET removed_at = clock_timestamp() - interval '2 days'").await;
    assert_eq!(removed().await, 0, "history names it");
    world.run("DELETE FROM task_history").await;
    world.run("UPDATE jobs SET removed_at = clock_timestamp() - interval '1 hour'").await;
    assert_eq!(removed().await, 0, "who removed it may come back");
    world.run("UPDATE jobs SET removed_at = clock_timestamp() - interval '2 days'").await;
    assert_eq!(removed().await, 1);
    assert_eq!(world.count("SELECT count(*) FROM job_outputs").await, 0);
    assert_eq!(world.ranges(0).await.len(), 10, "what it wrote stays");
}

#[sqlx::test]
async fn messages_without_a_task_go_and_no_other(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    world.run("INSERT INTO outbox (task_id, attempt, pool_id, priority, not_before) SELECT gen_random_uuid(), 1, pool_id, 1, clock_timestamp() FROM pools").await;
    let mut conn = world.db.acquire().await.expect("connect");
    assert_eq!(tidy::lost_messages(&mut conn).await.expect("delete"), 1);
    assert_eq!(tidy::lost_messages(&mut conn).await.expect("delete"), 0);
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 5);
}
