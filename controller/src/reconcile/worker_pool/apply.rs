use std::collections::BTreeMap;

use dagwright_aws::services::Capacity;
use dagwright_contracts::token::{pool_token, token_hash};
use dagwright_core::names::aws_name;
use dagwright_crds::WorkerPool;
use dagwright_state::{
    desired::pools,
    pools::{Launch, Share},
};
use rand::TryRngCore;

use super::{
    decide::{Action, TOKEN_TAG},
    observe::Observed,
    validate::Wanted,
};
use crate::{
    context::{Context, OWNER_TAG},
    error::PassError,
    reconcile::place,
};

/// Writes the pool's row: tokens and jobs refer to it.
pub(super) async fn row(ctx: &Context, wanted: &Wanted) -> Result<(), PassError> {
    let row = pools::Pool {
        pool_id: wanted.pool_id,
        namespace: wanted.namespace.clone(),
        name: wanted.name.clone(),
        slots: i32::try_from(wanted.slots).unwrap_or(i32::MAX),
        run: wanted.run.clone(),
        lease_seconds: i32::try_from(wanted.lease_seconds).unwrap_or(i32::MAX),
        generation: wanted.generation,
    };
    let mut tx = ctx.write().await?;
    pools::upsert(&mut tx, &row).await?;
    ctx.commit(tx).await
}

/// Does what was decided, in its order.
pub(super) async fn apply(ctx: &Context, wanted: &Wanted, actions: Vec<Action>) -> Result<(), PassError> {
    let (aws, tags) = (&ctx.aws, BTreeMap::from([(OWNER_TAG.to_owned(), wanted.owner.clone())]));
    for action in actions {
        let name = action.name();
        match action {
            Action::CreateQueue { name: queue, attributes } => {
                ctx.effect(&queue, name, aws.queues.create(&queue, &attributes, &tags)).await?;
            }
            Action::SetQueueAttributes { url, attributes } => {
                ctx.effect(&url, name, aws.queues.set_attributes(&url, &attributes)).await?;
            }
            Action::RotateToken { exists } => rotate_token(ctx, wanted, exists).await?,
            Action::Register(definition) => {
                ctx.effect(&definition.family, name, aws.task_definitions.register(&definition)).await?;
            }
            Action::CreateService(service) => {
                let count = wanted.service_count.unwrap_or(0);
                let call = aws.services.create(&wanted.cluster, &service, count);
                ctx.effect(&service.name, name, call).await?;
            }
            Action::UpdateService(service) => {
                ctx.effect(&service.name, name, aws.services.update(&wanted.cluster, &service)).await?;
            }
            Action::DeleteService { name: service } => {
                ctx.effect(&service, name, aws.services.delete(&wanted.cluster, &service)).await?;
            }
        }
    }
    Ok(())
}

/// The hash is let in before the secret is written: a worker never holds a token that opens nothing. A crash in between leaves
/// a hash that nobody has the token of, and the next pass writes another one.
async fn rotate_token(ctx: &Context, wanted: &Wanted, exists: bool) -> Result<(), PassError> {
    let mut random = [0u8; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut random).map_err(|e| PassError::Unsettled {
        object: wanted.secret_name.clone(),
        step: format!("draw a token: {e}"),
    })?;
    let token = pool_token(random);
    let hash = token_hash(&token);
    let mut tx = ctx.write().await?;
    pools::add_token(&mut tx, wanted.pool_id, &hash).await?;
    ctx.commit(tx).await?;
    let tags = BTreeMap::from([
        (OWNER_TAG.to_owned(), wanted.owner.clone()),
        (TOKEN_TAG.to_owned(), hex::encode(hash)),
    ]);
    let (secrets, name) = (&ctx.aws.secrets, wanted.secret_name.as_str());
    if exists {
        ctx.effect(name, "put secret value", secrets.put(name, &token, &tags)).await
    } else {
        ctx.effect(name, "create secret", secrets.create(name, &token, &tags)).await
    }
}

