//! One provider at run time: its URL, its limits, what is known of it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dagwright_aws::secret_read::SecretReader;
use dagwright_contracts::gateway::{ProviderConfig, ProviderHealth, ProviderState, ProviderUrl};
use reqwest::Url;
use time::OffsetDateTime;
use tokio::sync::{Notify, OnceCell, Semaphore, SemaphorePermit};

use super::{
    health::Health,
    limiter::TokenBucket,
    upstream::{Reply, Upstream, provider_url},
};
use crate::rpc::{
    answer::{self, Outcome, Verdict},
    request::RpcRequest,
};

/// HTTP requests at once when the pool does not say.
const DEFAULT_CONCURRENCY: u32 = 16;
/// Requests that may wait for a free place, per place. More would only wait to time out.
const WAITING_PER_SLOT: usize = 8;

/// What all providers share.
#[derive(Clone)]
pub struct Shared {
    /// The HTTP client.
    pub upstream: Upstream,
    /// Reads URLs that are secrets.
    pub secrets: SecretReader,
    /// Told when a provider's state changes.
    pub changed: Arc<Notify>,
}

/// One provider at run time.
pub struct Provider {
    /// Namespace and name of its pool.
    pub pool: (String, String),
    /// As configured.
    pub config: ProviderConfig,
    /// The chain that it has to serve.
    pub chain_id: u64,
    shared: Shared,
    url: OnceCell<Url>,
    chain_checked: AtomicBool,
    chain_check: tokio::sync::Mutex<()>,
    bucket: Option<Mutex<TokenBucket>>,
    slots: Semaphore,
    waiting: AtomicUsize,
    max_waiting: usize,
    known: Mutex<Known>,
}

struct Known {
    health: Health,
    state: ProviderState,
    since: OffsetDateTime,
}

impl Provider {
    /// Nothing is known of it yet.
    #[must_use]
    pub fn new(pool: (String, String), chain_id: u64, config: ProviderConfig, shared: Shared) -> Self {
        let slots = config.max_concurrent.unwrap_or(DEFAULT_CONCURRENCY).max(1) as usize;
        let bucket =
            config.max_requests_per_second.map(|rate| Mutex::new(TokenBucket::new(rate, Instant::now())));
        let known = Known {
            health: Health::default(),
            state: ProviderState::Unknown,
            since: OffsetDateTime::now_utc(),
        };
        Self {
            pool,
            config,
            chain_id,
            shared,
            url: OnceCell::new(),
            chain_checked: AtomicBool::new(false),
            chain_check: tokio::sync::Mutex::new(()),
            bucket,
            slots: Semaphore::new(slots),
            waiting: AtomicUsize::new(0),
            max_waiting: slots * WAITING_PER_SLOT,
            known: Mutex::new(known),
        }
    }

    /// Its state now.
    pub fn state(&self) -> ProviderState {
        self.known().health.state(Instant::now())
    }

    /// Whether it told us to slow down.
    pub fn is_limited(&self) -> bool {
        self.known().health.is_limited(Instant::now())
    }

    /// Asks it, after making sure that it serves the right chain, and takes note of how it went.
    pub async fn ask(&self, request: &RpcRequest, timeout: Duration) -> Reply {
        let reply = match self.ready(timeout).await {
            Ok(url) => self.limited(url, request, timeout).await,
            Err(reply) => reply,
        };
        self.record(request, &reply);
        reply
    }

    /// Asks for its head, so that a provider without traffic has a state too.
    pub async fn probe(&self, timeout: Duration) {
        let reply = self.ask(&RpcRequest::own("eth_blockNumber"), timeout).await;
        if let Some(head) = reply.body.as_deref().and_then(answer::quantity) {
            self.known().health.head = Some(head);
        }
    }

    /// Not to be used for `duration`, because it fed wrong data.
    pub fn cordon(&self, duration: Duration, message: String) {
        let now = Instant::now();
        self.known().health.cordon(now + duration, message);
        metrics::counter!("dagwright_rpc_cordons_total").increment(1);
        self.notice_change();
    }

    /// For the report to the dispatcher.
    pub fn report(&self) -> ProviderHealth {
        self.notice_change();
        let (known, now) = (self.known(), Instant::now());
        ProviderHealth {
            namespace: self.pool.0.clone(),
            pool: self.pool.1.clone(),
            provider: self.config.name.clone(),
            state: known.state,
            head: known.health.head,
            error_rate_percent: known.health.error_rate_percent(now),
            message: known.health.message(now).to_owned(),
            since: known.since,
        }
    }

