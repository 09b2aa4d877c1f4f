//! JSON-RPC, as much as the load needs. The load talks to the node itself: the gateway refuses methods that change a chain.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(super) struct Rpc {
    url: String,
    http: reqwest::Client,
    next_id: AtomicU64,
}

impl Rpc {
    pub(super) fn new(url: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build();
        Ok(Self { url, http: http.context("build an HTTP client")?, next_id: AtomicU64::new(1) })
    }

    pub(super) async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> anyhow::Result<T> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let answer =
            async { self.http.post(&self.url).json(&request).send().await?.error_for_status()?.json().await };
        let mut answer: Value = answer.await.with_context(|| method.to_owned())?;
        if let Some(error) = answer.get("error") {
            bail!("{method}: {error}");
        }
        serde_json::from_value(answer["result"].take())
            .with_context(|| format!("{method}: unexpected result"))
    }

    pub(super) async fn number(&self, method: &str, params: Value) -> anyhow::Result<u64> {
        let text: String = self.call(method, params).await?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u64::from_str_radix(digits, 16).with_context(|| format!("{method}: {text:?} is no quantity"))
    }

    pub(super) async fn height(&self) -> anyhow::Result<u64> {
        self.number("eth_blockNumber", json!([])).await
    }

    pub(super) async fn block_hash(&self, number: u64) -> anyhow::Result<String> {
        let block: Value = self.call("eth_getBlockByNumber", json!([quantity(number), false])).await?;
        block["hash"].as_str().map(str::to_owned).with_context(|| format!("block {number} has no hash"))
    }
}

pub(super) fn quantity(value: impl Into<u128>) -> String {
    format!("{:#x}", value.into())
}
