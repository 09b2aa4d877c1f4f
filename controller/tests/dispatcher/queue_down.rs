//! SQS is away: messages are hints, so nothing but cold workers waits for it.

use std::collections::BTreeSet;

use dagwright_testkit::fault_proxy::{AwsMatch, Fault, FaultProxy, Match, Rule};
use sqlx::PgPool;

use crate::{
    life::world,
    support::{Replica, Setup, add_job, count, pool, wait_for_count},
};

/// The outbox holds what cannot be sent (I5), claims that wait go on, and when SQS is back what is oldest leaves first.
#[sqlx::test(migrations = "../lib/state/migrations")]
async fn an_outbox_holds_while_the_queue_is_away_and_drains_by_age(db: PgPool) {
    let world = world(&db).await;
    let proxy = FaultProxy::start(&world.aws.url).await.unwrap();
    let sqs = Match::Aws(AwsMatch { service: Some("sqs".into()), ..AwsMatch::default() });
    let down = proxy.control().add(Rule { when: sqs, ..Rule::always(Fault::Reset) });
    let aws = world.setup.aws.to_builder().endpoint_url(proxy.url()).build();
    let replica = Replica::start(&db, &Setup { aws, ..world.setup.clone() }).await;
    // Nothing is sent before all have their age.
    sqlx::query("UPDATE pools SET queue_url = NULL").execute(&db).await.unwrap();
    add_job(&db).await;
    sqlx::query("UPDATE jobs SET target_end = 120, max_in_flight = 12").execute(&db).await.unwrap();
    wait_for_count(&db, "SELECT count(*) FROM outbox", 12).await;

    // The higher the range, the older its message.
    sqlx::query(
        "UPDATE outbox o SET not_before = clock_timestamp() - make_interval(secs => lower(t.range)) FROM tasks t WHERE t.task_id = o.task_id",
    )
    .execute(&db)
    .await
    .unwrap();

    let queue = "UPDATE pools SET queue_url = $1 WHERE pool_id = $2";
    sqlx::query(queue).bind(&world.queue).bind(pool().0).execute(&db).await.unwrap();

    proxy.control().wait_for_hits(down, 1, std::time::Duration::from_secs(20)).await.unwrap();
    replica.claim_one().await;
    assert_eq!(count(&db, "SELECT count(*) FROM outbox").await, 11, "a claim needs no message");
    assert_eq!(count(&db, "SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL").await, 0, "I6");

    proxy.control().clear();
    // Two slots of two workers, twice: the window. What is younger stays in Postgres until that is claimed.
    wait_for_count(&db, "SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL", 8).await;
    let sent: Vec<i64> = sqlx::query_scalar(
        "SELECT lower(range) FROM tasks JOIN outbox USING (task_id) WHERE sent_at IS NOT NULL ORDER BY 1",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let left: Vec<i64> = sqlx::query_scalar(
        "SELECT lower(range) FROM tasks JOIN outbox USING (task_id) WHERE sent_at IS NULL",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(left.len(), 3);
    assert!(left.iter().max() < sent.iter().min(), "the oldest left first: {sent:?}, then {left:?}");
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 8);
    replica.claim_one().await;
}
