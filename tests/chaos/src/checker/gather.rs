//! Facts of one round, asked of Postgres, the bucket, the API server, the node and the query service.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dagwright_e2e::{World, node};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use sqlx::{PgPool, Row as _};

use super::{Asked, Block, Facts, objects, state};
use crate::patience::Look;

/// Reads facts; what the chain says is kept, for it does not change.
pub struct Gatherer {
    chain: BTreeMap<u64, Block>,
    /// Objects younger than this may lie there without a pointer.
    pub orphan_age: time::Duration,
}

/// What the round must reach before it is judged. The fingerprint moves with every commit, attempt and status.
pub async fn settled(world: &World, namespace: &str, asked: &[Asked], asking: &Asking) -> Look<()> {
    let (mut so_far, mut missing) = match counts(&world.state, namespace).await {
        Ok((so_far, 0)) => (so_far, vec![]),
        Ok((so_far, left)) => (so_far, vec![format!("{left} tasks to end")]),
        Err(error) => (String::new(), vec![format!("Postgres to answer: {error:#}")]),
    };
    for sync in asked {
        let name = format!("ChainSync {}", sync.sync);
        match world.get("ChainSync", namespace, &sync.sync).await {
            Err(error) => missing.push(format!("{name}: {error}")),
            Ok(object) => {
                so_far += &object["status"]["streams"].to_string();
                if !is_synced(&object, sync.range.1) {
                    if missing.is_empty() && asking.is_due(&sync.sync) {
                        ask_for_status(world, namespace, &sync.sync).await;
                    }
                    missing.push(format!("{name} to be Synced to {}: {}", sync.range.1, brief(&object)));
                }
            }
        }
    }
    for (_, dataset) in asked.iter().flat_map(|sync| &sync.outputs) {
        match world.condition("Dataset", namespace, dataset, "Ready", "True").await {
            Ok(_) => {}
            Err(error) => missing.push(error),
        }
    }
    if missing.is_empty() { Look::Holds(()) } else { Look::Missing { so_far, what: missing.join("; ") } }
}

/// Numbers that hardly moved are written after minutes; who wants them now asks by annotation. This is when each was asked.
#[derive(Debug, Default)]
pub struct Asking(Mutex<BTreeMap<String, Instant>>);

impl Asking {
    fn is_due(&self, sync: &str) -> bool {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = asked.get(sync).is_none_or(|at| at.elapsed() > Duration::from_secs(15));
        if due {
            asked.insert(sync.to_owned(), Instant::now());
        }
        due
    }
}

async fn ask_for_status(world: &World, namespace: &str, sync: &str) {
    let now = uuid::Uuid::new_v4().to_string();
    let body =
        serde_json::json!({ "metadata": { "annotations": { "reconcile.fluxcd.io/requestedAt": now } } });
    let patch = kube::api::Patch::Merge(&body);
    // Asked again when it is still needed.
    let _ = world.api("ChainSync", namespace).patch(sync, &kube::api::PatchParams::default(), &patch).await;
}

fn is_synced(object: &Value, end: u64) -> bool {
    let generation = &object["metadata"]["generation"];
    let holds = |kind: &str| {
        object["status"]["conditions"].as_array().into_iter().flatten().any(|condition| {
            condition["type"] == kind
                && condition["status"] == "True"
                && condition["observedGeneration"] == *generation
        })
    };
    let streams = object["status"]["streams"].as_array();
    let at_end = |stream: &Value| {
        stream["cursor"].as_u64() == Some(end)
            && stream["target"].as_u64() == Some(end)
            && stream["inFlight"].as_u64() == Some(0)
    };
    holds("Synced") && holds("Ready") && streams.is_some_and(|all| all.iter().all(at_end))
}

fn brief(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let conditions: Vec<String> = conditions
        .map(|c| format!("{}={} {} {}", c["type"], c["status"], c["reason"], c["message"]).replace('"', ""))
        .collect();
    format!(
        "{}, streams {}, problems {}",
        conditions.join(", "),
        object["status"]["streams"],
        object["status"]["problems"]
    )
}

async fn counts(state: &PgPool, namespace: &str) -> anyhow::Result<(String, i64)> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM partition_versions WHERE namespace = $1) AS committed,
                (SELECT count(*) FROM attempts a JOIN tasks t USING (task_id) JOIN jobs j USING (job_id) WHERE j.namespace = $1) AS tries,
                (SELECT count(*) FROM task_history h JOIN jobs j USING (job_id) WHERE j.namespace = $1) AS ended,
                (SELECT count(*) FROM tasks t JOIN jobs j USING (job_id) WHERE j.namespace = $1) AS left",
    )
    .bind(namespace)
    .fetch_one(state)
    .await?;
    let number = |name: &str| row.get::<i64, _>(name);
    Ok((format!("{} {} {} ", number("committed"), number("tries"), number("ended")), number("left")))
}

impl Gatherer {
    #[must_use]
    pub fn new(orphan_age: time::Duration) -> Self {
        Self { chain: BTreeMap::new(), orphan_age }
    }

