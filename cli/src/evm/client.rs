//! The little JSON-RPC that the tools need. Product code asks through the gateway; these tools ask a provider directly.

use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

/// A provider that accepts and never answers must not hang a tool.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Blocks asked for at once.
pub(super) const CONCURRENCY: usize = 8;

pub(super) struct Client {
    url: String,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Box<RawValue>>,
    error: Option<Box<RawValue>>,
}

/// What a provider says about one block, byte for byte.
pub(super) struct Answers {
    pub(super) block: Box<RawValue>,
    pub(super) receipts: Box<RawValue>,
}

impl Client {
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().context("set up the HTTP client")?;
        Ok(Self { url: url.to_owned(), http })
    }

    /// Asks one question; `null` is an error here, because the tools only ask for what must be there.
    pub(super) async fn call(
        &self,
        method: &str,
        params: serde_json::Value,
    ) -> anyhow::Result<Box<RawValue>> {
        let question = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        // The URL may hold a key: errors show the method only.
        let request = async {
            let response = self.http.post(&self.url).json(&question).send().await?;
            response.error_for_status()?.bytes().await
        };
        let bytes = request
            .await
            .map_err(reqwest::Error::without_url)
            .with_context(|| format!("ask {method} {params}"))?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .with_context(|| format!("read the answer to {method} {params}"))?;
        if let Some(error) = answer.error {
            bail!("{method} {params}: the provider answered with the error {error}");
        }
        match answer.result {
            Some(result) => Ok(result),
            None => bail!("{method} {params}: the provider answered null: it does not have it"),
        }
    }

    pub(super) async fn chain_id(&self) -> anyhow::Result<u64> {
        let answer = self.call("eth_chainId", json!([])).await?;
        quantity(answer.get()).with_context(|| format!("eth_chainId: {answer} is no chain id"))
    }

    pub(super) async fn answers(&self, height: u64) -> anyhow::Result<Answers> {
        let height = format!("{height:#x}");
        let (block, receipts) = tokio::try_join!(
            self.call("eth_getBlockByNumber", json!([height, true])),
            self.call("eth_getBlockReceipts", json!([height])),
        )?;
        Ok(Answers { block, receipts })
    }
}

/// A JSON string that holds a hex quantity.
pub(super) fn quantity(json: &str) -> Option<u64> {
    let text: String = serde_json::from_str(json).ok()?;
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
