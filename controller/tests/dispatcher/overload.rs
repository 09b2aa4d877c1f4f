//! Bulk work in a jam: it is bounded and told to come back, and nothing that keeps leases alive waits behind it; nor does anybody wait
//! for who sends slowly, or for a store that does not answer.

use std::time::{Duration, Instant};

use dagwright_contracts::{
    endpoints::Endpoints,
    problem::Problem,
    tasks::{Beat, ClaimRequest, HeartbeatRequest, TaskLease, Verdict},
};
use dagwright_core::ids::WorkerId;
use dagwright_testkit::fault_proxy::{Fault, FaultProxy, Rule};
use dagwright_worker::tasks_api::{ApiError, TasksApi};
use futures::{StreamExt as _, stream::FuturesUnordered};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use uuid::Uuid;

use crate::{
    life,
    support::{OTHER_TOKEN, Replica, Setup, TOKEN, add_job, client, fence, install, wait_for_count},
};

const COMPLETE: &str = "/v1/tasks:complete";
/// Completions that wait for the lock; loops may wait for it as well.
const BLOCKED: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
    AND query LIKE '%INSERT INTO partition_versions%'";

const PATIENCE: Duration = Duration::from_secs(10);

/// Bulk calls that fit while one runs.
const ROOM: usize = 5;

/// A dispatcher with one connection for bulk work.
async fn narrow(db: &PgPool) -> Replica {
    install(db).await;
    add_job(db).await;
    Replica::start(db, &Setup { bulk_connections: 1, ..Setup::default() }).await
}

/// A completion that needs no object store.
fn completion(lease: &TaskLease) -> Value {
    let (range, hash) = (lease.work.range, |height: u64| format!("0x{height:064x}"));
    let mut row = fence(&lease.fence);
    row["partitions"] = json!([{
        "output": "blocks", "contentHash": hash(1), "firstParentHash": hash(range.start()), "lastHash": hash(range.end()),
        "rows": 0, "verification": "verified", "objects": [],
    }]);
    json!({"completions": [row]})
}

/// Holds what every completion writes to.
async fn jam(db: &PgPool) -> Transaction<'static, Postgres> {
    let mut tx = db.begin().await.unwrap();
    sqlx::query("LOCK TABLE partition_versions IN EXCLUSIVE MODE").execute(&mut *tx).await.unwrap();
    tx
}

fn api(replica: &Replica) -> TasksApi {
    let endpoints: Endpoints = replica.url.parse().unwrap();
    TasksApi::new(endpoints, TOKEN.parse().unwrap()).unwrap()
}

fn worker() -> WorkerId {
    WorkerId(Uuid::nil())
}

