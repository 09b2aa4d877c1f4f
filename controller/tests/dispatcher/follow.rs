//! The head follower, through a real gateway before real nodes.

use dagwright_testkit::{
    fault_proxy::{Fault, FaultControl, Lie, Rule},
    rpc_pool::{Gateway, Setup as GatewaySetup},
};
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

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn one_provider_that_tells_of_a_head_that_is_not_there_moves_no_target(db: PgPool) {
    install(&db).await;
    add_job(&db).await;
    sqlx::query(r#"UPDATE jobs SET target_end = 0, follow = '{"blocks": 3}'"#).execute(&db).await.unwrap();
    let gateway = Gateway::with(GatewaySetup { blocks: 10, ..GatewaySetup::default() }).await;
    let liars = [gateway.faults(0), gateway.faults(1)];
    let rule = liars[0].add(Rule::always(Fault::Lie(Lie::Head(1 << 40))));
    let replica = Replica::start(&db, &Setup { rpc_url: gateway.url.clone(), ..Setup::default() }).await;
    let truth = "SELECT count(*) FROM jobs WHERE head BETWEEN 10 AND 1000 AND target_end = head - 3 + 1";
    wait_for_count(&db, truth, 1).await;
    assert!(liars[0].hits(rule) > 0, "it was asked, and told");
    drop(replica);

    // Both lie: nobody can know better, until one of them tells the truth again; then what nobody has comes off the target.
    liars[1].add(Rule::always(Fault::Lie(Lie::Head(1 << 40))));
    let _replica = Replica::start(&db, &Setup { rpc_url: gateway.url.clone(), ..Setup::default() }).await;
    let planned = "SELECT LEAST(count(*), 1) FROM tasks WHERE lower(range) >= 20";
    wait_for_count(&db, planned, 1).await;
    liars.iter().for_each(FaultControl::clear);
    wait_for_count(&db, truth, 1).await;
    wait_for_count(&db, planned, 0).await;
}
