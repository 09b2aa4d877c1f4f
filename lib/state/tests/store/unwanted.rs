//! What nobody wants any more does not stand in the way of those who want its range.

use dagwright_core::{
    follow::SeenHead,
    ids::{DatasetId, JobId, VersionId},
};
use dagwright_state::{
    Cause,
    claim::Lease,
    complete::Committed,
    desired::chain_syncs::{self, Job, Output, Owner},
    finish::{self, FailedAttempt},
    follow::{followers, take_back},
    plan as jobs,
};
use sqlx::PgPool;

use crate::support::{World, completion, dataset, full, id, version};

async fn cancel(world: &World) -> usize {
    let mut tx = world.db.begin().await.expect("begin");
    jobs::mark_suspended(&mut tx).await.expect("mark");
    let canceled = finish::cancel_unwanted(&mut tx, 100, &mut full).await.expect("cancel");
    tx.commit().await.expect("commit");
    canceled
}

/// A second job that declares the same computation.
async fn twin(world: &World) -> JobId {
    let twin: JobId = id(101);
    world.add_job(twin, "twin").await;
    world.add_output(twin, "core", 0, "blocks").await;
    twin
}

#[sqlx::test]
async fn what_a_suspended_job_had_queued_is_planned_for_the_other_one_that_wants_it(db: PgPool) {
    let world = World::new(db).await;
    let twin = twin(&world).await;
    assert_eq!(world.plan(world.job_id).await, Some(5));
    let running = world.claim_one().await;
    world.run("UPDATE jobs SET suspended = true WHERE name = 'core'").await;
    assert_eq!(cancel(&world).await, 4, "what runs may finish");
    assert_eq!(cancel(&world).await, 0);
    assert_eq!(world.plan(twin).await, Some(5));
    world.complete(&completion(&running)).await;
    world.work_to_rest(twin).await;
    assert_eq!(world.ranges(0).await.len(), 10, "everything is covered, once (I10)");
}

#[sqlx::test]
async fn what_failed_of_a_suspended_job_gets_the_attempts_of_the_other_one_that_wants_it(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    world.run("UPDATE tasks SET state = 'Failed', failed_generation = 1").await;
    world.run("DELETE FROM outbox").await;
    world.run("UPDATE jobs SET suspended = true WHERE name = 'core'").await;
    assert_eq!(cancel(&world).await, 0, "nobody else wants it: a resume redrives it");
    let twin = twin(&world).await;
    assert_eq!(cancel(&world).await, 5);
    world.work_to_rest(twin).await;
    assert_eq!(world.ranges(0).await.len(), 10);
}

#[sqlx::test]
async fn what_a_suspended_job_had_queued_is_marked_in_portions_and_what_runs_is_left(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    world.claim_one().await;
    world
        .run(
            "INSERT INTO tasks (task_id, job_id, pool_id, range, state, priority, not_before, max_attempts)
             SELECT gen_random_uuid(), job_id, pool_id, int8range(1000 + n, 1001 + n), 'Queued', 1, clock_timestamp(), 3
             FROM jobs, generate_series(1, 997) AS n WHERE name = 'core'",
        )
        .await;
    world.run("UPDATE jobs SET suspended = true WHERE name = 'core'").await;
    let mut conn = world.db.acquire().await.expect("connect");
    for marked in [1000, 1, 0] {
        assert_eq!(jobs::mark_suspended(&mut conn).await.expect("mark"), marked);
    }
}

#[sqlx::test]
async fn a_task_has_the_highest_priority_among_the_live_jobs_that_want_it(db: PgPool) {
    let world = World::new(db).await;
    twin(&world).await;
    world.run("UPDATE jobs SET priority = 0 WHERE name = 'twin'").await;
    world.plan(world.job_id).await;
    assert_eq!(world.count("SELECT count(*) FROM tasks WHERE priority = 0").await, 5);
    world.run("DELETE FROM tasks").await;
    world.run("UPDATE jobs SET suspended = true WHERE name = 'twin'").await;
    world.plan(world.job_id).await;
    assert_eq!(world.count("SELECT count(*) FROM tasks WHERE priority = 1").await, 5);
}

#[sqlx::test]
async fn a_target_that_a_wrong_head_raised_comes_down_to_what_is_covered_or_there(db: PgPool) {
    let world = World::new(db).await;
    world
        .run(
            r#"UPDATE jobs SET follow = '{"blocks": 0}', rpc_pool = 'standard', target_end = 100000,
        head = 99999, head_at = clock_timestamp() - interval '7 seconds'"#,
        )
        .await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    world.complete(&completion(&lease)).await;
    let running = world.claim_one().await;

    let mut conn = world.db.acquire().await.expect("connect");
    let follower = followers(&mut conn).await.expect("read").pop().expect("one");
    assert!(matches!(follower.seen, Some(SeenHead { height: 99_999, seconds_ago: 7..20 })), "{follower:?}");
    let back = async |conn: &mut sqlx::PgConnection, end| {
        take_back(conn, world.job_id, end, Some(end - 1)).await.expect("take back")
    };
    assert!(back(&mut conn, 25).await);
    assert!(!back(&mut conn, 25).await, "no news");
    let outside = jobs::mark_outside(&mut conn, world.job_id).await.expect("mark");
    assert_eq!(outside, 3, "20 to 30 and all above it; what runs may finish");
    assert_eq!(cancel(&world).await, 3);
    assert_eq!(world.plan(world.job_id).await, Some(1));
    assert_eq!(world.count("SELECT count(*) FROM tasks WHERE range = '[20,25)'").await, 1);

    world.complete(&completion(&running)).await;
    assert!(back(&mut conn, 3).await);
    assert_eq!(world.count("SELECT target_end FROM jobs").await, 20, "what is covered stays wanted (I11)");
}

