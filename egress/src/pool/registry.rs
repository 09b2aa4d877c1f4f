//! All pools and callers of the newest config. A new config keeps what is known of the providers that it does not change.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use dagwright_contracts::gateway::{GatewayConfig, RpcPoolConfig};

use super::provider::{Provider, Shared};

/// One pool at run time.
pub struct Pool {
    /// As configured.
    pub config: RpcPoolConfig,
    /// In order of preference.
    pub providers: Vec<Arc<Provider>>,
}

impl Pool {
    /// `namespace/name`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}/{}", self.config.namespace, self.config.name)
    }
}

/// What the newest config says.
#[derive(Default)]
pub struct Snapshot {
    /// By namespace and name.
    pub pools: HashMap<(String, String), Arc<Pool>>,
    /// Namespace that a token's hash opens.
    pub callers: HashMap<String, String>,
}

/// The newest snapshot, replaced as a whole.
pub struct Registry {
    shared: Shared,
    current: RwLock<Arc<Snapshot>>,
}

impl Registry {
    /// No pools yet.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self { shared, current: RwLock::default() }
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a new config.
    pub fn replace(&self, config: GatewayConfig) {
        let old = self.snapshot();
        let pools = config.pools.into_iter().map(|pool| {
            let key = (pool.namespace.clone(), pool.name.clone());
            let known = old.pools.get(&key);
            let providers = pool.providers.iter().map(|wanted| {
                let same = |p: &&Arc<Provider>| p.config == *wanted && p.chain_id == pool.chain_id;
                let kept = known.and_then(|old| old.providers.iter().find(same)).cloned();
                kept.unwrap_or_else(|| {
                    Arc::new(Provider::new(key.clone(), pool.chain_id, wanted.clone(), self.shared.clone()))
                })
            });
            let providers = providers.collect();
            (key, Arc::new(Pool { config: pool, providers }))
        });
        let snapshot = Snapshot {
            pools: pools.collect(),
            callers: config
                .callers
                .into_iter()
                .map(|c| (c.token_sha256.to_ascii_lowercase(), c.namespace))
                .collect(),
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}
