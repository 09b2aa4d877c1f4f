//! The head follower: moves the targets of jobs that follow a chain. It reaches no provider but through the RPC gateway.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use dagwright_core::follow::{Heights, target_end};
use dagwright_state::follow::{self, Follower};
use serde::Deserialize;

use super::{LoopError, Outcome};
use crate::dispatch::Dispatcher;

static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let client =
        reqwest::Client::builder().connect_timeout(Duration::from_secs(3)).timeout(Duration::from_secs(15));
    client.build().expect("no option of it can fail")
});

const TAGS: [&str; 3] = ["latest", "safe", "finalized"];

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let followers = follow::followers(&mut tx).await?;
    dagwright_state::commit(tx).await?;
    let mut by_pool: BTreeMap<(String, String), Vec<Follower>> = BTreeMap::new();
    for follower in followers {
        by_pool.entry((follower.namespace.clone(), follower.rpc_pool.clone())).or_default().push(follower);
    }
    let mut outcome = Ok(());
    for ((namespace, pool), followers) in by_pool {
        // One chain whose providers are all away must not hold the others back.
        match heights(&dispatcher, &namespace, &pool).await {
            Ok(heights) => advance(&dispatcher, &followers, &heights).await?,
            Err(message) => outcome = Err(LoopError::Rpc { pool: format!("{namespace}/{pool}"), message }),
        }
    }
    outcome
}

async fn advance(dispatcher: &Dispatcher, followers: &[Follower], heights: &Heights) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    for follower in followers {
        let end = target_end(follower.target_end, follower.behind, heights);
        follow::advance(&mut tx, follower.job_id, end, heights.latest).await?;
    }
    dagwright_state::commit(tx).await?;
    Ok(())
}

async fn heights(dispatcher: &Dispatcher, namespace: &str, pool: &str) -> Result<Heights, String> {
    let endpoint = dispatcher.args.rpc_url.current();
    let batch = TAGS.iter().zip(0u32..).map(|(tag, id)| {
        serde_json::json!({"jsonrpc": "2.0", "id": id, "method": "eth_getBlockByNumber", "params": [tag, false]})
    });
    let sent = HTTP
        .post(format!("{}/v1/{namespace}/{pool}", endpoint.base))
        .bearer_auth(&dispatcher.args.gateway_token)
        .json(&batch.collect::<Vec<_>>())
        .send()
        .await;
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => {
            dispatcher.args.rpc_url.failed(&endpoint);
            return Err(super::chain(&error));
        }
    };
    let status = answer.status();
    let body = answer.text().await.map_err(|e| super::chain(&e))?;
    if !status.is_success() {
        return Err(format!("HTTP {status}: {}", body.chars().take(300).collect::<String>()));
    }
    parse(&body)
}

#[derive(Deserialize)]
struct Answer {
    id: usize,
    result: Option<Block>,
}

#[derive(Deserialize)]
struct Block {
    number: String,
}

/// A tag that the chain does not have is an error or null in the answer: its height is then not known.
fn parse(body: &str) -> Result<Heights, String> {
    let answers: Vec<Answer> = serde_json::from_str(body).map_err(|e| format!("no batch of blocks: {e}"))?;
    let height = |id: usize| {
        let block = answers.iter().find(|a| a.id == id)?.result.as_ref()?;
        u64::from_str_radix(block.number.strip_prefix("0x")?, 16).ok()
    };
    Ok(Heights { latest: height(0), safe: height(1), finalized: height(2) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_a_chain_lacks_are_not_known() {
        let body = r#"[{"id":1,"jsonrpc":"2.0","error":{"code":-39001,"message":"Unknown block"}},
                       {"id":0,"jsonrpc":"2.0","result":{"number":"0x10","hash":"0x"}},{"id":2,"jsonrpc":"2.0","result":null}]"#;
        assert_eq!(parse(body), Ok(Heights { latest: Some(16), safe: None, finalized: None }));
        assert!(parse("{}").is_err());
    }
}
