//! Workers that report themselves, launches, and failures to start.

use dagwright_core::{
    ids::{PoolId, TaskId, WorkerId},
    scale::roster::Phase,
};
use dagwright_state::{
    cursor::{Cursor, Place},
    desired::pools::{Addresses, set_addresses},
    launches,
    pools::{self, Launch},
    workers::{self, CheckIn, Heard, MAX_PER_POOL},
};
use sqlx::{PgConnection, PgPool};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::support::World as Store;

const ARN: &str = "arn:aws:ecs:us-east-1:000000000000:task-definition/dw-ingest:2";

fn worker(n: u128) -> WorkerId {
    WorkerId(Uuid::from_u128(n))
}

async fn check_in(conn: &mut PgConnection, store: &Store, n: u128, revision: &str, drained: bool) -> bool {
    let task = format!("task/{n}");
    let says =
        CheckIn { worker_id: worker(n), task_arn: Some(&task), task_definition: Some(revision), drained };
    workers::check_in(conn, store.pool_id, &says).await.expect("the store answers") == Heard::Drain
}

async fn phases(conn: &mut PgConnection, store: &Store) -> Vec<(Phase, bool, bool)> {
    let present = workers::present(conn, store.pool_id, ARN).await.expect("the store answers");
    present.iter().map(|p| (p.member.phase, p.member.current, p.member.busy)).collect()
}

#[sqlx::test]
async fn a_worker_is_drained_only_when_it_was_told_to_and_says_so(db: PgPool) {
    let store = Store::new(db).await;
    let mut conn = store.db.acquire().await.expect("the store answers");
    assert!(!check_in(&mut conn, &store, 1, "dw-ingest:2", true).await, "nobody told it to drain");
    assert!(!check_in(&mut conn, &store, 2, "dw-ingest:1", false).await);
    assert_eq!(
        phases(&mut conn, &store).await,
        [(Phase::Active, true, false), (Phase::Active, false, false)]
    );
    workers::set_draining(&mut conn, store.pool_id, &[worker(1)], true).await.expect("the store answers");
    assert_eq!(phases(&mut conn, &store).await[0].0, Phase::Draining);
    assert!(check_in(&mut conn, &store, 1, "dw-ingest:2", true).await);
    assert_eq!(phases(&mut conn, &store).await[0].0, Phase::Drained);
    workers::set_draining(&mut conn, store.pool_id, &[worker(1)], false).await.expect("the store answers");
    assert_eq!(phases(&mut conn, &store).await[0].0, Phase::Active, "called back");

    workers::leave(&mut conn, store.pool_id, &[worker(1)]).await.expect("the store answers");
    assert!(check_in(&mut conn, &store, 1, "dw-ingest:2", false).await, "who is gone claims nothing");
    assert_eq!(phases(&mut conn, &store).await.len(), 1);
    sqlx::query("UPDATE workers SET seen_at = seen_at - interval '1 minute'")
        .execute(&store.db)
        .await
        .unwrap();
    assert!(phases(&mut conn, &store).await.is_empty(), "who is silent is not counted on");
    let tasks = ["task/2".into(), "task/3".into()];
    let known = workers::came_up(&mut conn, store.pool_id, &tasks).await.expect("the store answers");
    assert_eq!(known, ["task/2"]);
    let other = PoolId(Uuid::from_u128(2));
    let known = workers::came_up(&mut conn, other, &tasks).await.expect("the store answers");
    assert!(known.is_empty(), "another pool's workers say nothing of this one's");
}

#[sqlx::test]
async fn a_pool_that_makes_workers_up_fills_no_table(db: PgPool) {
    let store = Store::new(db).await;
    let mut conn = store.db.acquire().await.expect("the store answers");
    let sql =
        "INSERT INTO workers (worker_id, pool_id) SELECT gen_random_uuid(), $1 FROM generate_series(2, $2)";
    sqlx::query(sql).bind(store.pool_id.0).bind(MAX_PER_POOL).execute(&store.db).await.unwrap();
    let mut heard = async |n| {
        let says = CheckIn { worker_id: worker(n), task_arn: None, task_definition: None, drained: false };
        workers::check_in(&mut conn, store.pool_id, &says).await.expect("the store answers")
    };
    assert_eq!(heard(1).await, Heard::Stay, "the last that there is room for");
    assert_eq!(heard(2).await, Heard::TooMany);
    assert_eq!(heard(1).await, Heard::Stay, "who is known stays known");
    store.run("UPDATE workers SET seen_at = seen_at - interval '3 hours'").await;
    workers::prune(&mut store.db.acquire().await.unwrap()).await.expect("the store answers");
    assert_eq!(heard(2).await, Heard::Stay);
}

