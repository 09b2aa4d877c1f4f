//! Notifications are edges for latency, never for truth: with every one dropped the result is the same, later.

use dagwright_contracts::tasks::Verdict;
use serde_json::json;
use sqlx::{PgPool, postgres::PgListener};

use crate::support::{Replica, Setup, add_job, count, done, install, wait_for_count};

/// Drops every notification that the schema sends.
pub(crate) async fn silence(db: &PgPool) {
    let dropped = sqlx::raw_sql(
        "DO $$ DECLARE t record; n int := 0; BEGIN
             FOR t IN SELECT g.tgname, g.tgrelid::regclass AS relation FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
                      WHERE p.prosrc LIKE '%pg_notify%' AND g.tgparentid = 0
             LOOP
                 EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', t.relation, t.tgname);
                 n := n + 1;
             END LOOP;
             ASSERT n > 0, 'the schema notifies nobody';
         END $$",
    );
    dropped.execute(db).await.unwrap();
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_stream_ends_the_same_with_every_notification_dropped(db: PgPool) {
    install(&db).await;
    silence(&db).await;
    let mut heard = PgListener::connect_with(&db).await.unwrap();
    heard.listen_all(["dagwright_tasks", "dagwright_plan"]).await.unwrap();
    let replica = Replica::start(&db, &Setup::default()).await;
    // The claim waits before there is anything to claim, and the third task is planned when one of the first two is done.
    let (mut lease, ()) = tokio::join!(replica.claim_one(), async {
        add_job(&db).await;
        sqlx::query("UPDATE jobs SET max_in_flight = 2").execute(&db).await.unwrap();
    });
    let mut starts = vec![];
    loop {
        starts.push(lease.work.range.start());
        let (verdict, detail) =
            replica.outcome("/v1/tasks:complete", &json!({"completions": [done(&lease)]})).await;
        assert_eq!(verdict, Verdict::Accepted, "{detail}");
        if starts.len() == 3 {
            break;
        }
        lease = replica.claim_one().await;
    }
    starts.sort_unstable();
    assert_eq!(starts, [0, 10, 20], "each range once");
    wait_for_count(&db, "SELECT count(*) FROM datasets WHERE served_version IS NOT NULL", 1).await;
    assert_eq!(count(&db, "SELECT count(*) FROM partition_versions WHERE current").await, 3);
    assert_eq!(count(&db, "SELECT count(*) FROM task_history WHERE state = 'Completed'").await, 3);
    assert_eq!(count(&db, "SELECT count(*) FROM tasks").await, 0);
    // Notifications come in the order of their commits: had one got through, it would be the first.
    sqlx::query("SELECT pg_notify('dagwright_tasks', 'the end')").execute(&db).await.unwrap();
    assert_eq!(heard.recv().await.unwrap().payload(), "the end");
}
