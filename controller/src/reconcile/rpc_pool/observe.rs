use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use dagwright_aws::secrets::SecretState;
use dagwright_contracts::gateway::{ProviderUrl, RpcPoolConfig};
use dagwright_core::ids::RpcPoolId;
use dagwright_crds::{RPC_KEY_LABEL, RpcPool, common::SecretKeyRef, rpc_pool::UrlSource};
use dagwright_state::desired::rpc_pools::{self, Health};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use crate::{context::Context, engine::kube_call, error::PassError, reconcile::place};

/// What is known of a pool.
pub(super) struct Observed {
    /// By provider, for those whose URL is in a Secret.
    pub(super) sources: BTreeMap<String, Source>,
    /// Copies in Secrets Manager, by provider.
    pub(super) copies: BTreeMap<String, SecretState>,
    /// Copies that the stored config names, of whatever providers it had.
    pub(super) stored_copies: BTreeSet<String>,
    pub(super) health: Vec<Health>,
}

/// A Secret, as far as one provider is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Missing,
    NotLabelled,
    KeyMissing,
    Found {
        url: Url,
        /// Changes whenever the Secret does.
        version: String,
    },
}

/// A URL that may hold a key: it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url(pub(super) String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url(…)")
    }
}

/// Name of a provider's copy in Secrets Manager.
pub(super) fn copy_name(ctx: &Context, pool: &RpcPool, provider: &str) -> String {
    let (namespace, name) = place(pool);
    format!("dagwright/{}/{namespace}/{name}/{provider}", ctx.cluster)
}

pub(super) async fn observe(ctx: &Context, pool: &RpcPool) -> Result<Observed, PassError> {
    let (namespace, name) = place(pool);
    let (mut sources, mut copies) = (BTreeMap::new(), BTreeMap::new());
    for provider in &pool.spec.providers {
        let UrlSource::SecretKeyRef(reference) = &provider.url else { continue };
        sources.insert(provider.name.clone(), source(ctx, &namespace, reference).await?);
        let copy = copy_name(ctx, pool, &provider.name);
        if let Some(state) = ctx.ask("describe secret", &copy, ctx.aws.secrets.describe(&copy)).await? {
            copies.insert(provider.name.clone(), state);
        }
    }
    let stored_copies = stored_copies(ctx, pool).await?;
    let health = rpc_pools::health(&mut *ctx.read().await?, &namespace, &name).await?;
    Ok(Observed { sources, copies, stored_copies, health })
}

/// Names of the copies that the config in the state names.
pub(super) async fn stored_copies(ctx: &Context, pool: &RpcPool) -> Result<BTreeSet<String>, PassError> {
    let (namespace, name) = place(pool);
    let id = RpcPoolId::of(ctx.cluster_id, &namespace, &name);
    let stored = rpc_pools::config(&mut *ctx.read().await?, id).await?;
    let config: Option<RpcPoolConfig> = stored.and_then(|c| serde_json::from_value(c).ok());
    let providers = config.map(|c| c.providers).unwrap_or_default();
    let named = providers.into_iter().filter(|p| matches!(p.url, ProviderUrl::Secret { .. }));
    Ok(named.map(|p| copy_name(ctx, pool, &p.name)).collect())
}

async fn source(ctx: &Context, namespace: &str, reference: &SecretKeyRef) -> Result<Source, PassError> {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let Some(secret) = kube_call("read secret", &reference.name, api.get_opt(&reference.name)).await? else {
        return Ok(Source::Missing);
    };
    if !secret.labels().contains_key(RPC_KEY_LABEL) {
        return Ok(Source::NotLabelled);
    }
    let value = secret.data.as_ref().and_then(|d| d.get(&reference.key));
    let Some(url) = value.and_then(|v| String::from_utf8(v.0.clone()).ok()) else {
        return Ok(Source::KeyMissing);
    };
    let version =
        format!("{}/{}", secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
    Ok(Source::Found { url: Url(url.trim().to_owned()), version })
}
