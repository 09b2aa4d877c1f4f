//! What the chain itself says, asked directly, without the gateway.

use anyhow::Context as _;
use serde_json::{Value, json};

/// One block as the node tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFacts {
    pub number: u64,
    pub hash: String,
    pub gas_used: u64,
    pub transactions: u64,
    pub logs: u64,
}

/// Asks the node for a block and its receipts.
pub async fn block_facts(http: &reqwest::Client, url: &str, number: u64) -> BlockFacts {
    try_block_facts(http, url, number)
        .await
        .unwrap_or_else(|error| panic!("ask the node for block {number}: {error:#}"))
}

/// [`block_facts`] of a node that may be away.
///
/// # Errors
/// When it does not answer, or not like a node.
pub async fn try_block_facts(http: &reqwest::Client, url: &str, number: u64) -> anyhow::Result<BlockFacts> {
    let height = format!("0x{number:x}");
    let block = call(http, url, "eth_getBlockByNumber", json!([height, true])).await?;
    let receipts = call(http, url, "eth_getBlockReceipts", json!([height])).await?;
    let receipts = receipts.as_array().context("receipts are a list")?;
    Ok(BlockFacts {
        number,
        hash: block["hash"].as_str().context("a block has a hash")?.to_owned(),
        gas_used: quantity(&block["gasUsed"])?,
        transactions: block["transactions"].as_array().context("a block lists transactions")?.len() as u64,
        logs: receipts.iter().map(|r| r["logs"].as_array().map_or(0, Vec::len) as u64).sum(),
    })
}

/// Height of the chain.
///
/// # Errors
/// When the node does not answer.
pub async fn height(http: &reqwest::Client, url: &str) -> anyhow::Result<u64> {
    quantity(&call(http, url, "eth_blockNumber", json!([])).await?)
}

async fn call(http: &reqwest::Client, url: &str, method: &str, params: Value) -> anyhow::Result<Value> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer: Value = http.post(url).json(&body).send().await?.json().await?;
    anyhow::ensure!(answer.get("error").is_none(), "{method}: {answer}");
    Ok(answer["result"].clone())
}

fn quantity(value: &Value) -> anyhow::Result<u64> {
    let text = value.as_str().context("a quantity is a string")?.trim_start_matches("0x");
    Ok(u64::from_str_radix(text, 16)?)
}
