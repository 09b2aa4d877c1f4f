//! Completions that come together and cannot all commit.

use dagwright_contracts::tasks::{OutcomeResponse, Verdict};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Replica, Setup, TOKEN, add_job, count, done, install, wait_for_count};

async fn complete(replica: &Replica, rows: &[Value]) -> (u16, Option<OutcomeResponse>) {
    let answer = replica.post(TOKEN, "/v1/tasks:complete", &json!({"completions": rows})).await;
    (answer.status().as_u16(), answer.json().await.ok())
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_completion_that_postgres_refuses_holds_up_no_other(db: PgPool) {
    install(&db).await;
    let replica = Replica::start(&db, &Setup::default()).await;
    add_job(&db).await;
    let leases = [replica.claim_one().await, replica.claim_one().await, replica.claim_one().await];
    let refused = leases[1].fence.task_id;
    let refuse =
        format!("ALTER TABLE task_history ADD CONSTRAINT not_this_one CHECK (task_id <> '{}')", refused.0);
    sqlx::raw_sql(sqlx::AssertSqlSafe(refuse)).execute(&db).await.unwrap();

    let rows: Vec<_> = leases.iter().map(done).collect();
    let (status, answer) = complete(&replica, &rows).await;
    let outcomes = answer.unwrap().outcomes;
    assert_eq!(status, 200);
    assert!(outcomes.iter().all(|o| o.verdict == Verdict::Accepted && o.task_id != refused), "{outcomes:?}");
    assert_eq!(outcomes.len(), 2, "the third is told nothing: its worker asks again");
    assert_eq!(count(&db, "SELECT count(*) FROM partition_versions WHERE current").await, 2);
    assert_eq!(count(&db, "SELECT count(*) FROM tasks WHERE state = 'Running'").await, 1, "I2");

    // By itself it fails as a whole; nothing of it stays.
    assert_eq!(complete(&replica, &rows[1..2]).await.0, 500);
    assert_eq!(count(&db, "SELECT count(*) FROM partition_versions WHERE current").await, 2);

    // The cause is gone: the same call, all three in it, ends the third and repeats nothing.
    sqlx::raw_sql("ALTER TABLE task_history DROP CONSTRAINT not_this_one").execute(&db).await.unwrap();
    let outcomes = complete(&replica, &rows).await.1.unwrap().outcomes;
    assert_eq!(outcomes.iter().filter(|o| o.verdict == Verdict::Accepted).count(), 3, "{outcomes:?}");
    assert_eq!(count(&db, "SELECT count(*) FROM partition_versions WHERE current").await, 3);
    assert_eq!(count(&db, "SELECT count(*) FROM task_history WHERE state = 'Completed'").await, 3);
}

/// It is over for its worker, and the cancel is what ends the task: no attempt failed.
#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_completion_of_a_task_that_is_to_be_canceled_is_stale_and_no_failure(db: PgPool) {
    install(&db).await;
    let replica = Replica::start(&db, &Setup::default()).await;
    add_job(&db).await;
    let lease = replica.claim_one().await;
    sqlx::query("UPDATE tasks SET cancel_requested = true WHERE state = 'Running'")
        .execute(&db)
        .await
        .unwrap();
    let (_, answer) = complete(&replica, &[done(&lease)]).await;
    assert_eq!(answer.unwrap().outcomes[0].verdict, Verdict::StaleLease);
    wait_for_count(&db, "SELECT count(*) FROM attempts WHERE state = 'Canceled'", 1).await;
    assert_eq!(count(&db, "SELECT count(*) FROM attempts WHERE state = 'Errored'").await, 0);
}
