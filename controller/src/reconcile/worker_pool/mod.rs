//! WorkerPools: a queue with its dead-letter queue, a token, a task definition and an ECS service.
//!
//! A pass observes, decides what is missing or differs, does it, and looks again, until nothing is left to do: each round
//! needs what the one before made (the queue's redrive policy the dead-letter queue's ARN, the service the task definition).
//! The service's desired count belongs to the dispatcher's scaler; nothing here changes it after creation.

mod apply;
mod decide;
mod observe;
mod status;
mod validate;

use std::time::Duration;

use dagwright_crds::{WorkerPool, WorkerPoolStatus, common::DeletionPolicy, conditions as c};
use dagwright_state::desired::pools;

use super::place;
use crate::{
    context::Context,
    engine::{Cleanup, Kind, OUTSIDE, Pass, Verdict},
    error::PassError,
};

/// WorkerPools.
pub struct WorkerPools;

/// Rounds of one pass: token and queues, task definition, service, and one to see that nothing is left.
const ROUNDS: usize = 6;

impl Kind for WorkerPools {
    type Object = WorkerPool;
    type Status = WorkerPoolStatus;
    const KIND: &'static str = "WorkerPool";
    const FINALIZER: bool = true;

    /// 1. Fill in the defaults.
    /// 2. Write the pool's row.
    /// 3. Observe, decide, apply, until nothing differs.
    /// 4. Note where things are.
    /// 5. Say how the pool is.
    async fn reconcile(ctx: &Context, pool: &WorkerPool) -> Result<Pass<WorkerPoolStatus>, PassError> {
        let wanted = match validate::validate(ctx, pool) {
            Ok(wanted) => wanted,
            Err(stall) => return stalled(ctx, pool, stall).await,
        };
        apply::row(ctx, &wanted).await?;
        let mut corrected = vec![];
        for _ in 0..ROUNDS {
            let seen = observe::observe(ctx, &wanted).await?;
            if let Err(stall) = validate::owned(&wanted, &seen) {
                return stalled(ctx, pool, stall).await;
            }
            let plan = decide::decide(&wanted, &seen);
            if plan.actions.is_empty() {
                apply::addresses(ctx, &wanted, &seen).await?;
                let progress = observe::progress(ctx, &wanted).await?;
                return Ok(status::pass(pool, &seen, &progress, plan.waiting, corrected));
            }
            corrected.extend(plan.actions.iter().filter(|a| a.corrects()).map(|a| a.name().to_owned()));
            apply::apply(ctx, &wanted, plan.actions).await?;
        }
        Err(PassError::Unsettled { object: wanted.aws_name, step: corrected.join(", ") })
    }

    /// The service goes first, so that no worker starts any more; then task definition, queues, token; the row last.
    async fn cleanup(ctx: &Context, pool: &WorkerPool) -> Result<Cleanup, PassError> {
        let id = observe::pool_id(ctx, pool);
        if pool.spec.deletion_policy() == DeletionPolicy::Delete
            && apply::tear_down(ctx, pool).await? == apply::Gone::NotYet
        {
            return Ok(Cleanup::Waiting {
                reason: c::PROGRESSING,
                message: "the service's last workers stop".into(),
                again: Duration::from_secs(5),
            });
        }
        let mut tx = ctx.write().await?;
        pools::delete(&mut tx, id).await?;
        ctx.commit(tx).await?;
        Ok(Cleanup::Done)
    }
}

async fn stalled(
    ctx: &Context,
    pool: &WorkerPool,
    stall: crate::engine::Stall,
) -> Result<Pass<WorkerPoolStatus>, PassError> {
    let (namespace, name) = place(pool);
    tracing::debug!(namespace, name, stall.message, "worker pool is stalled");
    let status = status::kept(pool, &observe::progress_of(ctx, observe::pool_id(ctx, pool)).await?);
    Ok(Pass { status, again: OUTSIDE, ..Pass::of(Verdict::Stalled(stall)) })
}
