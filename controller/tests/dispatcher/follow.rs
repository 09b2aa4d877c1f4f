//! The head follower, through a real gateway before real nodes.

use dagwright_testkit::rpc_pool::{Gateway, Setup as GatewaySetup};
use sqlx::PgPool;

use crate::support::{Replica, Setup, add_job, install, wait_for_count};

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_stream_follows_the_head_through_the_gateway(db: PgPool) {
    install(&db).await;
    add_job(&db).await;
    sqlx::query(r#"UPDATE jobs SET target_end = 0, follow = '{"blocks": 3}'"#).execute(&db).await.unwrap();
    let gateway = Gateway::with(GatewaySetup { blocks: 10, ..GatewaySetup::default() }).await;
    let _replica = Replica::start(&db, &Setup { rpc_url: gateway.url.clone(), ..Setup::default() }).await;
    wait_for_count(&db, "SELECT count(*) FROM jobs WHERE target_end = head - 3 + 1 AND head >= 10", 1).await;
    wait_for_count(&db, "SELECT count(*) FROM tasks WHERE lower(range) = 0", 1).await;
}