    /// The URL of a provider that is known to serve the right chain.
    async fn ready(&self, timeout: Duration) -> Result<&Url, Reply> {
        let url = self.url.get_or_try_init(|| self.read_url()).await;
        let url = url.map_err(|why| Reply::without_body(Outcome::NoUrl, why))?;
        if self.chain_checked.load(Ordering::Acquire) {
            return Ok(url);
        }
        let _one_at_a_time = self.chain_check.lock().await;
        if self.chain_checked.load(Ordering::Acquire) {
            return Ok(url);
        }
        let reply = self.limited(url, &RpcRequest::own("eth_chainId"), timeout).await;
        if !reply.verdict.outcome.is_final() {
            return Err(reply);
        }
        match reply.body.as_deref().and_then(answer::quantity) {
            Some(id) if id == self.chain_id => {
                self.chain_checked.store(true, Ordering::Release);
                Ok(url)
            }
            Some(id) => {
                let why = format!("it serves chain id {id}; the pool is for {}", self.chain_id);
                Err(Reply::without_body(Outcome::WrongChain, why))
            }
            None => Err(Reply::without_body(Outcome::Garbage, "eth_chainId was not answered with a number")),
        }
    }

    async fn read_url(&self) -> Result<Url, String> {
        match &self.config.url {
            ProviderUrl::Value(text) => {
                provider_url(text).map_err(|why| format!("its URL cannot be used: {why}"))
            }
            ProviderUrl::Secret { arn, version } => {
                let value =
                    self.shared.secrets.read(arn, version).await.map_err(|error| error.to_string())?;
                provider_url(value.expose())
                    .map_err(|why| format!("the URL in secret {arn} cannot be used: {why}"))
            }
        }
    }

    /// Asks within the provider's limits.
    async fn limited(&self, url: &Url, request: &RpcRequest, timeout: Duration) -> Reply {
        let started = tokio::time::Instant::now();
        let Some(_permit) = self.permit(timeout).await else {
            return Reply::without_body(Outcome::Busy, "its maxConcurrent is used up and its queue is full");
        };
        if let Some(bucket) = &self.bucket {
            let patience = timeout.saturating_sub(started.elapsed());
            let wait = lock(bucket).take(request.calls.len(), Instant::now(), patience);
            let Some(wait) = wait else {
                return Reply::without_body(Outcome::Busy, "its maxRequestsPerSecond is used up");
            };
            tokio::time::sleep(wait).await;
        }
        let sent = Instant::now();
        let reply = self.shared.upstream.post(url, request, timeout).await;
        metrics::histogram!("dagwright_rpc_upstream_seconds", "outcome" => reply.verdict.outcome.label())
            .record(sent.elapsed().as_secs_f64());
        reply
    }

    async fn permit(&self, patience: Duration) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.slots.try_acquire() {
            return Some(permit);
        }
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.max_waiting {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let _leave = Waiting(&self.waiting);
        tokio::time::timeout(patience, self.slots.acquire()).await.ok()?.ok()
    }

    fn record(&self, request: &RpcRequest, reply: &Reply) {
        let outcome = reply.verdict.outcome;
        for call in &request.calls {
            let method = crate::rpc::method::label(&call.method);
            metrics::counter!("dagwright_rpc_upstream_calls_total", "method" => method, "outcome" => outcome.label())
                .increment(1);
        }
        if outcome.forgets_chain() {
            self.chain_checked.store(false, Ordering::Release);
        }
        self.known().health.record(&reply.verdict, reply.retry_after, Instant::now());
        self.notice_change();
    }

    /// Compares the state with the one last noticed, because a cordon ends without an event.
    fn notice_change(&self) {
        let (old, state, message) = {
            let mut known = self.known();
            let now = Instant::now();
            let state = known.health.state(now);
            if state == known.state {
                return;
            }
            known.since = OffsetDateTime::now_utc();
            (std::mem::replace(&mut known.state, state), state, known.health.message(now).to_owned())
        };
        let (namespace, pool, provider) = (&self.pool.0, &self.pool.1, &self.config.name);
        tracing::info!(namespace, pool, provider, from = ?old, to = ?state, message, "provider changed state");
        for (other, value) in [(old, 0.0), (state, 1.0)] {
            // Providers are few and named by operators: the one place where object names are labels.
            metrics::gauge!(
                "dagwright_rpc_provider_state",
                "namespace" => namespace.clone(), "pool" => pool.clone(), "provider" => provider.clone(),
                "state" => state_label(other)
            )
            .set(value);
        }
        self.shared.changed.notify_one();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A poisoned lock here guards counters, which are still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn state_label(state: ProviderState) -> &'static str {
    match state {
        ProviderState::Healthy => "healthy",
        ProviderState::Degraded => "degraded",
        ProviderState::Cordoned => "cordoned",
        ProviderState::Refused => "refused",
        ProviderState::Unknown => "unknown",
    }
}

/// For reports of failed calls: `alchemy: HTTP 503`.
#[must_use]
pub fn tried(name: &str, verdict: &Verdict) -> String {
    format!("{name}: {}", verdict.detail)
}
