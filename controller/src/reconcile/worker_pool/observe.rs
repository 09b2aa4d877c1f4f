use dagwright_aws::{
    queues::QueueState, secrets::SecretState, services::ServiceState, task_definitions::TaskDefinitionState,
};
use dagwright_core::ids::PoolId;
use dagwright_crds::WorkerPool;
use dagwright_state::{
    desired::pools,
    status::{self, PoolProgress},
};
use kube::ResourceExt;

use super::{decide::TOKEN_TAG, validate::Wanted};
use crate::{context::Context, error::PassError};

/// What AWS and the state hold of a pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub(super) cluster_exists: bool,
    pub(super) queue: Option<QueueState>,
    pub(super) dead_letters: Option<QueueState>,
    pub(super) secret: Option<SecretState>,
    /// Whether the secret's token opens the pool.
    pub(super) token_known: bool,
    pub(super) task_definition: Option<TaskDefinitionState>,
    pub(super) service: Option<ServiceState>,
}

impl Observed {
    /// The service, of a pool that runs as one.
    pub(super) fn own_service(&self, wanted: &Wanted) -> Option<&ServiceState> {
        self.service.as_ref().filter(|_| wanted.service_count.is_some())
    }
}

pub(super) fn pool_id(ctx: &Context, pool: &WorkerPool) -> PoolId {
    PoolId::of(ctx.cluster_id, &pool.uid().unwrap_or_default())
}

pub(super) async fn observe(ctx: &Context, wanted: &Wanted) -> Result<Observed, PassError> {
    let (aws, name, dlq) = (&ctx.aws, wanted.aws_name.as_str(), wanted.dead_letter_name());
    let cluster = wanted.cluster.as_str();
    let (cluster_exists, queue, dead_letters, secret, task_definition, service) = tokio::try_join!(
        ctx.ask("describe cluster", cluster, aws.services.cluster_exists(cluster)),
        ctx.ask("describe queue", name, aws.queues.describe(name)),
        ctx.ask("describe queue", &dlq, aws.queues.describe(&dlq)),
        ctx.ask("describe secret", &wanted.secret_name, aws.secrets.describe(&wanted.secret_name)),
        ctx.ask("describe task definition", name, aws.task_definitions.latest(name)),
        ctx.ask("describe service", name, aws.services.describe(cluster, name)),
    )?;
    let hash = secret.as_ref().and_then(|s| s.tags.get(TOKEN_TAG)).and_then(|h| hex::decode(h).ok());
    let token_known = match hash {
        Some(hash) => pools::token_known(&mut *ctx.read().await?, wanted.pool_id, &hash).await?,
        None => false,
    };
    Ok(Observed { cluster_exists, queue, dead_letters, secret, token_known, task_definition, service })
}

/// How much waits and who works.
pub(super) async fn progress(ctx: &Context, wanted: &Wanted) -> Result<PoolProgress, PassError> {
    progress_of(ctx, wanted.pool_id).await
}

pub(super) async fn progress_of(ctx: &Context, id: PoolId) -> Result<PoolProgress, PassError> {
    Ok(status::pool(&mut *ctx.read().await?, id).await?.unwrap_or_default())
}
