//! Asking a pool: its providers in order, until one answers for good.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    order::{Standing, order},
    provider::{Provider, tried},
    registry::Pool,
    upstream::Reply,
};
use crate::rpc::{answer::Outcome, request::RpcRequest};

/// An answer for the caller.
#[derive(Debug)]
pub struct Answer {
    /// As the provider sent it.
    pub body: Bytes,
    /// Who.
    pub provider: String,
}

/// Nobody answered.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// All providers are cordoned or refused.
    #[error("RpcPool {pool} has no usable provider: {states}")]
    NoProvider {
        /// `namespace/name`.
        pool: String,
        /// Each provider with its state.
        states: String,
    },
    /// All were too busy, here or there.
    #[error("RpcPool {pool}: every provider is at its limit: {tried}")]
    Limited {
        /// `namespace/name`.
        pool: String,
        /// Each provider with what it said.
        tried: String,
    },
    /// Somebody had an answer, but a larger one than may be read.
    #[error("RpcPool {pool}: the answer is larger than may be read; ask for less at once: {tried}")]
    TooLarge {
        /// `namespace/name`.
        pool: String,
        /// Each provider with what it said.
        tried: String,
    },
    /// All failed.
    #[error("RpcPool {pool}: no provider answered: {tried}")]
    Failed {
        /// `namespace/name`.
        pool: String,
        /// Each provider with what it said.
        tried: String,
    },
}

/// Asks the pool's providers one after the other. An answer that says "not here" or a provider's own JSON-RPC error is
/// handed on only when nobody has a better one.
///
/// # Errors
/// When no provider gave a JSON-RPC answer.
pub async fn call(pool: &Pool, request: &RpcRequest, avoid: &[String]) -> Result<Answer, CallError> {
    let candidates = candidates(pool, avoid);
    if candidates.is_empty() {
        return Err(no_provider(pool));
    }
    let timeout = Duration::from_millis(pool.config.timeout_ms.max(1));
    let (mut second_best, mut failures) = (None::<(Outcome, Answer)>, Vec::new());
    let (mut all_limited, mut too_large) = (true, false);
    for provider in &candidates {
        let name = &provider.config.name;
        let Reply { verdict, body, .. } = provider.ask(request, timeout).await;
        let answer = body.map(|body| Answer { body, provider: name.clone() });
        match (verdict.outcome, answer) {
            (outcome, Some(answer)) if outcome.is_final() => return Ok(answer),
            // "Not here" from one provider is better news than another's internal error.
            (Outcome::Missing, Some(answer)) => second_best = Some((Outcome::Missing, answer)),
            (Outcome::ProviderError, Some(answer)) if second_best.is_none() => {
                second_best = Some((Outcome::ProviderError, answer));
            }
            _ => {}
        }
        too_large |= verdict.outcome == Outcome::TooLarge;
        all_limited &= matches!(verdict.outcome, Outcome::Busy | Outcome::RateLimited);
        tracing::debug!(
            provider = name,
            outcome = verdict.outcome.label(),
            detail = verdict.detail,
            "asking the next provider"
        );
        failures.push(tried(name, &verdict));
    }
    if let Some((_, answer)) = second_best {
        return Ok(answer);
    }
    let (pool, tried) = (pool.title(), failures.join("; "));
    Err(match (all_limited, too_large) {
        (true, _) => CallError::Limited { pool, tried },
        (false, true) => CallError::TooLarge { pool, tried },
        (false, false) => CallError::Failed { pool, tried },
    })
}

fn candidates(pool: &Pool, avoid: &[String]) -> Vec<Arc<Provider>> {
    let standings: Vec<Standing> = pool
        .providers
        .iter()
        .map(|p| Standing { state: p.state(), avoided: avoid.contains(&p.config.name) })
        .collect();
    order(&standings).into_iter().map(|i| Arc::clone(&pool.providers[i])).collect()
}

fn no_provider(pool: &Pool) -> CallError {
    let states = pool.providers.iter().map(|p| {
        let report = p.report();
        format!("{} is {:?} ({})", report.provider, report.state, report.message)
    });
    CallError::NoProvider { pool: pool.title(), states: states.collect::<Vec<_>>().join("; ") }
}
