//! RpcPools: their URLs are copied into Secrets Manager, their config into the state for the gateway.
//!
//! The controller is the only process that reads Kubernetes Secrets, only those with the label, and it writes URLs with keys
//! nowhere but into Secrets Manager: not into Postgres, a log, a status or a tag.

mod apply;
mod decide;
mod observe;
mod status;
mod validate;

use std::collections::BTreeSet;

use dagwright_crds::{RpcPool, RpcPoolStatus, rpc_pool::UrlSource};
use dagwright_state::desired::rpc_pools;

use super::place;
use crate::{
    context::Context,
    engine::{Cleanup, Kind, Pass, Verdict},
    error::PassError,
    references::Target,
    watch::SECRET,
};

/// RpcPools.
pub struct RpcPools;

impl Kind for RpcPools {
    type Object = RpcPool;
    type Status = RpcPoolStatus;
    const KIND: &'static str = "RpcPool";
    const FINALIZER: bool = true;

    /// 1. Read Secrets, their copies and what the gateway reported.
    /// 2. Check.
    /// 3. Decide which copies to write or remove.
    /// 4. Do it, then write the config that names them.
    /// 5. Say how the providers are.
    async fn reconcile(ctx: &Context, pool: &RpcPool) -> Result<Pass<RpcPoolStatus>, PassError> {
        let seen = observe::observe(ctx, pool).await?;
        let wanted = match validate::validate(ctx, pool, &seen) {
            Ok(wanted) => wanted,
            Err(stall) => {
                return Ok(Pass { status: status::of(pool, &seen), ..Pass::of(Verdict::Stalled(stall)) });
            }
        };
        let plan = decide::decide(&wanted, &seen);
        apply::apply(ctx, pool, &wanted, plan).await?;
        Ok(status::pass(pool, &seen))
    }

    /// The copies go, then the config.
    async fn cleanup(ctx: &Context, pool: &RpcPool) -> Result<Cleanup, PassError> {
        let (namespace, name) = place(pool);
        let mut copies: BTreeSet<String> = observe::stored_copies(ctx, pool).await?;
        copies.extend(pool.spec.providers.iter().filter_map(|p| match p.url {
            UrlSource::SecretKeyRef(_) => Some(observe::copy_name(ctx, pool, &p.name)),
            UrlSource::Value(_) => None,
        }));
        for copy in copies {
            apply::remove_copy(ctx, pool, &copy).await?;
        }
        let mut tx = ctx.write().await?;
        rpc_pools::delete(&mut tx, &namespace, &name).await?;
        ctx.commit(tx).await?;
        Ok(Cleanup::Done)
    }

    /// A Secret that a provider names.
    fn references(pool: &RpcPool) -> Vec<Target> {
        let (namespace, _) = place(pool);
        let secrets = pool.spec.providers.iter().filter_map(|p| match &p.url {
            UrlSource::SecretKeyRef(s) => Some((SECRET, namespace.clone(), s.name.clone())),
            UrlSource::Value(_) => None,
        });
        secrets.collect()
    }
}