#[sqlx::test]
async fn what_ran_above_a_target_that_came_down_is_unwanted_as_soon_as_it_waits_again(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let leases = world.claim(&[], 5).await.leases;
    let (kept, above): (Vec<_>, Vec<_>) = leases.into_iter().partition(|lease| lease.range.start() == 0);
    world.complete(&completion(&kept[0])).await;
    world.run("UPDATE jobs SET target_end = 10").await;
    let mut conn = world.db.acquire().await.expect("connect");
    let mut outside = async || jobs::mark_outside(&mut conn, world.job_id).await.expect("mark");
    assert_eq!(outside().await, 0, "what runs may finish");
    assert_eq!(world.plan(world.job_id).await, Some(0));

    let failed = |lease: &Lease| FailedAttempt {
        fence: lease.fence,
        retryable: true,
        cause: Cause { reason: Some("Upstream".into()), message: None, provider: None },
    };
    let failed: Vec<_> = above.iter().map(failed).collect();
    let mut tx = world.db.begin().await.expect("begin");
    finish::fail(&mut tx, world.pool_id, &failed, &mut full).await.expect("fail");
    tx.commit().await.expect("commit");
    assert_eq!(world.plan(world.job_id).await, Some(0));
    assert_eq!(outside().await, 4, "their blocks are not there, and nobody wants them now");
    assert_eq!(cancel(&world).await, 4);

    assert_eq!(world.plan(world.job_id).await, Some(0));
    assert_eq!(world.count("SELECT count(*) FROM job_plans WHERE planned_target = '[0,10)'").await, 1);
    world.run("UPDATE jobs SET target_end = 30").await;
    assert_eq!(world.plan(world.job_id).await, Some(2), "when the chain is there, the range is free");
}

fn owner(jobs: Vec<Job>) -> Owner {
    Owner {
        namespace: "demo".into(),
        name: "local".into(),
        generation: 1,
        suspended: false,
        priority: 1,
        jobs,
    }
}

fn stream(world: &World, dataset_id: DatasetId, version: VersionId) -> Job {
    Job {
        job_id: world.job_id,
        name: "core".into(),
        operator: "evm_ingest".into(),
        semantics: 1,
        config: serde_json::json!({}),
        pool_id: world.pool_id,
        rpc_pool: "standard".into(),
        target_start: 0,
        target_end: Some(100),
        follow: None,
        chunk_size: 10,
        max_in_flight: 5,
        max_attempts: 3,
        backoff_ms: 1,
        max_backoff_ms: 1,
        timeout_seconds: 900,
        outputs: vec![Output {
            name: "blocks".into(),
            version,
            materialization: [0; 32],
            column_schema: 1,
            dataset_id,
        }],
    }
}

#[sqlx::test]
async fn an_owner_that_is_made_again_at_once_finds_no_failed_tasks(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    world.run("UPDATE tasks SET state = 'Failed', failed_generation = 1").await;
    world.run("DELETE FROM outbox").await;
    let mut conn = world.db.acquire().await.expect("connect");
    let again = owner(vec![stream(&world, dataset(0), version(0))]);
    for wanted in [owner(vec![]), again] {
        assert_eq!(chain_syncs::apply(&mut conn, &wanted).await.expect("apply"), []);
    }
    assert_eq!(cancel(&world).await, 5, "before the reaper saw that the job was gone, it is back");
    world.work_to_rest(world.job_id).await;
    assert_eq!(world.ranges(0).await.len(), 10);
}

#[sqlx::test]
async fn no_task_outlives_the_version_that_it_was_planned_for(db: PgPool) {
    let world = World::new(db).await;
    world.add_version(1, "blocks").await;
    world.plan(world.job_id).await;
    let running = world.claim_one().await;
    let mut edited = stream(&world, dataset(0), version(1));
    edited.config = serde_json::json!({"chainId": 2});
    let mut edited = owner(vec![edited]);
    edited.generation = 2;
    let mut conn = world.db.acquire().await.expect("connect");
    assert_eq!(chain_syncs::apply(&mut conn, &edited).await.expect("apply"), []);
    assert!(world.claim(&[], 10).await.leases.is_empty(), "the new config is not for the old version");
    assert_eq!(cancel(&world).await, 5, "the one that runs too");
    assert_eq!(world.complete(&completion(&running)).await, Committed::StaleLease);
    world.plan(world.job_id).await;
    let leases = world.claim(&[], 10).await.leases;
    assert_eq!(leases.len(), 5);
    for lease in leases {
        assert_eq!((lease.outputs[0].1, &lease.config["chainId"]), (version(1), &serde_json::json!(2)));
    }
    edited.jobs[0].outputs[0].dataset_id = dataset(0);
    chain_syncs::apply(&mut conn, &edited).await.expect("apply");
    assert_eq!(cancel(&world).await, 0, "nothing moved");
}
