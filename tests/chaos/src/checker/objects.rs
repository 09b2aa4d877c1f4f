//! The bucket, read by its owner: own listing, own checksums, rows counted in the Parquet files themselves.

use std::collections::BTreeMap;

use anyhow::Context as _;
use arrow::{array::AsArray as _, datatypes::UInt64Type, record_batch::RecordBatch};
use aws_sdk_s3::Client;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use dagwright_e2e::{World, checker::s3};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest as _, Sha256};

use super::Content;

pub(super) struct Store {
    s3: Client,
    bucket: String,
}

pub(super) struct Listed {
    pub(super) key: String,
    pub(super) bytes: i64,
    pub(super) written: time::OffsetDateTime,
}

impl Store {
    pub(super) async fn new(world: &World) -> Self {
        Self { s3: s3(world).await, bucket: world.url("DAGWRIGHT_DATA_BUCKET").to_owned() }
    }

    pub(super) async fn list(&self, prefix: &str) -> anyhow::Result<Vec<Listed>> {
        let mut pages = self.s3.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut all = vec![];
        while let Some(page) = pages.next().await {
            for object in page.context("list objects")?.contents() {
                let written = object.last_modified().map_or(0, aws_sdk_s3::primitives::DateTime::secs);
                all.push(Listed {
                    key: object.key().unwrap_or_default().to_owned(),
                    bytes: object.size().unwrap_or_default(),
                    written: time::OffsetDateTime::from_unix_timestamp(written).context("read a date")?,
                });
            }
        }
        Ok(all)
    }

    pub(super) async fn put(&self, key: &str, body: &'static [u8]) -> anyhow::Result<()> {
        let put = self.s3.put_object().bucket(&self.bucket).key(key).body(Bytes::from_static(body).into());
        put.if_none_match("*").send().await.with_context(|| format!("put {key}"))?;
        Ok(())
    }

    /// Reads objects whole; each comes with the output that it is of.
    pub(super) async fn read_all(
        &self,
        keys: Vec<(String, String)>,
        prefix: &str,
    ) -> anyhow::Result<BTreeMap<String, Content>> {
        let writes = self.writes(prefix).await?;
        let (store, writes) = (self, &writes);
        let read = stream::iter(keys).map(|(key, output)| async move {
            let body = store.s3.get_object().bucket(&store.bucket).key(&key).send().await;
            let body = body.with_context(|| format!("get {key}"))?.body.collect().await?.into_bytes();
            let mut content = content(body, &output).with_context(|| format!("read {key}"))?;
            content.writes = writes.get(&key).copied().unwrap_or(1);
            anyhow::Ok((key, content))
        });
        read.buffer_unordered(6).try_collect().await
    }

    /// How many versions the bucket keeps of each key: one that was written again has two.
    async fn writes(&self, prefix: &str) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut writes = BTreeMap::<String, usize>::new();
        let (mut key_marker, mut version_marker) = (None, None);
        loop {
            let page = self.s3.list_object_versions().bucket(&self.bucket).prefix(prefix);
            let page = page.set_key_marker(key_marker).set_version_id_marker(version_marker);
            let page = page.send().await.context("list object versions")?;
            for version in page.versions() {
                *writes.entry(version.key().unwrap_or_default().to_owned()).or_default() += 1;
            }
            if page.is_truncated() != Some(true) {
                return Ok(writes);
            }
            key_marker = page.next_key_marker().map(str::to_owned);
            version_marker = page.next_version_id_marker().map(str::to_owned);
        }
    }
}

fn content(body: Bytes, output: &str) -> anyhow::Result<Content> {
    let mut content = Content {
        sha256: STANDARD.encode(Sha256::digest(&body)),
        bytes: i64::try_from(body.len())?,
        ..Content::default()
    };
    for batch in ParquetRecordBatchReaderBuilder::try_new(body)?.build()? {
        let batch = batch?;
        content.rows += i64::try_from(batch.num_rows())?;
        count(&batch, output, &mut content)?;
    }
    Ok(content)
}

fn count(batch: &RecordBatch, output: &str, content: &mut Content) -> anyhow::Result<()> {
    let numbers = batch.column_by_name("block_number").context("no column block_number")?;
    let numbers = numbers.as_primitive_opt::<UInt64Type>().context("block_number is no UInt64")?;
    let hashes = match output {
        "blocks" => Some(batch.column_by_name("block_hash").context("no column block_hash")?),
        _ => None,
    };
    for row in 0..numbers.len() {
        *content.heights.entry(numbers.value(row)).or_default() += 1;
        if let Some(hashes) = hashes {
            let hash = match hashes.as_fixed_size_binary_opt() {
                Some(fixed) => fixed.value(row),
                None => hashes.as_binary_opt::<i32>().context("block_hash is no bytes")?.value(row),
            };
            content.hashes.insert(numbers.value(row), format!("0x{}", hex::encode(hash)));
        }
    }
    Ok(())
}
