//! A task of `evm_ingest` over a pool of two real nodes.

use dagwright_contracts::{
    endpoints::Endpoints,
    tasks::{EvmIngestConfig, Fence, Output, Verification, Work},
};
use dagwright_core::{
    ids::{AttemptId, LeaseToken, TaskId, VersionId},
    range::BlockRange,
};
use dagwright_evm::parquet::EncodedFile;
use dagwright_testkit::rpc_pool::{Gateway, POOL_TOKEN, Setup};
use dagwright_worker::{
    gateway,
    leases::Progress,
    operators::{OperatorError, TaskContext, evm_ingest::read_range},
    store::TaskStore,
    tasks_api::TasksApi,
};
use uuid::Uuid;

pub(crate) const BLOCKS: u64 = 24;

pub(crate) async fn pool() -> Gateway {
    Gateway::with(Setup { blocks: BLOCKS, timeout_ms: 5_000, ..Setup::default() }).await
}

fn task(pool: &Gateway, avoid: &[&str]) -> TaskContext {
    let output = |name: &str| Output {
        name: name.into(),
        version: VersionId(Uuid::nil()),
        bucket: "nowhere".into(),
        prefix: "nothing/".into(),
    };
    let config = EvmIngestConfig {
        chain_id: 31337,
        profile: "ethereum".into(),
        verification: Verification::Required,
        rpc_pool: "chain".into(),
    };
    let work = Work {
        namespace: "demo".into(),
        subject: "ChainSync demo/local stream core".into(),
        operator: "evm_ingest".into(),
        semantics: 1,
        config: serde_json::to_value(config).unwrap(),
        range: BlockRange::new(0, BLOCKS + 1).unwrap(),
        outputs: ["blocks", "transactions", "logs"].map(output).into(),
        avoid_providers: avoid.iter().map(|name| (*name).to_owned()).collect(),
    };
    // Nothing is written here, so that nobody has to hand out rights.
    let nobody: Endpoints = "http://127.0.0.1:1".parse().unwrap();
    let api = TasksApi::new(nobody, POOL_TOKEN.parse().unwrap()).unwrap();
    let fence = Fence {
        task_id: TaskId(Uuid::nil()),
        attempt_id: AttemptId(Uuid::nil()),
        lease_token: LeaseToken(Uuid::nil()),
    };
    let aws =
        aws_config::SdkConfig::builder().behavior_version(aws_config::BehaviorVersion::latest()).build();
    TaskContext {
        work,
        progress: Progress::default(),
        store: TaskStore::new(&aws, api, fence),
        gateway: gateway::Gateway::new(pool.url.parse().unwrap(), POOL_TOKEN.parse().unwrap()).unwrap(),
    }
}

pub(crate) async fn read(pool: &Gateway, avoid: &[&str]) -> Result<Vec<EncodedFile>, OperatorError> {
    let task = task(pool, avoid);
    let files = read_range(&task).await?;
    assert_eq!(task.progress.blocks(), BLOCKS + 1);
    Ok(files.into_iter().map(|(_, file)| file).collect())
}
