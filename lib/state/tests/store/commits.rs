//! The completing transaction: pointers, borders, repetition. Once per task (I1), whole (I2).

use dagwright_core::border::Fork;
use dagwright_state::{
    complete::{Committed, complete},
    finish::{self, FailedAttempt},
    status,
};
use sqlx::PgPool;

use crate::support::{NAMESPACE, World, block_hash, completion, dataset, forged, full, id};

#[sqlx::test]
async fn a_commit_points_at_objects_and_emits_events_once(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    assert_eq!(world.complete(&completion(&lease)).await, Committed::Applied);
    assert_eq!(
        world.complete(&completion(&lease)).await,
        Committed::Already,
        "the answer was lost, the call came again"
    );
    assert_eq!(
        world.count("SELECT count(*) FROM partition_versions WHERE current AND revision = 1").await,
        1
    );
    assert_eq!(world.count("SELECT count(*) FROM partition_objects").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM events").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM attempts WHERE state = 'Succeeded'").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM task_outputs").await, 4, "the task's own is gone");
}

#[sqlx::test]
async fn two_deliveries_of_a_completion_race_and_one_commits(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    let deliveries: Vec<_> = (0..4)
        .map(|_| {
            let (world, completion) = (world.clone(), completion(&lease));
            tokio::spawn(async move { world.complete(&completion).await })
        })
        .collect();
    let mut applied = 0;
    for delivery in deliveries {
        match delivery.await.expect("no panic") {
            Committed::Applied => applied += 1,
            other => assert_eq!(other, Committed::Already),
        }
    }
    assert_eq!(applied, 1);
    assert_eq!(world.ranges(0).await.len(), 1);
}

#[sqlx::test]
async fn each_completion_of_a_set_has_the_verdict_that_it_would_have_alone(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let leases = world.claim(&[], 5).await.leases;
    assert!(leases.is_sorted_by_key(|l| l.range.start()));
    let good = completion(&leases[0]);
    let mut forked = completion(&leases[1]);
    forked.partitions[0].ends.first_parent_hash = vec![9; 32];
    let beside_the_forked = completion(&leases[2]);
    let mut wrong = completion(&leases[3]);
    wrong.partitions.clear();
    let mut stale = completion(&leases[4]);
    stale.fence = forged(stale.fence);
    let set = [good.clone(), forked, beside_the_forked, wrong, stale, good];
    let mut tx = world.db.begin().await.expect("begin");
    let verdicts = complete(&mut tx, world.pool_id, &set, &mut full).await.expect("complete");
    tx.commit().await.expect("commit");
    let height = leases[1].range.start();
    let fork = Fork { height, below_hash: block_hash(height - 1), above_parent_hash: vec![9; 32] };
    let expected = [
        Committed::Applied,
        Committed::ForkAtBorder(vec![fork]),
        Committed::Applied,
        Committed::WrongOutputs { expected: vec!["blocks".into()] },
        Committed::StaleLease,
        Committed::Already,
    ];
    assert_eq!(verdicts, expected);
    assert_eq!(world.ranges(0).await, [(0, 10), (20, 30)]);
    assert_eq!(world.count("SELECT count(*) FROM partition_objects").await, 2);
    assert_eq!(world.count("SELECT count(*) FROM tasks WHERE state = 'Running'").await, 3, "theirs to fail");
    assert_eq!(world.count("SELECT count(*) FROM border_conflicts").await, 1);
}

#[sqlx::test]
async fn sets_that_race_commit_each_task_once(db: PgPool) {
    let world = World::new(db).await;
    world.add_dataset(1, "logs").await;
    world.add_output(world.job_id, "core", 1, "logs").await;
    world.plan(world.job_id).await;
    let leases = world.claim(&[], 5).await.leases;
    let sets = (0..6).map(|n| {
        let (world, mut set) = (world.clone(), leases.iter().map(completion).collect::<Vec<_>>());
        set.rotate_left(n % 5);
        tokio::spawn(async move {
            let mut tx = world.db.begin().await.expect("begin");
            let verdicts = complete(&mut tx, world.pool_id, &set, &mut full).await.expect("complete");
            tx.commit().await.expect("commit");
            verdicts
        })
    });
    let mut applied = 0;
    for set in sets.collect::<Vec<_>>() {
        for verdict in set.await.expect("no panic") {
            assert!(matches!(verdict, Committed::Applied | Committed::Already), "{verdict:?}");
            applied += usize::from(verdict == Committed::Applied);
        }
    }
    assert_eq!(applied, 5);
    assert_eq!((world.ranges(0).await.len(), world.ranges(1).await.len()), (5, 5));
}

