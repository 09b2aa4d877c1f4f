//! Planning: idempotent under restart and replicas; full and disjoint whatever changes half-way (I10).

use dagwright_core::ids::JobId;
use dagwright_state::plan as jobs;
use sqlx::PgPool;
use time::Duration;

use crate::support::{World, completion, decide, id};

fn covers(ranges: &[(i64, i64)], start: i64, end: i64) {
    let mut at = start;
    for (from, to) in ranges {
        assert_eq!(*from, at, "no gap and no overlap in {ranges:?}");
        at = *to;
    }
    assert_eq!(at, end, "{ranges:?}");
}

#[sqlx::test]
async fn planning_stops_at_the_bound_and_repeats_nothing(db: PgPool) {
    let world = World::new(db).await;
    assert_eq!(world.plan(world.job_id).await, Some(5));
    assert_eq!(world.plan(world.job_id).await, Some(0));
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 5, "each is offered once");
    let lease = world.claim_one().await;
    world.complete(&completion(&lease)).await;
    assert_eq!(world.plan(world.job_id).await, Some(1), "one ended, one more may start");
    world.work_to_rest(world.job_id).await;
    covers(&world.ranges(0).await, 0, 100);
    assert_eq!(world.plan(world.job_id).await, Some(0));
}

#[sqlx::test]
async fn two_replicas_plan_each_range_once(db: PgPool) {
    let world = World::new(db).await;
    let plans: Vec<_> = (0..6)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.plan(world.job_id).await.unwrap_or(0) })
        })
        .collect();
    let mut planned = 0;
    for plan in plans {
        planned += plan.await.expect("no panic");
    }
    assert_eq!(planned, 5);
    assert_eq!(world.count("SELECT count(*) FROM tasks").await, 5);
}

#[sqlx::test]
async fn a_plan_made_on_old_coverage_inserts_nothing_twice(db: PgPool) {
    let world = World::new(db).await;
    // Two jobs that declare the same computation: only the constraint stands between them.
    let twin: JobId = id(101);
    world.add_job(twin, "twin").await;
    world.add_output(twin, "core", 0, "blocks").await;
    let mut tx = world.db.begin().await.expect("begin");
    let job = jobs::lock(&mut tx, twin).await.expect("lock").expect("free");
    let planned = decide(&mut tx, &job).await;
    assert_eq!(world.plan(world.job_id).await, Some(5), "the other one is faster");
    let lease = world.claim_one().await;
    world.complete(&completion(&lease)).await;
    assert_eq!(
        jobs::insert(&mut tx, twin, &planned).await.expect("insert"),
        0,
        "pending or covered, all of it"
    );
    tx.commit().await.expect("commit");
    assert_eq!(world.count("SELECT count(*) FROM tasks").await, 4);
}

#[sqlx::test]
async fn a_chunk_size_changed_half_way_ends_in_full_coverage(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    for _ in 0..2 {
        let lease = world.claim_one().await;
        world.complete(&completion(&lease)).await;
    }
    world.run("UPDATE jobs SET chunk_size = 7").await;
    world.work_to_rest(world.job_id).await;
    covers(&world.ranges(0).await, 0, 100);
}

#[sqlx::test]
async fn an_output_added_to_a_stream_at_work_catches_up(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    world.complete(&completion(&lease)).await;
    world.add_dataset(1, "logs").await;
    world.add_output(world.job_id, "core", 1, "logs").await;
    world.work_to_rest(world.job_id).await;
    covers(&world.ranges(0).await, 0, 100);
    covers(&world.ranges(1).await, 0, 100);
    let together = world.count("SELECT count(*) FROM task_history WHERE outputs = '{blocks,logs}'").await;
    let behind = world.count("SELECT count(*) FROM task_history WHERE outputs = '{logs}'").await;
    assert_eq!((together, behind), (5, 5), "new ranges feed both, old ones the new output alone");
}