/// Tells the dispatcher where the pool's queue and service are.
pub(super) async fn addresses(ctx: &Context, wanted: &Wanted, seen: &Observed) -> Result<(), PassError> {
    let at = pools::Addresses {
        queue_url: seen.queue.as_ref().map(|q| q.url.clone()),
        dead_letter_queue_url: seen.dead_letters.as_ref().map(|q| q.url.clone()),
        ecs_cluster: Some(wanted.cluster.clone()),
        service_arn: seen.own_service(wanted).map(|s| s.arn.clone()),
        launch: seen.task_definition.as_ref().map(|d| launch(wanted, &d.arn)),
    };
    let mut tx = ctx.write().await?;
    pools::set_addresses(&mut tx, wanted.pool_id, &at).await?;
    ctx.commit(tx).await
}

/// What the dispatcher starts workers with.
fn launch(wanted: &Wanted, task_definition_arn: &str) -> Launch {
    let share = |c: &Capacity| Share { provider: c.provider.clone(), weight: c.weight, base: c.base };
    Launch {
        family: wanted.aws_name.clone(),
        task_definition_arn: task_definition_arn.to_owned(),
        subnets: wanted.network.subnets.clone(),
        security_groups: wanted.network.security_groups.clone(),
        assign_public_ip: wanted.network.assign_public_ip,
        capacity: wanted.capacity.iter().map(share).collect(),
    }
}

/// Whether a pool's AWS resources are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    All,
    NotYet,
}

/// Removes what is ours under the pool's name, whatever of it there is.
pub(super) async fn tear_down(ctx: &Context, pool: &WorkerPool) -> Result<Gone, PassError> {
    let (namespace, name) = place(pool);
    let owner = ctx.owner("WorkerPool", &namespace, &name);
    let (aws, cluster) = (&ctx.aws, ctx.workers.ecs_cluster.as_str());
    let resource = aws_name(&ctx.cluster, &namespace, &name);
    let ours = |tags: &BTreeMap<String, String>| tags.get(OWNER_TAG) == Some(&owner);
    if ctx.ask("describe cluster", cluster, aws.services.cluster_exists(cluster)).await? {
        let service =
            ctx.ask("describe service", &resource, aws.services.describe(cluster, &resource)).await?;
        if let Some(service) = service.filter(|s| ours(&s.tags)) {
            if service.life == dagwright_aws::services::Life::Active {
                ctx.effect(&resource, "delete service", aws.services.delete(cluster, &resource)).await?;
            }
            let after =
                ctx.ask("describe service", &resource, aws.services.describe(cluster, &resource)).await?;
            if after.is_some_and(|s| s.running > 0) {
                return Ok(Gone::NotYet);
            }
        }
    }
    if single_tasks_left(ctx, cluster, &resource).await? {
        return Ok(Gone::NotYet);
    }
    if ctx.ask("describe task definition", &resource, aws.task_definitions.latest(&resource)).await?.is_some()
    {
        ctx.effect(&resource, "deregister task definitions", aws.task_definitions.deregister_all(&resource))
            .await?;
    }
    for queue in [resource.clone(), format!("{resource}-dlq")] {
        let state = ctx.ask("describe queue", &queue, aws.queues.describe(&queue)).await?;
        if let Some(state) = state.filter(|q| ours(&q.tags)) {
            ctx.effect(&queue, "delete queue", aws.queues.delete(&state.url)).await?;
        }
    }
    let secret = format!("dagwright/{}/{namespace}/pools/{name}/token", ctx.cluster);
    let state = ctx.ask("describe secret", &secret, aws.secrets.describe(&secret)).await?;
    if state.is_some_and(|s| ours(&s.tags)) {
        ctx.effect(&secret, "delete secret", aws.secrets.delete(&secret)).await?;
    }
    Ok(Gone::All)
}

/// Stops the tasks of the pool's family that belong to no service: they hand back what they hold.
async fn single_tasks_left(ctx: &Context, cluster: &str, family: &str) -> Result<bool, PassError> {
    let tasks = &ctx.aws.worker_tasks;
    let left = ctx.ask("list tasks of family", family, tasks.of_family(cluster, family, false)).await?;
    for task in &left {
        ctx.effect(&task.arn, "stop task", tasks.stop(cluster, &task.arn, "the WorkerPool is deleted"))
            .await?;
    }
    Ok(!left.is_empty())
}
