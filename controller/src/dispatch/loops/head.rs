//! The head follower: moves the targets of jobs that follow a chain. It reaches no provider but through the RPC gateway.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use dagwright_contracts::gateway::{AVOID_HEADER, PROVIDER_HEADER};
use dagwright_core::follow::{Answers, Behind, Heights, Step, step};
use dagwright_state::follow::{self as jobs, Follower};
use futures::{StreamExt as _, stream};
use serde::Deserialize;

use super::{LoopError, Outcome, within};
use crate::dispatch::Dispatcher;

static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let client =
        reqwest::Client::builder().connect_timeout(Duration::from_secs(3)).timeout(Duration::from_secs(15));
    client.build().expect("no option of it can fail")
});

/// Pools whose heads are asked for at once.
const AT_ONCE: usize = 8;
/// For one pool: a provider that hangs, and a second one.
const LIMIT: Duration = Duration::from_secs(10);

/// A block that nodes know by name; its number is the id of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Latest,
    Safe,
    Finalized,
}

impl Tag {
    fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Safe => "safe",
            Self::Finalized => "finalized",
        }
    }
}

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let followers = jobs::followers(&mut tx).await?;
    dagwright_state::commit(tx).await?;
    let mut by_pool: BTreeMap<(String, String), Vec<Follower>> = BTreeMap::new();
    for follower in followers {
        by_pool.entry((follower.namespace.clone(), follower.rpc_pool.clone())).or_default().push(follower);
    }
    let follows = by_pool.iter().map(|(pool, followers)| follow_admitted(&dispatcher, pool, followers));
    stream::iter(follows.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect::<()>().await;
    Ok(())
}

async fn follow_admitted(
    dispatcher: &Dispatcher,
    (namespace, pool): &(String, String),
    followers: &[Follower],
) {
    let (quarantine, name) = (&dispatcher.quarantines.heads, format!("{namespace}/{pool}"));
    if quarantine.admits(&name) {
        quarantine.note(&name, within(LIMIT, follow(dispatcher, namespace, pool, followers)).await);
    }
}

async fn follow(dispatcher: &Dispatcher, namespace: &str, pool: &str, followers: &[Follower]) -> Outcome {
    let tags = tags(followers);
    let ask = async |avoid: Option<&str>| {
        let told = heights(dispatcher, (namespace, pool), &tags, avoid).await;
        told.map_err(|message| LoopError::Rpc { pool: format!("{namespace}/{pool}"), message })
    };
    let first = ask(None).await?;
    let mut answers = Answers::First(first.heights);
    if followers.iter().any(|f| decide(f, &answers) == Step::Ask) {
        let second = ask(Some(&first.provider)).await?;
        // The gateway falls back to who is to be avoided when nobody else answers.
        answers = match second.provider == first.provider {
            true => Answers::Only(second.heights),
            false => Answers::Two(first.heights, second.heights),
        };
    }
    advance(dispatcher, followers, &answers).await
}

fn decide(follower: &Follower, answers: &Answers) -> Step {
    step(follower.target_end, follower.behind, follower.seen, answers)
}

/// The head itself is shown to people; the other tags are asked for only where a stream needs them.
fn tags(followers: &[Follower]) -> Vec<Tag> {
    let behind = |behind: Behind| followers.iter().any(|f| f.behind == behind);
    let (safe, finalized) = (behind(Behind::Safe), behind(Behind::Finalized));
    let needed = [(Tag::Latest, true), (Tag::Safe, safe), (Tag::Finalized, finalized)];
    needed.into_iter().filter(|(_, needed)| *needed).map(|(tag, _)| tag).collect()
}

/// The head to be shown and to judge the next one by: of two words the lower one, which a lie can only hold back.
fn head(answers: &Answers) -> Option<u64> {
    match answers {
        Answers::First(heights) | Answers::Only(heights) => heights.latest,
        Answers::Two(a, b) => a.latest.min(b.latest).or(a.latest).or(b.latest),
    }
}

async fn advance(dispatcher: &Dispatcher, followers: &[Follower], answers: &Answers) -> Outcome {
    let head = head(answers);
    let mut tx = dispatcher.begin().await?;
    for follower in followers {
        match decide(follower, answers) {
            Step::Raise(end) => jobs::advance(&mut tx, follower.job_id, end, head).await?,
            Step::Keep => jobs::advance(&mut tx, follower.job_id, follower.target_end, head).await?,
            Step::Lower(end) => {
                if jobs::take_back(&mut tx, follower.job_id, end, head).await? {
                    metrics::counter!("dagwright_targets_taken_back_total").increment(1);
                    tracing::warn!(
                        job = %follower.job_id,
                        pool = format!("{}/{}", follower.namespace, follower.rpc_pool),
                        from = follower.target_end,
                        to = end,
                        "took a target back: a provider had told of a head that is not there"
                    );
                }
            }
            // Asked already; nobody answered for sure.
            Step::Ask => {}
        }
    }
    dagwright_state::commit(tx).await?;
    Ok(())
}

/// What one provider says.
struct Told {
    provider: String,
    heights: Heights,
}

async fn heights(
    dispatcher: &Dispatcher,
    (namespace, pool): (&str, &str),
    tags: &[Tag],
    avoid: Option<&str>,
) -> Result<Told, String> {
    let endpoint = dispatcher.args.rpc_url.current();
    let batch = tags.iter().map(|tag| {
        let (id, name) = (*tag as usize, tag.name());
        serde_json::json!({"jsonrpc": "2.0", "id": id, "method": "eth_getBlockByNumber", "params": [name, false]})
    });
    let mut call = HTTP
        .post(format!("{}/v1/{namespace}/{pool}", endpoint.base))
        .bearer_auth(&dispatcher.args.gateway_token)
        .json(&batch.collect::<Vec<_>>());
    if let Some(provider) = avoid {
        call = call.header(AVOID_HEADER, provider);
    }
    let answer = match call.send().await {
        Ok(answer) => answer,
        Err(error) => {
            dispatcher.args.rpc_url.failed(&endpoint);
            return Err(super::chain(&error));
        }
    };
    let status = answer.status();
    let provider = answer.headers().get(PROVIDER_HEADER).and_then(|name| name.to_str().ok());
    let provider = provider.unwrap_or_default().to_owned();
    let body = answer.text().await.map_err(|e| super::chain(&e))?;
    if !status.is_success() {
        return Err(format!("HTTP {status}: {}", body.chars().take(300).collect::<String>()));
    }
    Ok(Told { provider, heights: parse(&body)? })
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
    let height = |tag: Tag| {
        let block = answers.iter().find(|a| a.id == tag as usize)?.result.as_ref()?;
        u64::from_str_radix(block.number.strip_prefix("0x")?, 16).ok()
    };
    Ok(Heights { latest: height(Tag::Latest), safe: height(Tag::Safe), finalized: height(Tag::Finalized) })
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
