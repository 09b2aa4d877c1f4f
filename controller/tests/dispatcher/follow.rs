//! The head follower, through a real gateway before real nodes.

use std::time::Duration;

use axum::{Router, extract::Path, http::HeaderMap, routing::post};
use dagwright_contracts::gateway::{AVOID_HEADER, PROVIDER_HEADER};
use dagwright_testkit::{
    fault_proxy::{Fault, FaultControl, Lie, Rule},
    rpc_pool::{Gateway, Setup as GatewaySetup},
    wait::wait_until,
};
use sqlx::PgPool;
use tokio::net::TcpListener;

use crate::support::{Replica, Setup, add_job, count, install, wait_for_count};

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

/// A gateway that answers for one pool and never for another.
async fn silent_for_one_pool() -> String {
    let answer = async |Path((_, pool)): Path<(String, String)>, headers: HeaderMap| {
        if pool == "away" {
            std::future::pending::<()>().await;
        }
        let provider = if headers.contains_key(AVOID_HEADER) { "second" } else { "first" };
        ([(PROVIDER_HEADER, provider)], r#"[{"id": 0, "jsonrpc": "2.0", "result": {"number": "0x64"}}]"#)
    };
    let router = Router::new().route("/v1/{namespace}/{pool}", post(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_chain_whose_providers_hang_holds_up_no_other(db: PgPool) {
    install(&db).await;
    add_job(&db).await;
    sqlx::query(r#"UPDATE jobs SET target_end = 0, follow = '{"blocks": 3}'"#).execute(&db).await.unwrap();
    let hanging =
        "INSERT INTO jobs (job_id, namespace, owner_kind, owner_name, name, generation, operator, semantics, config, pool_id, rpc_pool,
             target_start, target_end, chunk_size, max_in_flight, max_attempts, backoff_ms, max_backoff_ms, timeout_seconds, follow)
         SELECT '00000000-0000-0000-0000-000000000006', namespace, owner_kind, owner_name, 'hanging', generation, operator, semantics,
             config, pool_id, 'away', target_start, target_end, chunk_size, max_in_flight, max_attempts, backoff_ms, max_backoff_ms,
             timeout_seconds, follow FROM jobs";
    sqlx::query(hanging).execute(&db).await.unwrap();
    let rpc_url = silent_for_one_pool().await;
    let _replica = Replica::start(&db, &Setup { rpc_url, ..Setup::default() }).await;
    // Well before a call that hangs is given up.
    wait_until(Duration::from_secs(10), "the other chain's head", async || {
        count(&db, "SELECT count(*) FROM jobs WHERE name = 'core' AND head = 100").await == 1
    })
    .await;
}