#[sqlx::test]
async fn two_deciders_intend_one_launch(db: PgPool) {
    let store = Store::new(db).await;
    let (mut a, mut b) = (
        store.db.acquire().await.expect("the store answers"),
        store.db.acquire().await.expect("the store answers"),
    );
    let pool = store.pool_id;
    let first = launches::intend(&mut a, pool, 3, ARN, None)
        .await
        .expect("the store answers")
        .expect("nobody else intends");
    assert_eq!(
        launches::intend(&mut b, pool, 3, ARN, None).await.expect("the store answers"),
        None,
        "one at a time"
    );
    assert_eq!(
        launches::intend(&mut b, pool, 3, ARN, Some(first.id)).await.expect("the store answers"),
        None
    );
    launches::started(&mut a, first.id, &["t1".into()]).await.expect("the store answers");
    assert_eq!(
        launches::intend(&mut b, pool, 3, ARN, None).await.expect("the store answers"),
        None,
        "decided before the first one"
    );
    let second = launches::intend(&mut b, pool, 1, ARN, Some(first.id))
        .await
        .expect("the store answers")
        .expect("knows of it");
    let open = launches::open(&mut a, pool).await.expect("the store answers");
    assert_eq!(
        open.iter().map(|l| (l.id, l.intended)).collect::<Vec<_>>(),
        [(first.id, false), (second.id, true)]
    );
    launches::end(&mut a, second.id, Some("denied")).await.expect("the store answers");
    launches::end(&mut a, first.id, None).await.expect("the store answers");
    assert!(launches::open(&mut a, pool).await.expect("the store answers").is_empty());
    assert_eq!(
        launches::last(&mut a, pool).await.expect("the store answers"),
        Some(second.id),
        "ended ones count as known"
    );
}

#[sqlx::test]
async fn a_failure_counts_once_and_another_revision_ends_the_rest(db: PgPool) {
    let store = Store::new(db).await;
    let mut conn = store.db.acquire().await.expect("the store answers");
    let pool = store.pool_id;
    let launch = Launch { family: "dw-ingest".into(), task_definition_arn: ARN.into(), ..Launch::default() };
    let mut at = Addresses { launch: Some(launch), ..Addresses::default() };
    set_addresses(&mut conn, pool, &at).await.expect("the store answers");
    let t0 = OffsetDateTime::UNIX_EPOCH;
    for seconds in [5, 5, 4, 6] {
        let seen = Some(t0 + Duration::seconds(seconds));
        pools::start_failed(&mut conn, pool, "CannotPullContainerError", seen)
            .await
            .expect("the store answers");
    }
    let starts = |pools: Vec<pools::ScaledPool>| pools[0].starts;
    let failed = starts(pools::to_scale(&mut conn, |_| Cursor::START).await.expect("the store answers"));
    assert_eq!(failed.failures, 2, "ECS dated two of them");
    set_addresses(&mut conn, pool, &at).await.expect("the store answers");
    assert_eq!(
        starts(pools::to_scale(&mut conn, |_| Cursor::START).await.expect("the store answers")),
        failed,
        "nothing changed"
    );
    at.launch.as_mut().unwrap().task_definition_arn = ARN.replace(":2", ":3");
    set_addresses(&mut conn, pool, &at).await.expect("the store answers");
    assert_eq!(
        starts(pools::to_scale(&mut conn, |_| Cursor::START).await.expect("the store answers")).failures,
        0
    );
    pools::start_failed(&mut conn, pool, "denied", None).await.expect("the store answers");
    pools::started(&mut conn, pool).await.expect("the store answers");
    let progress = dagwright_state::status::pool(&mut conn, pool).await.expect("the store answers").unwrap();
    assert_eq!(progress.start_error, None, "a worker came up");
}

#[sqlx::test]
async fn a_resting_pool_is_not_written(db: PgPool) {
    let store = Store::new(db).await;
    let mut conn = store.db.acquire().await.expect("the store answers");
    let version = async |conn: &mut PgConnection| -> String {
        sqlx::query_scalar("SELECT xmin::text FROM pools WHERE pool_id = $1")
            .bind(store.pool_id.0)
            .fetch_one(conn)
            .await
            .unwrap()
    };
    pools::scaled(&mut conn, store.pool_id, 2, 1, true).await.expect("the store answers");
    let before = version(&mut conn).await;
    pools::scaled(&mut conn, store.pool_id, 2, 1, true).await.expect("the store answers");
    assert_eq!(version(&mut conn).await, before);
    pools::scaled(&mut conn, store.pool_id, 2, 2, true).await.expect("the store answers");
    assert_ne!(version(&mut conn).await, before);
}

#[sqlx::test]
async fn demand_is_what_is_due_and_what_runs_from_the_place_that_is_named(db: PgPool) {
    let store = Store::new(db).await;
    let mut conn = store.db.acquire().await.expect("the store answers");
    let launch = Launch { family: "dw-ingest".into(), task_definition_arn: ARN.into(), ..Launch::default() };
    let at = Addresses { launch: Some(launch), ..Addresses::default() };
    set_addresses(&mut conn, store.pool_id, &at).await.expect("the store answers");
    let look = async |conn: &mut PgConnection, from: Cursor| {
        pools::to_scale(conn, |_| from).await.expect("the store answers").remove(0)
    };
    let idle = look(&mut conn, Cursor::START).await;
    assert_eq!((idle.observed.demand, idle.observed.waiting), (0, Duration::ZERO));

    assert_eq!(store.plan(store.job_id).await, Some(5));
    store.claim_one().await;
    store.run("UPDATE tasks SET not_before = not_before + interval '1 hour' WHERE lower(range) = 40").await;
    let all = look(&mut conn, Cursor::START).await;
    assert_eq!(all.observed.demand, 4, "three are due, one runs, one waits for its time");
    assert!(all.observed.waiting > Duration::ZERO);

    let mut from = Cursor::START;
    all.first_waiting.iter().for_each(|place| from.pass(&Place { task_id: TaskId(Uuid::max()), ..*place }));
    assert_eq!(look(&mut conn, from).await.observed.demand, 3, "behind the first one");
    assert_eq!(look(&mut conn, from.back()).await.observed.demand, 4, "a little before it");
    store.run("UPDATE jobs SET suspended = true").await;
    assert_eq!(look(&mut conn, Cursor::START).await.observed.demand, 1, "what runs is left to finish");
}