#[sqlx::test]
async fn a_suspended_job_plans_nothing_and_a_resumed_one_ends_in_full_coverage(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let running = world.claim_one().await;
    world.run("UPDATE jobs SET suspended = true").await;
    assert_eq!(world.plan(world.job_id).await, None);
    assert_eq!(world.claim(&[], 10).await.leases.len(), 0);
    world.complete(&completion(&running)).await;
    assert_eq!(world.ranges(0).await.len(), 1, "what ran may finish");
    world.run("UPDATE jobs SET suspended = false").await;
    world.work_to_rest(world.job_id).await;
    covers(&world.ranges(0).await, 0, 100);
}

#[sqlx::test]
async fn a_following_job_plans_up_to_its_target(db: PgPool) {
    let world = World::new(db).await;
    world.run(r#"UPDATE jobs SET follow = '{"blocks": 5}', rpc_pool = 'standard', target_end = 0"#).await;
    assert_eq!(world.plan(world.job_id).await, Some(0), "nothing is wanted yet");
    for (target, expected) in [(13, 13), (11, 13), (25, 25)] {
        let mut conn = world.db.acquire().await.expect("connect");
        let follower = dagwright_state::follow::followers(&mut conn).await.expect("read").pop().expect("one");
        dagwright_state::follow::advance(&mut conn, follower.job_id, target, Some(target + 4))
            .await
            .expect("advance");
        world.work_to_rest(world.job_id).await;
        covers(&world.ranges(0).await, 0, expected);
    }
    assert_eq!(world.ranges(0).await, [(0, 10), (10, 13), (13, 20), (20, 25)], "a tip is never extended");
}

#[sqlx::test]
async fn jobs_take_turns(db: PgPool) {
    let world = World::new(db).await;
    world.add_job(id(101), "idle").await;
    let mut seen = vec![];
    for _ in 0..3 {
        let mut tx = world.db.begin().await.expect("begin");
        let Some(job) = jobs::lock_next(&mut tx, Duration::seconds(10)).await.expect("lock") else { break };
        jobs::mark_planned(&mut tx, job.job_id).await.expect("mark");
        tx.commit().await.expect("commit");
        seen.push(job.job_id);
    }
    seen.sort();
    assert_eq!(seen, [world.job_id, id(101)], "each once, then none for ten seconds");
}

#[sqlx::test]
async fn planning_leaves_the_row_alone_that_every_claim_reads(db: PgPool) {
    let world = World::new(db).await;
    let row = "SELECT xmin::text::bigint FROM jobs";
    let before = world.count(row).await;
    assert_eq!(world.plan(world.job_id).await, Some(5));
    assert_eq!(world.count("SELECT count(*) FROM job_plans WHERE planned_at IS NOT NULL").await, 1);
    assert_eq!(
        world.count(row).await,
        before,
        "an old snapshot would keep each version of it in everybody's way"
    );
}

#[sqlx::test]
async fn what_was_edited_is_planned_next_and_what_is_suspended_not_at_all(db: PgPool) {
    let world = World::new(db).await;
    let next = || async {
        let mut tx = world.db.begin().await.expect("begin");
        let next = jobs::lock_next(&mut tx, Duration::seconds(10)).await.expect("look");
        tx.rollback().await.expect("leave it");
        next.map(|job| job.job_id)
    };
    assert_eq!(next().await, Some(world.job_id), "it is new");
    assert_eq!(world.plan(world.job_id).await, Some(5));
    assert_eq!(next().await, None, "it was planned just now");
    world.run("UPDATE jobs SET generation = generation + 1").await;
    assert_eq!(next().await, Some(world.job_id), "it was edited");
    world.run("UPDATE jobs SET suspended = true").await;
    assert_eq!(next().await, None, "it is suspended");
    world.run("UPDATE jobs SET suspended = false").await;
    assert_eq!(next().await, Some(world.job_id), "it was resumed");
    world.run("UPDATE jobs SET removed_at = clock_timestamp()").await;
    assert_eq!(next().await, None, "it is removed");
}