#[sqlx::test]
async fn ranges_that_touch_must_link(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let (low, high) = (world.claim_one().await, world.claim_one().await);
    assert_eq!(world.complete(&completion(&low)).await, Committed::Applied);
    let mut forked = completion(&high);
    forked.partitions[0].ends.first_parent_hash = vec![9; 32];
    let expected = Fork {
        height: high.range.start(),
        below_hash: block_hash(high.range.start() - 1),
        above_parent_hash: vec![9; 32],
    };
    assert_eq!(world.complete(&forked).await, Committed::ForkAtBorder(vec![expected]));
    assert_eq!(world.ranges(0).await.len(), 1, "nothing of it was committed");

    let mut conn = world.db.acquire().await.expect("connect");
    let progress = status::chain_sync(&mut conn, NAMESPACE, "local").await.expect("status");
    assert_eq!(progress.border_conflicts.len(), 1, "shown while it lasts");
    let failure =
        FailedAttempt { fence: high.fence, retryable: true, cause: dagwright_state::Cause::default() };
    finish::fail(&mut conn, world.pool_id, &[failure], &mut full).await.expect("fail");
    world.make_due().await;
    world.work_to_rest(world.job_id).await;
    let progress = status::chain_sync(&mut conn, NAMESPACE, "local").await.expect("status");
    assert_eq!(progress.border_conflicts, [], "a commit that links resolves it");
}

#[sqlx::test]
async fn neighbours_that_commit_at_once_see_each_other(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let (low, high) = (world.claim_one().await, world.claim_one().await);
    let mut forked = completion(&high);
    forked.partitions[0].ends.first_parent_hash = vec![9; 32];
    let (a, b) = {
        let (one, two, honest) = (world.clone(), world.clone(), completion(&low));
        tokio::join!(
            tokio::spawn(async move { one.complete(&honest).await }),
            tokio::spawn(async move { two.complete(&forked).await })
        )
    };
    let outcomes = [a.expect("no panic"), b.expect("no panic")];
    assert_eq!(outcomes.iter().filter(|o| **o == Committed::Applied).count(), 1, "{outcomes:?}");
}

#[sqlx::test]
async fn partitions_must_be_those_of_the_task(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    let mut none = completion(&lease);
    none.partitions.clear();
    let expected = Committed::WrongOutputs { expected: vec!["blocks".into()] };
    assert_eq!(world.complete(&none).await, expected);
    let mut twice = completion(&lease);
    twice.partitions.extend(twice.partitions.clone());
    assert_eq!(world.complete(&twice).await, expected);
    assert_eq!(world.complete(&completion(&lease)).await, Committed::Applied, "the lease was not touched");
}

#[sqlx::test]
async fn a_range_that_another_job_committed_meanwhile_is_not_committed_twice(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let lease = world.claim_one().await;
    sqlx::query(
        "INSERT INTO partition_versions (namespace, version, range, content_hash, first_parent_hash, last_hash, rows, bytes,
             verification, task_id, attempt_id)
         SELECT namespace, version, range, '', '', '', 1, 1, 'verified', gen_random_uuid(), gen_random_uuid()
         FROM task_outputs WHERE task_id = $1",
    )
    .bind(lease.fence.task_id.0)
    .execute(&world.db)
    .await
    .expect("insert");
    assert_eq!(world.complete(&completion(&lease)).await, Committed::Superseded);
    assert_eq!(world.ranges(0).await.len(), 1);
    assert_eq!(world.task(lease.fence.task_id).await, None, "the task is over");
}

#[sqlx::test]
async fn progress_counts_the_contiguous_prefix_and_names_problems(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let leases = [world.claim_one().await, world.claim_one().await, world.claim_one().await];
    let by_start = |start| leases.iter().find(|l| l.range.start() == start).expect("claimed lowest first");
    world.complete(&completion(by_start(0))).await;
    world.complete(&completion(by_start(20))).await;
    let mut conn = world.db.acquire().await.expect("connect");
    let cause = dagwright_state::Cause { message: Some("block 13: no".into()), ..Default::default() };
    let failure = FailedAttempt { fence: by_start(10).fence, retryable: false, cause };
    finish::fail(&mut conn, world.pool_id, &[failure], &mut full).await.expect("fail");

    let progress = status::chain_sync(&mut conn, NAMESPACE, "local").await.expect("status");
    let stream = &progress.streams[0];
    assert_eq!((stream.cursor, stream.target_end, stream.in_flight, stream.failed), (10, 100, 2, 1));
    assert!(stream.blocks_per_second > 0.0 && stream.median_task_seconds.is_some());
    let problem = &progress.problems[0];
    assert_eq!((problem.message.as_str(), problem.attempts, problem.failed), ("block 13: no", 1, true));
    let pool = status::pool(&mut conn, world.pool_id).await.expect("status").expect("there");
    assert_eq!((pool.backlog, pool.running_tasks, pool.busy_workers), (2, 0, 0));
    assert_eq!(status::pool(&mut conn, id(9)).await.expect("status"), None);
    assert_eq!(status::dataset(&mut conn, dataset(9)).await.expect("status"), None);
}