    /// All facts of a namespace that has settled.
    ///
    /// # Errors
    /// When a source does not answer; that says nothing about the product.
    pub async fn gather(&mut self, world: &World, namespace: &str, asked: &[Asked]) -> anyhow::Result<Facts> {
        let height = asked.iter().map(|sync| sync.range.1).max().unwrap_or(0);
        self.learn_chain(world, height).await.context("ask the node for its blocks")?;
        let mut facts = state::read(world, namespace).await.context("read the state database")?;
        facts.chain.clone_from(&self.chain);
        kubernetes(world, namespace, &mut facts).await?;
        self.store(world, namespace, &mut facts).await.context("read the bucket")?;
        for (_, dataset) in asked.iter().flat_map(|sync| &sync.outputs) {
            let counted = query(world, namespace, dataset).await;
            facts.queried.insert(dataset.clone(), counted.with_context(|| format!("query {dataset}"))?);
        }
        Ok(facts)
    }

    async fn learn_chain(&mut self, world: &World, end: u64) -> anyhow::Result<()> {
        let url = world.url("EVM_RPC_URL");
        let unknown: Vec<u64> = (0..end).filter(|height| !self.chain.contains_key(height)).collect();
        let asked = stream::iter(unknown).map(|height| node::try_block_facts(&world.http, url, height));
        let blocks: Vec<_> = asked.buffer_unordered(8).try_collect().await?;
        self.chain.extend(blocks.into_iter().map(|block| {
            (block.number, Block { hash: block.hash, transactions: block.transactions, logs: block.logs })
        }));
        Ok(())
    }

    async fn store(&self, world: &World, namespace: &str, facts: &mut Facts) -> anyhow::Result<()> {
        let store = objects::Store::new(world).await;
        let all = store.list("").await?;
        let prefix = format!("{namespace}/v/");
        facts.stored =
            all.iter().filter(|o| o.key.starts_with(&prefix)).map(|o| (o.key.clone(), o.bytes)).collect();
        let keys: Vec<(String, String)> = facts
            .partitions
            .iter()
            .flat_map(|p| p.objects.iter().map(|o| (o.key.clone(), p.output.clone())))
            .filter(|(key, _)| facts.stored.contains_key(key))
            .collect();
        facts.contents = store.read_all(keys, &prefix).await?;
        let horizon = time::OffsetDateTime::now_utc() - self.orphan_age;
        let unpointed = unpointed(world, all).await?;
        facts.unpointed = unpointed.len();
        facts.orphans = unpointed.into_iter().filter(|o| o.written < horizon).map(|o| o.key).collect();
        Ok(())
    }

    /// Keys of any namespace that no pointer names, however young.
    ///
    /// # Errors
    /// When Postgres or the bucket does not answer.
    pub async fn unpointed(&self, world: &World) -> anyhow::Result<Vec<String>> {
        let all = objects::Store::new(world).await.list("").await?;
        Ok(unpointed(world, all).await?.into_iter().map(|object| object.key).collect())
    }

    /// Writes an object as an attempt would have that ended without a commit: what is to be swept is there in every round.
    ///
    /// # Errors
    /// When the bucket does not take it.
    pub async fn plant_orphan(&self, world: &World, namespace: &str) -> anyhow::Result<()> {
        let id = uuid::Uuid::new_v4;
        let key = format!("{namespace}/v/{}/000000000000_000000000000/{}/0.parquet", id(), id());
        objects::Store::new(world).await.put(&key, b"no pointer names it").await
    }
}

async fn unpointed(world: &World, all: Vec<objects::Listed>) -> anyhow::Result<Vec<objects::Listed>> {
    let ours: Vec<objects::Listed> = all.into_iter().filter(|object| object.key.contains("/v/")).collect();
    let keys: Vec<String> = ours.iter().map(|object| object.key.clone()).collect();
    let none = sqlx::query_scalar(
        "SELECT k FROM unnest($1::text[]) k WHERE NOT EXISTS (SELECT FROM partition_objects WHERE key = k)",
    );
    let none: Vec<String> =
        none.bind(&keys).fetch_all(&world.state).await.context("compare the bucket with the pointers")?;
    let none: BTreeSet<String> = none.into_iter().collect();
    Ok(ours.into_iter().filter(|object| none.contains(&object.key)).collect())
}

async fn kubernetes(world: &World, namespace: &str, facts: &mut Facts) -> anyhow::Result<()> {
    for kind in ["ChainSync", "Dataset"] {
        let listed = world.api(kind, namespace).list(&kube::api::ListParams::default()).await;
        for object in listed.with_context(|| format!("list {kind}s"))? {
            let name = object.metadata.name.unwrap_or_default();
            facts.statuses.insert(format!("{kind}/{name}"), object.data["status"].clone());
        }
    }
    Ok(())
}

async fn query(world: &World, namespace: &str, dataset: &str) -> anyhow::Result<(u64, u64)> {
    let table = format!("{}.{}", namespace.replace('-', "_"), dataset.replace('-', "_"));
    let sql = format!("select count(*), count(distinct block_number) from {table}");
    let rows = world.query(&sql).await.map_err(anyhow::Error::msg)?;
    let number = |n: usize| {
        let value = rows.first().and_then(|row| row.get(n));
        value
            .and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok()))
            .with_context(|| format!("{sql}: {rows:?}"))
    };
    Ok((number(0)?, number(1)?))
}
