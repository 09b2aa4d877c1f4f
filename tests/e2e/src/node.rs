//! What the chain itself says, asked directly, without the gateway.

use serde_json::{Value, json};

/// One block as the node tells it.
#[derive(Debug, PartialEq, Eq)]
pub struct BlockFacts {
    pub number: u64,
    pub hash: String,
    pub gas_used: u64,
    pub transactions: u64,
    pub logs: u64,
}

/// Asks the node for a block and its receipts.
pub async fn block_facts(http: &reqwest::Client, url: &str, number: u64) -> BlockFacts {
    let height = format!("0x{number:x}");
    let block = call(http, url, "eth_getBlockByNumber", json!([height, true])).await;
    let receipts = call(http, url, "eth_getBlockReceipts", json!([height])).await;
    let logs = receipts
        .as_array()
        .expect("receipts are a list")
        .iter()
        .map(|r| r["logs"].as_array().map_or(0, Vec::len) as u64)
        .sum();
    BlockFacts {
        number,
        hash: block["hash"].as_str().expect("a block has a hash").to_owned(),
        gas_used: quantity(&block["gasUsed"]),
        transactions: block["transactions"].as_array().expect("a block lists transactions").len() as u64,
        logs,
    }
}

async fn call(http: &reqwest::Client, url: &str, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer: Value =
        http.post(url).json(&body).send().await.expect("the node answers").json().await.expect("JSON");
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].clone()
}

fn quantity(value: &Value) -> u64 {
    let text = value.as_str().expect("a quantity is a string").trim_start_matches("0x");
    u64::from_str_radix(text, 16).expect("a quantity is hex")
}
