//! The independent checker: own SQL on the state database and own listing of the bucket, none of the product's code.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;

use crate::{World, node::block_facts, wait_for};

/// Asserts that the datasets of a [`crate::manifests::LocalSync`] hold `[from, to)` once: each partition committed once, no
/// range twice, none missing, no task left, each object in place.
pub async fn assert_covered_once(world: &World, namespace: &str, outputs: &[&str], from: u64, to: u64) {
    for output in outputs {
        let rows = sqlx::query(
            "SELECT lower(p.range) AS lower, upper(p.range) AS upper, p.revision
             FROM datasets d JOIN partition_versions p ON p.namespace = d.namespace AND p.version = d.served_version
             WHERE d.namespace = $1 AND d.name = $2 AND d.deleted_at IS NULL AND p.current ORDER BY 1",
        )
        .bind(namespace)
        .bind(format!("chain-{output}"))
        .fetch_all(&world.state)
        .await
        .expect("read coverage");
        let mut at = i64::try_from(from).expect("heights fit");
        for row in &rows {
            assert_eq!(
                row.get::<i64, _>("lower"),
                at,
                "{namespace}/{output}: a hole or an overlap below this partition"
            );
            assert_eq!(
                row.get::<i64, _>("revision"),
                1,
                "{namespace}/{output}: a partition was committed more than once"
            );
            at = row.get("upper");
        }
        assert_eq!(at, i64::try_from(to).expect("heights fit"), "{namespace}/{output}: coverage ends early");
    }
    assert_one_success_per_task(world, namespace).await;
    assert_objects_match_pointers(world, namespace).await;
}

async fn assert_one_success_per_task(world: &World, namespace: &str) {
    let twice: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (
            SELECT a.task_id FROM attempts a JOIN task_history h USING (task_id) JOIN jobs j USING (job_id)
            WHERE j.namespace = $1 AND a.state = 'Succeeded' GROUP BY a.task_id HAVING count(*) > 1) t",
    )
    .bind(namespace)
    .fetch_one(&world.state)
    .await
    .expect("read attempts");
    assert_eq!(twice, 0, "{namespace}: tasks with more than one successful attempt");
    let unfinished: i64 =
        sqlx::query_scalar("SELECT count(*) FROM tasks JOIN jobs USING (job_id) WHERE namespace = $1")
            .bind(namespace)
            .fetch_one(&world.state)
            .await
            .expect("read tasks");
    assert_eq!(unfinished, 0, "{namespace}: unfinished tasks although everything is covered");
}

/// Every pointer's object is in the bucket with its size. Objects without a pointer may lie there (an attempt that was
/// killed after its upload): they are invisible, and the sweeper's to remove.
async fn assert_objects_match_pointers(world: &World, namespace: &str) {
    let pointers: BTreeMap<String, i64> = sqlx::query(
        "SELECT o.key, o.bytes FROM partition_objects o JOIN partition_versions p USING (partition_id)
         WHERE p.namespace = $1 AND p.current",
    )
    .bind(namespace)
    .fetch_all(&world.state)
    .await
    .expect("read objects")
    .iter()
    .map(|row| (row.get("key"), row.get("bytes")))
    .collect();
    let stored = list_objects(world, &format!("{namespace}/v/")).await;
    for (key, bytes) in &pointers {
        assert_eq!(stored.get(key), Some(bytes), "object {key} is missing or has another size");
    }
}

/// Keys and sizes under a prefix of the data bucket, as the bucket's owner sees them.
pub async fn list_objects(world: &World, prefix: &str) -> BTreeMap<String, i64> {
    let s3 = s3(world).await;
    let mut pages = s3.list_objects_v2().bucket(bucket(world).await).prefix(prefix).into_paginator().send();
    let mut found = BTreeMap::new();
    while let Some(page) = pages.next().await {
        for object in page.expect("list the bucket").contents() {
            found.insert(object.key().unwrap_or_default().to_owned(), object.size().unwrap_or_default());
        }
    }
    found
}

/// The bucket that pointers name.
pub async fn bucket(world: &World) -> String {
    sqlx::query_scalar("SELECT bucket FROM partition_objects LIMIT 1")
        .fetch_one(&world.state)
        .await
        .expect("some object")
}

/// An S3 client with the credentials that `dagwright env` gives a person.
pub async fn s3(world: &World) -> aws_sdk_s3::Client {
    let config = aws(world).await;
    aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build())
}

/// An SQS client with the same.
pub async fn sqs(world: &World) -> aws_sdk_sqs::Client {
    aws_sdk_sqs::Client::new(&aws(world).await)
}

async fn aws(world: &World) -> aws_config::SdkConfig {
    let credentials = aws_sdk_s3::config::Credentials::new(
        world.url("AWS_ACCESS_KEY_ID"),
        world.url("AWS_SECRET_ACCESS_KEY"),
        world.env.get("AWS_SESSION_TOKEN").cloned(),
        None,
        "e2e",
    );
    aws_config::defaults(aws_config::BehaviorVersion::latest())
        .endpoint_url(world.url("AWS_ENDPOINT_URL"))
        .region(aws_config::Region::new(world.url("AWS_REGION").to_owned()))
        .credentials_provider(credentials)
        .load()
        .await
}

/// Asserts, block by block, that SQL over the datasets says what the node says.
pub async fn assert_query_equals_node(
    world: &World,
    schema: &str,
    tables: [&str; 3],
    node_url: &str,
    from: u64,
    to: u64,
) {
    let [blocks, transactions, logs] = tables.map(|table| format!("{schema}.{table}"));
    let sql = format!(
        "select b.block_number, '0x' || lower(hex(b.block_hash)) as hash, b.gas_used,
                (select count(*) from {transactions} t where t.block_number = b.block_number) as txs,
                (select count(*) from {logs} l where l.block_number = b.block_number) as logs
         from {blocks} b order by 1"
    );
    // A service that has just lost the AWS endpoint under it holds credentials that the new one refuses, for a minute at most.
    let rows = wait_for(&sql, || world.query(&sql)).await;
    assert_eq!(rows.len() as u64, to - from, "one row a block");
    let numbers: BTreeSet<u64> = rows.iter().map(|r| number(&r[0])).collect();
    assert_eq!(numbers, (from..to).collect(), "each block once");
    for row in rows {
        let facts = block_facts(&world.http, node_url, number(&row[0])).await;
        assert_eq!(row[1].as_str(), Some(facts.hash.as_str()), "hash of block {}", facts.number);
        assert_eq!(
            (number(&row[2]), number(&row[3]), number(&row[4])),
            (facts.gas_used, facts.transactions, facts.logs),
            "block {}",
            facts.number
        );
    }
}

/// A JSON number, or a string where it would not be exact.
pub fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value} is no height"))
}
