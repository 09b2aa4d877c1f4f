//! Dispatchers in this process, and an installation with two pools and one stream.

use std::time::Duration;

use aws_config::SdkConfig;
use clap::Parser;
use dagwright_contracts::{
    tasks::{ClaimRequest, ClaimResponse, Fence, Offer, OutcomeResponse, TaskLease, Verdict},
    token::token_hash,
};
use dagwright_controller::dispatch::{Args, Dispatcher, background, router};
use dagwright_core::ids::{PoolId, WorkerId};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

pub(crate) const TOKEN: &str = "dwp_ingest";
pub(crate) const OTHER_TOKEN: &str = "dwp_other";
pub(crate) const GATEWAY_TOKEN: &str = dagwright_testkit::rpc_pool::GATEWAY_TOKEN;
pub(crate) const BUCKET: &str = "dagwright-data-test";

/// One replica; it ends with the test.
pub(crate) struct Replica {
    pub(crate) url: String,
    _stop: DropGuard,
    _loops: JoinSet<()>,
}

/// What a test changes of the usual replica.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) aws: SdkConfig,
    pub(crate) data_role_arn: String,
    pub(crate) rpc_url: String,
    pub(crate) sweep_age: &'static str,
    pub(crate) bulk_connections: u32,
}

impl Default for Setup {
    /// Without AWS: what needs it fails, and is tried on.
    fn default() -> Self {
        let aws = dagwright_testkit::aws_endpoint::root_at("http://127.0.0.1:9");
        Self {
            aws,
            data_role_arn: "arn:aws:iam::000000000000:role/none".into(),
            rpc_url: "http://127.0.0.1:9".into(),
            sweep_age: "24h",
            bulk_connections: 12,
        }
    }
}

impl Replica {
    /// The API and all loops.
    pub(crate) async fn start(db: &PgPool, setup: &Setup) -> Self {
        let stop = CancellationToken::new();
        let flags = [
            "dagwright-dispatcher",
            "--state-database-url",
            "postgres://unused",
            "--data-bucket",
            BUCKET,
            "--data-role-arn",
            &setup.data_role_arn,
            "--rpc-url",
            &setup.rpc_url,
            "--gateway-token",
            GATEWAY_TOKEN,
            "--ecs-cluster",
            "dagwright",
            "--object-check-age",
            "1s",
            "--object-checks-per-second",
            "100",
            "--sweep-age",
            setup.sweep_age,
            "--bulk-connections",
            &setup.bulk_connections.to_string(),
        ];
        let dispatcher = Dispatcher::new(Args::parse_from(flags), db, setup.aws.clone(), stop.clone());
        let loops = background(&dispatcher);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router(dispatcher)).await });
        Self { url, _stop: stop.drop_guard(), _loops: loops }
    }

    pub(crate) async fn post(&self, token: &str, route: &str, body: &Value) -> reqwest::Response {
        client().post(format!("{}{route}", self.url)).bearer_auth(token).json(body).send().await.unwrap()
    }

    pub(crate) async fn claim(&self, offered: Vec<Offer>, max_further: u32, wait_ms: u64) -> ClaimResponse {
        let request = ClaimRequest { worker_id: worker(), offered, max_further, wait_ms };
        let body = serde_json::to_value(request).unwrap();
        self.post(TOKEN, "/v1/tasks:claim", &body).await.error_for_status().unwrap().json().await.unwrap()
    }

    pub(crate) async fn claim_one(&self) -> TaskLease {
        self.claim(vec![], 1, 20_000).await.leases.pop().expect("a task is due")
    }

    /// The verdict and detail on one row.
    pub(crate) async fn outcome(&self, route: &str, body: &Value) -> (Verdict, String) {
        let answer = self.post(TOKEN, route, body).await.error_for_status().unwrap();
        let outcome = answer.json::<OutcomeResponse>().await.unwrap().outcomes.remove(0);
        (outcome.verdict, outcome.detail)
    }
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(30)).no_proxy().build().unwrap()
}

fn worker() -> WorkerId {
    WorkerId(Uuid::from_u128(9))
}

