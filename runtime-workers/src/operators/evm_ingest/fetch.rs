//! Block and receipts through the gateway. Trouble on the way is waited out here for a while, because an attempt is dearer
//! than a pause; wrong data is not: that is another provider's turn.

use std::{ops::Range, time::Duration};

use serde_json::{json, value::RawValue};

use super::super::{OperatorError, Reason, TaskContext};
use crate::{
    backoff::Backoff,
    gateway::{BatchAnswer, Call, GatewayError},
};

/// Tries per batch; with the pauses between them, an outage of about a minute is waited out.
const TRIES: u32 = 10;

/// One block as a provider gave it.
#[derive(Debug)]
pub(super) struct RawBundle {
    pub(super) number: u64,
    pub(super) provider: String,
    pub(super) block: Box<RawValue>,
    pub(super) receipts: Box<RawValue>,
}

impl RawBundle {
    /// Bytes of both answers.
    pub(super) fn size(&self) -> usize {
        self.block.get().len() + self.receipts.get().len()
    }
}

/// Fetches for one task.
pub(super) struct Fetcher<'a> {
    pub(super) task: &'a TaskContext,
    pub(super) pool: &'a str,
}

impl Fetcher<'_> {
    /// Bundles of these blocks, in order. A batch whose answer is too large is fetched block by block.
    pub(super) async fn fetch(&self, heights: Range<u64>) -> Result<Vec<RawBundle>, OperatorError> {
        let few = heights.end - heights.start <= 1;
        match self.batch(heights.clone()).await {
            Err(Trouble::TooLarge(_)) if !few => {
                let mut bundles = Vec::new();
                for height in heights {
                    bundles.extend(
                        self.batch(height..height + 1)
                            .await
                            .map_err(|trouble| self.error(height, &trouble))?,
                    );
                }
                Ok(bundles)
            }
            other => other.map_err(|trouble| self.error(heights.start, &trouble)),
        }
    }

    async fn batch(&self, heights: Range<u64>) -> Result<Vec<RawBundle>, Trouble> {
        let calls: Vec<Call> = heights.clone().flat_map(calls).collect();
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
        let mut tried = 0;
        loop {
            tried += 1;
            let work = &self.task.work;
            let answered =
                self.task.gateway.batch(&work.namespace, self.pool, &calls, &work.avoid_providers).await;
            let (trouble, retry_after) = match answered {
                Ok(answer) => match bundles(heights.clone(), answer) {
                    Ok(bundles) => return Ok(bundles),
                    Err(why) => (Trouble::Upstream(why), None),
                },
                Err(error) if error.is_too_large() => return Err(Trouble::TooLarge(crate::chain(&error))),
                Err(error) if !error.is_retryable() => return Err(Trouble::Refused(crate::chain(&error))),
                Err(error) => (upstream(&error), error.retry_after()),
            };
            if tried == TRIES {
                return Err(trouble);
            }
            tracing::debug!(from = heights.start, tried, ?trouble, "fetching again");
            tokio::time::sleep(
                backoff.pause().max(retry_after.unwrap_or_default().min(Duration::from_secs(10))),
            )
            .await;
        }
    }

    fn error(&self, height: u64, trouble: &Trouble) -> OperatorError {
        let (Trouble::Upstream(why) | Trouble::TooLarge(why) | Trouble::Refused(why)) = trouble;
        let message = format!("blocks from {height} cannot be fetched from RpcPool {}: {why}", self.pool);
        // A refusal of what we ask (a token that was just rotated, a pool that is being made) may pass as well.
        OperatorError::new(Reason::Upstream, message).retryable(!matches!(trouble, Trouble::TooLarge(_)))
    }
}

#[derive(Debug)]
enum Trouble {
    Upstream(String),
    TooLarge(String),
    Refused(String),
}

fn upstream(error: &GatewayError) -> Trouble {
    Trouble::Upstream(crate::chain(error))
}

fn calls(height: u64) -> [Call; 2] {
    let number = format!("{height:#x}");
    [
        Call { method: "eth_getBlockByNumber", params: json!([number, true]) },
        Call { method: "eth_getBlockReceipts", params: json!([number]) },
    ]
}

/// Pairs the results. Null is what a node answers that does not have the block, now or at all.
fn bundles(heights: Range<u64>, answer: BatchAnswer) -> Result<Vec<RawBundle>, String> {
    let BatchAnswer { provider, results } = answer;
    let mut results = results.into_iter();
    let mut next = |what: &str, height: u64| match results.next() {
        Some(Ok(result)) if result.get() == "null" => {
            Err(format!("provider {provider} has no {what} {height}: it answered null"))
        }
        Some(Ok(result)) => Ok(result),
        Some(Err(error)) => {
            Err(format!("provider {provider} answered the request for {what} {height} with {error}"))
        }
        None => Err(format!("provider {provider} did not answer the request for {what} {height}")),
    };
    heights
        .map(|number| {
            let block = next("block", number)?;
            let receipts = next("receipts of block", number)?;
            Ok(RawBundle { number, provider: provider.clone(), block, receipts })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Result<Box<RawValue>, String> {
        Ok(RawValue::from_string(text.into()).unwrap())
    }

    #[test]
    fn results_become_bundles_in_order() {
        let results = vec![raw("{}"), raw("[]"), raw(r#"{"a":1}"#), raw("[1]")];
        let bundles = bundles(7..9, BatchAnswer { provider: "a".into(), results }).unwrap();
        assert_eq!((bundles[1].number, bundles[1].receipts.get()), (8, "[1]"));
        assert_eq!(bundles[1].size(), 10);
    }

    #[test]
    fn absent_blocks_name_provider_and_height() {
        let answer = |results| BatchAnswer { provider: "a".into(), results };
        assert_eq!(
            bundles(7..8, answer(vec![raw("null"), raw("[]")])).unwrap_err(),
            "provider a has no block 7: it answered null"
        );
        assert!(
            bundles(7..8, answer(vec![raw("{}"), Err("-32601".into())]))
                .unwrap_err()
                .contains("receipts of block 7")
        );
        assert!(bundles(7..8, answer(vec![raw("{}")])).unwrap_err().contains("did not answer"));
    }
}
