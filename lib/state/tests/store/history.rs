//! The days of history: made ahead, dropped by age, never in the way of a row or of a repeated call (I1).

use std::time::Instant;

use dagwright_state::{complete::Committed, history};
use sqlx::PgPool;
use time::Duration;

use crate::support::{World, completion};

const FORTNIGHT: Duration = Duration::days(14);

async fn prepare(world: &World, ahead: u32) -> Vec<String> {
    let (mut conn, mut made) = (world.db.acquire().await.expect("connect"), vec![]);
    for table in history::TABLES {
        made.extend(history::prepare(&mut conn, table, ahead).await.expect("prepare"));
    }
    made
}

async fn drop_older(world: &World, age: Duration) -> Vec<String> {
    let (mut conn, mut dropped) = (world.db.acquire().await.expect("connect"), vec![]);
    for table in history::TABLES {
        dropped.extend(history::drop_older(&mut conn, table, age).await.expect("drop"));
    }
    dropped
}

#[sqlx::test]
async fn days_are_made_ahead_and_take_over_what_the_default_caught(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    assert_eq!(world.complete(&completion(&lease)).await, Committed::Applied, "no day is there yet");
    let caught =
        "SELECT (SELECT count(*) FROM task_history_default) + (SELECT count(*) FROM attempts_default)
                      + (SELECT count(*) FROM events_default)";
    assert_eq!(world.count(caught).await, 3);
    let made = prepare(&world, 2).await;
    assert_eq!(made.len(), 9, "three tables, today and two days: {made:?}");
    assert_eq!(prepare(&world, 2).await, [] as [&str; 0], "they are there");
    assert_eq!(world.count(caught).await, 0, "moved to their day");
    assert_eq!(world.count("SELECT count(*) FROM task_history").await, 1);
    assert_eq!(world.complete(&completion(&lease)).await, Committed::Already, "found in its day");
    let lease = world.claim_one().await;
    assert_eq!(world.complete(&completion(&lease)).await, Committed::Applied);
    assert_eq!(world.count(caught).await, 0, "today has its own partitions");
    assert_eq!(world.count("SELECT count(*) FROM attempts WHERE state = 'Succeeded'").await, 2);
}

#[sqlx::test]
async fn old_days_are_dropped_and_young_ones_stay(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    prepare(&world, 1).await;
    for age in [14, 15, 16] {
        sqlx::query("SELECT history_prepare((clock_timestamp() AT TIME ZONE 'UTC')::date - $1::int)")
            .bind(age)
            .execute(&world.db)
            .await
            .expect("an old day");
    }
    world.work_to_rest(world.job_id).await;
    let old =
        "UPDATE task_history SET finished_at = finished_at - interval '16 days' WHERE lower(range) < 30";
    assert_eq!(world.run(old).await, 3);
    let older =
        "UPDATE task_history SET finished_at = finished_at - interval '40 days' WHERE lower(range) = 40";
    assert_eq!(world.run(older).await, 1, "a day that is not there refuses nothing");
    let dropped = drop_older(&world, FORTNIGHT).await;
    assert_eq!(dropped.len(), 6, "the days before the fortnight: {dropped:?}");
    assert_eq!(drop_older(&world, FORTNIGHT).await, [] as [&str; 0]);
    assert_eq!(world.count("SELECT count(*) FROM task_history").await, 6, "of ten");
    assert_eq!(world.ranges(0).await.len(), 10, "coverage is no history");
}

#[sqlx::test]
async fn a_completion_that_is_repeated_after_its_day_was_dropped_is_stale_and_harmless(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    assert_eq!(world.complete(&completion(&lease)).await, Committed::Applied);
    world.run("UPDATE task_history SET finished_at = finished_at - interval '16 days'").await;
    drop_older(&world, FORTNIGHT).await;
    assert_eq!(world.complete(&completion(&lease)).await, Committed::StaleLease);
    assert_eq!(world.ranges(0).await.len(), 1);
}

#[sqlx::test]
async fn a_table_that_is_in_use_is_left_at_once_and_the_others_are_seen_to(db: PgPool) {
    let world = World::new(db).await;
    sqlx::query("SELECT history_prepare((clock_timestamp() AT TIME ZONE 'UTC')::date - 20)")
        .execute(&world.db)
        .await
        .expect("an old day");
    let mut reads = world.db.begin().await.expect("begin");
    sqlx::query("SELECT count(*) FROM task_history").execute(&mut *reads).await.expect("read");
    let mut conn = world.db.acquire().await.expect("connect");
    let began = Instant::now();
    for busy in [
        history::prepare(&mut conn, "task_history", 1).await,
        history::drop_older(&mut conn, "task_history", FORTNIGHT).await,
    ] {
        assert_eq!(busy.expect_err("it is read").category(), "busy");
    }
    assert!(began.elapsed().as_secs() < 1, "everybody else waits behind us");
    assert_eq!(history::drop_older(&mut conn, "attempts", FORTNIGHT).await.expect("drop").len(), 1);
    assert!(history::drop_older(&mut conn, "tasks", FORTNIGHT).await.is_err(), "no table of history");
    reads.rollback().await.expect("roll back");
    assert_eq!(drop_older(&world, FORTNIGHT).await.len(), 2);
}
