//! Claims that wait.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::PgPool;

use crate::support::{Replica, Setup, add_job, fence, install};

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_waiting_claim_is_woken_by_work_that_any_replica_plans(db: PgPool) {
    install(&db).await;
    let (a, b) = (Replica::start(&db, &Setup::default()).await, Replica::start(&db, &Setup::default()).await);
    let (first, second, ()) = tokio::join!(a.claim(vec![], 1, 20_000), b.claim(vec![], 2, 20_000), async {
        add_job(&db).await;
    });
    let mut starts: Vec<_> =
        first.leases.iter().chain(&second.leases).map(|l| l.work.range.start()).collect();
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), first.leases.len() + second.leases.len(), "no range twice");
    assert!(!first.leases.is_empty() && !second.leases.is_empty());
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_claim_without_work_ends_when_its_patience_does(db: PgPool) {
    install(&db).await;
    let replica = Replica::start(&db, &Setup::default()).await;
    let began = Instant::now();
    assert!(replica.claim(vec![], 1, 300).await.leases.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_lease_whose_worker_falls_silent_is_taken_back_and_offered_again(db: PgPool) {
    install(&db).await;
    add_job(&db).await;
    let replica = Replica::start(&db, &Setup::default()).await;
    let lost = replica.claim_one().await;
    sqlx::query("UPDATE tasks SET lease_expires_at = clock_timestamp() WHERE state = 'Running'")
        .execute(&db)
        .await
        .unwrap();
    let mut seen = vec![];
    while seen.len() < 3 {
        seen.push(replica.claim_one().await);
    }
    let again = seen.iter().find(|l| l.fence.task_id == lost.fence.task_id).expect("offered again");
    assert_eq!(again.attempt, 2);
    let beat = json!({"workerId": uuid::Uuid::nil(), "beats": [fence(&lost.fence), fence(&again.fence)]});
    let answer: serde_json::Value =
        replica.post(crate::support::TOKEN, "/v1/tasks:heartbeat", &beat).await.json().await.unwrap();
    assert_eq!(answer["lost"], json!([]), "the same task is extended under its new fence");
    let beat = json!({"workerId": uuid::Uuid::nil(), "beats": [fence(&lost.fence)]});
    let answer: serde_json::Value =
        replica.post(crate::support::TOKEN, "/v1/tasks:heartbeat", &beat).await.json().await.unwrap();
    assert_eq!(answer["lost"], json!([lost.fence.task_id]));
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_claim_that_wants_nothing_does_not_wait_in_the_way_of_others(db: PgPool) {
    install(&db).await;
    let replica = Replica::start(&db, &Setup::default()).await;
    let began = Instant::now();
    assert!(replica.claim(vec![], 0, 15_000).await.leases.is_empty());
    assert!(began.elapsed() < Duration::from_secs(10), "it was answered at once");
}

/// One of them looks at a time; each that finds something lets the next one look.
#[sqlx::test(migrations = "../lib/state/migrations")]
async fn each_of_many_waiting_claims_gets_its_task(db: PgPool) {
    install(&db).await;
    let replica = Replica::start(&db, &Setup::default()).await;
    let claims = futures::future::join_all((0..10).map(|_| replica.claim(vec![], 1, 15_000)));
    let (claimed, ()) = tokio::join!(claims, async {
        add_job(&db).await;
        sqlx::query("UPDATE jobs SET target_end = 100, max_in_flight = 10").execute(&db).await.unwrap();
    });
    let mut starts: Vec<_> = claimed.iter().flat_map(|c| &c.leases).map(|l| l.work.range.start()).collect();
    starts.sort_unstable();
    assert_eq!(starts, (0..100).step_by(10).collect::<Vec<_>>(), "one each");
}
