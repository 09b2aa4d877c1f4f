use dagwright_contracts::gateway::{ProviderConfig, ProviderUrl, RpcPoolConfig};
use dagwright_core::ids::RpcPoolId;
use dagwright_crds::{RpcPool, rpc_pool::UrlSource};
use dagwright_state::desired::rpc_pools;
use serde_json::json;

use super::{
    decide::{Action, SOURCE_TAG},
    validate::{Copy, Wanted},
};
use crate::{context::Context, error::PassError, reconcile::place};

/// Copies first, then the config that names their versions: the gateway never reads a name that has no value. Copies of
/// providers that are gone are removed last, when no config names them.
pub(super) async fn apply(
    ctx: &Context,
    pool: &RpcPool,
    wanted: &Wanted,
    plan: Vec<Action>,
) -> Result<(), PassError> {
    let mut gone = vec![];
    for action in plan {
        match action {
            Action::Create(copy) => {
                let tags = tags(ctx, pool, &copy);
                let call = ctx.aws.secrets.create(&copy.name, &copy.url.0, &tags);
                ctx.effect(&copy.name, "create secret", call).await?;
            }
            Action::Update(copy) => {
                let tags = tags(ctx, pool, &copy);
                ctx.effect(
                    &copy.name,
                    "put secret value",
                    ctx.aws.secrets.put(&copy.name, &copy.url.0, &tags),
                )
                .await?;
            }
            Action::Remove(copy) => gone.push(copy),
        }
    }
    let config = config(ctx, pool, wanted).await?;
    let row = rpc_pools::RpcPool {
        rpc_pool_id: RpcPoolId::of(ctx.cluster_id, &config.namespace, &config.name),
        namespace: config.namespace.clone(),
        name: config.name.clone(),
        chain_id: pool.spec.chain.id,
        config: json!(config),
        generation: pool.metadata.generation.unwrap_or(0),
    };
    let mut tx = ctx.write().await?;
    rpc_pools::upsert(&mut tx, &row).await?;
    ctx.commit(tx).await?;
    for copy in gone {
        remove_copy(ctx, pool, &copy).await?;
    }
    Ok(())
}

/// Removes a copy, if it is ours.
pub(super) async fn remove_copy(ctx: &Context, pool: &RpcPool, copy: &str) -> Result<(), PassError> {
    let (namespace, name) = place(pool);
    let owner = ctx.owner("RpcPool", &namespace, &name);
    let state = ctx.ask("describe secret", copy, ctx.aws.secrets.describe(copy)).await?;
    if state.is_some_and(|s| s.tags.get(crate::context::OWNER_TAG) == Some(&owner)) {
        ctx.effect(copy, "delete secret", ctx.aws.secrets.delete(copy)).await?;
    }
    Ok(())
}

fn tags(ctx: &Context, pool: &RpcPool, copy: &Copy) -> std::collections::BTreeMap<String, String> {
    let (namespace, name) = place(pool);
    let mut tags = ctx.owner_tags("RpcPool", &namespace, &name);
    tags.insert(SOURCE_TAG.into(), copy.version.clone());
    tags
}

async fn config(ctx: &Context, pool: &RpcPool, wanted: &Wanted) -> Result<RpcPoolConfig, PassError> {
    let (namespace, name) = place(pool);
    let mut providers = vec![];
    for provider in &pool.spec.providers {
        let url = match (&provider.url, wanted.copies.get(&provider.name)) {
            (UrlSource::Value(url), _) => ProviderUrl::Value(url.clone()),
            (UrlSource::SecretKeyRef(_), Some(copy)) => {
                let state =
                    ctx.ask("describe secret", &copy.name, ctx.aws.secrets.describe(&copy.name)).await?;
                let unsettled =
                    || PassError::Unsettled { object: copy.name.clone(), step: "secret version".into() };
                let state = state.ok_or_else(unsettled)?;
                ProviderUrl::Secret { arn: state.arn, version: state.version.ok_or_else(unsettled)? }
            }
            (UrlSource::SecretKeyRef(_), None) => continue,
        };
        providers.push(ProviderConfig {
            name: provider.name.clone(),
            url,
            max_requests_per_second: provider.max_requests_per_second,
            max_concurrent: provider.max_concurrent,
        });
    }
    Ok(RpcPoolConfig {
        namespace,
        name,
        chain_id: u64::try_from(pool.spec.chain.id).unwrap_or_default(),
        providers,
        timeout_ms: u64::try_from(pool.spec.timeout().as_millis()).unwrap_or(u64::MAX),
        cordon_on_verification_failure: pool.spec.cordons(),
        cordon_seconds: pool.spec.cordon_for().as_secs(),
    })
}