async fn beat(api: &TasksApi, lease: &TaskLease) {
    let beats = vec![Beat { fence: lease.fence, blocks_done: 1 }];
    let answer = api.heartbeat(&HeartbeatRequest { worker_id: worker(), beats }, PATIENCE).await.unwrap();
    assert_eq!(answer.extended.len(), 1);
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn heartbeats_pass_a_jam_of_completions_and_the_rest_is_told_when_to_return(db: PgPool) {
    let replica = narrow(&db).await;
    let (stuck, alive) = (replica.claim_one().await, replica.claim_one().await);
    let (body, api) = (completion(&stuck), api(&replica));
    let lock = jam(&db).await;
    let mut calls: FuturesUnordered<_> = (0..=ROOM).map(|_| replica.post(TOKEN, COMPLETE, &body)).collect();
    let refused = calls.next().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "one more than fits");
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert_eq!(refused.json::<Problem>().await.unwrap().code, "Overloaded");
    wait_for_count(&db, BLOCKED, 1).await;

    let jammed = async {
        // A claim is bulk work as well: the worker hears so, and comes back when it was told to, not before.
        let ask = ClaimRequest { worker_id: worker(), offered: vec![], max_further: 1, wait_ms: 0 };
        let error = api.claim(&ask).await.unwrap_err();
        let ApiError::Refused { status: 429, retry_after: Some(length), .. } = &error else {
            panic!("{error}")
        };
        assert!(error.is_retryable());
        let (length, began) = (*length, Instant::now());
        let (again, ()) = tokio::join!(api.claim(&ask), async {
            beat(&api, &alive).await;
            beat(&api, &alive).await;
            assert!(began.elapsed() < length, "heartbeats neither wait for the jam nor for the claim's turn");
        });
        assert!(began.elapsed() >= length, "the claim kept away for {length:?}");
        let release = json!({"leases": [fence(&alive.fence)]});
        let released = replica.post(TOKEN, "/v1/tasks:release", &release).await;
        assert!(released.status().is_success(), "a stopping worker hands its leases back");
        drop(again);
    };
    // The stuck calls are driven meanwhile; none of them can end well before the lock is gone.
    let mut late = vec![];
    tokio::pin!(jammed);
    loop {
        tokio::select! {
            () = &mut jammed => break,
            Some(answer) = calls.next() => late.push(answer.status()),
        }
    }
    assert!(late.iter().all(|status| *status == StatusCode::TOO_MANY_REQUESTS), "{late:?}");
    lock.rollback().await.unwrap();
    let rest: Vec<_> = calls.map(|answer| answer.status()).collect().await;
    assert!(rest.iter().any(reqwest::StatusCode::is_success), "{rest:?}");
    let answer = replica.post(TOKEN, COMPLETE, &body).await;
    assert!(answer.status().is_success(), "the jam is over");
    wait_for_count(&db, "SELECT count(*) FROM partition_versions", 1).await;
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn claims_that_wait_take_nobodys_turn(db: PgPool) {
    let replica = narrow(&db).await;
    let lease = replica.claim_one().await;
    let ask = json!({"workerId": Uuid::nil(), "maxFurther": 1, "waitMs": 20_000});
    // Far more than there is room for, one after another as they arrive: each has looked in vain before it waits.
    let waiting: Vec<_> = (0..4 * ROOM)
        .map(|_| {
            let call =
                client().post(format!("{}/v1/tasks:claim", replica.url)).bearer_auth(OTHER_TOKEN).json(&ask);
            tokio::spawn(async move {
                loop {
                    let answer = call.try_clone().unwrap().send().await.unwrap();
                    if answer.status() != StatusCode::TOO_MANY_REQUESTS {
                        return answer.status();
                    }
                }
            })
        })
        .collect();
    let began = Instant::now();
    let complete = async || replica.post(TOKEN, COMPLETE, &completion(&lease)).await.status();
    while complete().await == StatusCode::TOO_MANY_REQUESTS {
        assert!(began.elapsed() < Duration::from_secs(15), "the waiting claims leave no room");
    }
    wait_for_count(&db, "SELECT count(*) FROM partition_versions", 1).await;
    assert!(waiting.iter().all(|call| !call.is_finished()), "they wait still");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A heartbeat whose body does not come. The dispatcher asks for it, hence waits for it.
async fn half_sent(replica: &Replica) -> BufReader<TcpStream> {
    let address = replica.url.trim_start_matches("http://");
    let mut connection = BufReader::new(TcpStream::connect(address).await.unwrap());
    let head = format!(
        "POST /v1/tasks:heartbeat HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    assert!(status_line(&mut connection).await.contains("100 Continue"));
    connection
}

async fn status_line(connection: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    while line.trim().is_empty() {
        line.clear();
        assert!(connection.read_line(&mut line).await.unwrap() > 0, "the connection ended");
    }
    line
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn who_sends_half_a_call_holds_up_nobody(db: PgPool) {
    let replica = narrow(&db).await;
    let (lease, api) = (replica.claim_one().await, api(&replica));
    let mut stalled = vec![];
    // As many as run in the heartbeats' lane.
    for _ in 0..8 {
        stalled.push(half_sent(&replica).await);
    }
    beat(&api, &lease).await;
    beat(&api, &lease).await;
    assert!(status_line(&mut stalled[0]).await.contains("408"), "it is not waited for without an end");
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn claims_and_failures_go_on_while_the_store_does_not_answer(db: PgPool) {
    let world = life::world(&db).await;
    let proxy = FaultProxy::start(&world.aws.url).await.unwrap();
    let silent = proxy.control().add(Rule::always(Fault::Hang).on_aws("HeadObject"));
    let aws = world.setup.aws.to_builder().endpoint_url(proxy.url()).build();
    let replica = Replica::start(&db, &Setup { aws, bulk_connections: 1, ..world.setup.clone() }).await;
    add_job(&db).await;
    let lease = replica.claim_one().await;
    let key = format!("{}0.parquet", lease.work.outputs[0].prefix);
    let body = life::completion(&lease, &key, b"PAR1");
    let call = client().post(format!("{}{COMPLETE}", replica.url)).bearer_auth(TOKEN).json(&body);
    let looking = tokio::spawn(call.send());
    proxy.control().wait_for_hits(silent, 1, PATIENCE).await.unwrap();
    let next = replica.claim_one().await;
    let mut failure = fence(&next.fence);
    for (field, value) in
        [("reason", json!("Upstream")), ("message", json!("away")), ("retryable", json!(true))]
    {
        failure[field] = value;
    }
    let (verdict, detail) = replica.outcome("/v1/tasks:fail", &json!({"failures": [failure]})).await;
    assert_eq!(verdict, Verdict::Accepted, "{detail}");
    assert!(!looking.is_finished(), "the store is silent still");
    looking.abort();
}
