//! Cutover (I11) and missing objects.

use dagwright_state::{
    complete::complete,
    objects::{mark_missing, partitions_to_check},
    serve::{Owner, candidates, flip},
    singleton::Singleton,
    status,
};
use sqlx::PgPool;
use time::Duration;

use crate::support::{World, completion, dataset, full, version};

fn owner() -> Owner {
    Owner { namespace: "demo".into(), kind: "ChainSync".into(), name: "local".into() }
}

async fn flip_now(world: &World) -> usize {
    let mut tx = world.db.begin().await.expect("begin");
    let moved = flip(&mut tx, &owner()).await.expect("flip");
    tx.commit().await.expect("commit");
    moved
}

#[sqlx::test]
async fn a_first_version_is_served_at_once(db: PgPool) {
    let world = World::new(db).await;
    let mut conn = world.db.acquire().await.expect("connect");
    assert_eq!(candidates(&mut conn).await.expect("candidates"), [owner()]);
    assert_eq!(flip_now(&world).await, 1);
    assert_eq!(candidates(&mut conn).await.expect("candidates"), []);
    assert_eq!(flip_now(&world).await, 0, "nothing moves twice");
    let served = status::dataset(&mut conn, dataset(0)).await.expect("status").expect("there");
    assert_eq!((served.served_version, served.partitions), (Some(version(0)), 0));
}

#[sqlx::test]
async fn a_candidate_is_served_when_it_covers_what_is_served_for_all_datasets(db: PgPool) {
    let world = World::new(db).await;
    world.add_dataset(1, "logs").await;
    world.add_output(world.job_id, "core", 1, "logs").await;
    world.work_to_rest(world.job_id).await;
    assert_eq!(flip_now(&world).await, 2);

    // A new version of one output: both datasets keep serving until it has caught up.
    world.add_version(7, "blocks").await;
    sqlx::query("UPDATE job_outputs SET version = $1 WHERE output = 'blocks'")
        .bind(version(7).0)
        .execute(&world.db)
        .await
        .expect("edit");
    world.run("UPDATE jobs SET target_end = 50").await;
    world.work_to_rest(world.job_id).await;
    assert_eq!(flip_now(&world).await, 0, "it covers half of what is served");
    world.run("UPDATE jobs SET target_end = 100").await;
    world.work_to_rest(world.job_id).await;
    assert_eq!(flip_now(&world).await, 1);
    let mut conn = world.db.acquire().await.expect("connect");
    let served = status::dataset(&mut conn, dataset(0)).await.expect("status").expect("there");
    assert_eq!(served.served_version, Some(version(7)));
    assert_eq!(
        world.count("SELECT count(*) FROM dataset_versions WHERE state = 'Warm'").await,
        1,
        "the old one stays warm"
    );
}

#[sqlx::test]
async fn a_commit_to_what_is_served_and_a_flip_wait_for_each_other(db: PgPool) {
    let world = World::new(db).await;
    world.run("UPDATE jobs SET target_end = 10").await;
    world.work_to_rest(world.job_id).await;
    assert_eq!(flip_now(&world).await, 1);
    // What is served goes on growing while a candidate has just reached it.
    let old: dagwright_core::ids::JobId = crate::support::id(101);
    world.add_job(old, "old").await;
    world.add_output(old, "old", 0, "blocks").await;
    world.run("UPDATE jobs SET target_end = 20 WHERE name = 'old'").await;
    world.add_version(7, "blocks").await;
    sqlx::query("UPDATE job_outputs SET version = $1 WHERE job_id = $2")
        .bind(version(7).0)
        .bind(world.job_id.0)
        .execute(&world.db)
        .await
        .expect("edit");
    world.work_to_rest(world.job_id).await;
    world.plan(old).await;
    let lease = world.claim_one().await;

    let mut commit = world.db.begin().await.expect("begin");
    complete(&mut commit, world.pool_id, &[completion(&lease)], &mut full).await.expect("complete");
    let flip = tokio::spawn({
        let world = world.clone();
        async move { flip_now(&world).await }
    });
    // The flip saw that it is ready, and waits for the version that the commit holds.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while world.count(waits).await == 0 {
        assert!(!flip.is_finished(), "it flipped to a candidate that lacks what is about to be served");
        tokio::task::yield_now().await;
    }
    commit.commit().await.expect("commit");
    assert_eq!(flip.await.expect("no panic"), 0, "the candidate lacks what was committed meanwhile (I11)");
}

#[sqlx::test]
async fn a_missing_object_is_marked_until_it_is_back(db: PgPool) {
    let world = World::new(db).await;
    world.work_to_rest(world.job_id).await;
    flip_now(&world).await;
    let mut conn = world.db.acquire().await.expect("connect");
    let first = partitions_to_check(&mut conn, Duration::minutes(1), 4).await.expect("choose");
    let second = partitions_to_check(&mut conn, Duration::minutes(1), 100).await.expect("choose");
    assert_eq!((first.len(), second.len()), (4, 6), "each once per minute");
    assert_eq!(partitions_to_check(&mut conn, Duration::minutes(1), 100).await.expect("choose"), []);

    let gone = first[0].partition_id;
    assert!(mark_missing(&mut conn, gone, true).await.expect("mark"));
    assert!(!mark_missing(&mut conn, gone, true).await.expect("mark"), "no news");
    let progress = status::dataset(&mut conn, dataset(0)).await.expect("status").expect("there");
    assert_eq!((progress.missing, progress.first_missing.is_some()), (1, true));
    assert_eq!(world.plan(world.job_id).await, Some(0), "never made again in silence");
    assert!(mark_missing(&mut conn, gone, false).await.expect("mark"));
    let progress = status::dataset(&mut conn, dataset(0)).await.expect("status").expect("there");
    assert_eq!((progress.missing, progress.partitions, progress.rows), (0, 10, 100));
}

#[sqlx::test]
async fn a_singletons_right_is_held_once(db: PgPool) {
    let (mut a, mut b) = (Singleton::new(&db, "scaler"), Singleton::new(&db, "scaler"));
    assert!(a.hold().await.expect("hold") && !b.hold().await.expect("hold"));
    assert!(a.hold().await.expect("hold"), "still");
    drop(a);
    // The server notices the closed connection in its own time.
    let taken = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while !b.hold().await.expect("hold") {}
    });
    taken.await.expect("the right passes on");
}

#[sqlx::test(migrations = false)]
async fn processes_that_migrate_at_once_wait_for_each_other(db: PgPool) {
    let migrate = || dagwright_state::migrate(&db);
    let (a, b, c) = tokio::join!(migrate(), migrate(), migrate());
    a.and(b).and(c).expect("migrated, once");
    let clusters: i64 =
        sqlx::query_scalar("SELECT count(*) FROM cluster").fetch_one(&db).await.expect("read");
    assert_eq!(clusters, 1);
}