pub(crate) fn fence(fence: &Fence) -> Value {
    serde_json::to_value(fence).unwrap()
}

/// A completion that needs no store: no objects, and hashes that link to the neighbours'.
pub(crate) fn done(lease: &TaskLease) -> Value {
    let (range, hash) = (lease.work.range, |height: u64| format!("0x{height:064x}"));
    let mut row = fence(&lease.fence);
    row["partitions"] = json!([{
        "output": "blocks", "contentHash": hash(1), "firstParentHash": hash(range.start()), "lastHash": hash(range.end()),
        "rows": range.len(), "verification": "verified", "objects": [],
    }]);
    row
}

pub(crate) fn pool() -> PoolId {
    PoolId(Uuid::from_u128(1))
}

/// Two pools, each with a token; one stream of blocks 0 to 30 in chunks of 10 for the first.
pub(crate) async fn install(db: &PgPool) {
    for (n, name, token) in [(1, "ingest", TOKEN), (2, "other", OTHER_TOKEN)] {
        let run = json!({"service": {"min": 0, "max": 2, "tasksPerWorker": 2, "cooldownSeconds": 0}});
        let sql = "INSERT INTO pools (pool_id, namespace, name, slots, run, lease_seconds, generation) VALUES ($1, 'demo', $2, 2, $3, 30, 1)";
        sqlx::query(sql).bind(Uuid::from_u128(n)).bind(name).bind(run).execute(db).await.unwrap();
        let sql = "INSERT INTO pool_tokens (token_sha256, pool_id) VALUES ($1, $2)";
        sqlx::query(sql)
            .bind(token_hash(token).as_slice())
            .bind(Uuid::from_u128(n))
            .execute(db)
            .await
            .unwrap();
    }
    for sql in [
        "INSERT INTO datasets (dataset_id, namespace, name, storage, schema, generation)
         VALUES ('00000000-0000-0000-0000-000000000003', 'demo', 'blocks', '{}', '{}', 1)",
        "INSERT INTO dataset_versions (namespace, version, materialization, operator, semantics, output, column_schema)
         VALUES ('demo', '00000000-0000-0000-0000-000000000004', decode(repeat('00', 32), 'hex'), 'evm_ingest', 1, 'blocks', 1)",
        "INSERT INTO dataset_producers (dataset_id, owner_kind, owner_name, job)
         VALUES ('00000000-0000-0000-0000-000000000003', 'ChainSync', 'local', 'core')",
    ] {
        sqlx::query(sql).execute(db).await.unwrap();
    }
}

/// The stream itself; planning begins when it is there.
pub(crate) async fn add_job(db: &PgPool) {
    let mut tx = db.begin().await.unwrap();
    for sql in [
        "INSERT INTO jobs (job_id, namespace, owner_kind, owner_name, name, generation, operator, semantics, config, pool_id, rpc_pool,
             target_start, target_end, chunk_size, max_in_flight, max_attempts, backoff_ms, max_backoff_ms, timeout_seconds)
         VALUES ('00000000-0000-0000-0000-000000000005', 'demo', 'ChainSync', 'local', 'core', 1, 'evm_ingest', 1, '{}',
             '00000000-0000-0000-0000-000000000001', 'chain', 0, 30, 10, 5, 3, 1, 1, 900)",
        "INSERT INTO job_outputs (job_id, output, namespace, version, dataset_id)
         VALUES ('00000000-0000-0000-0000-000000000005', 'blocks', 'demo', '00000000-0000-0000-0000-000000000004',
             '00000000-0000-0000-0000-000000000003')",
    ] {
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

pub(crate) async fn count(db: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
}

/// Waits until a count is as wanted.
pub(crate) async fn wait_for_count(db: &PgPool, sql: &'static str, wanted: i64) {
    let what = format!("{wanted} of {sql}");
    dagwright_testkit::wait::wait_for_within(Duration::from_secs(30), &what, async || {
        let found = count(db, sql).await;
        if found == wanted { Ok(()) } else { Err(format!("it is {found}")) }
    })
    .await;
}
