//! Pools get the workers that our own backlog asks for: services by their desired count, others by single tasks. A count that
//! somebody else set is set back. Nothing here stops a worker that has not said that it is drained, nor a task that ECS does not list
//! for the pool: which task a worker runs in, it says itself, and a pool's token is no right to end another pool's work.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use dagwright_aws::{AwsError, Class, service_scale::ServiceCounts};
use dagwright_core::scale::{
    Run, Service, decide,
    roster::{self, Member, Moves},
};
use dagwright_state::{
    pools::{self, ScaledPool},
    workers::{self, Present},
};
use futures::{StreamExt as _, stream};

use super::{LoopError, Outcome, launcher, within};
use crate::dispatch::Dispatcher;

/// What a stopped worker's task says of its end.
const SCALED_IN: &str = "drained: fewer workers are wanted, or a newer revision runs";

/// Pools that are scaled at once.
const AT_ONCE: usize = 4;
/// For one pool. A call that is cut off is one whose answer was lost: its launch is looked for.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let began = Instant::now();
    let pools = pools::to_scale(&mut tx, |pool| dispatcher.hints.backlog(pool, began)).await?;
    let looked = Instant::now();
    for pool in &pools {
        dispatcher.hints.saw_backlog(pool.pool_id, &pool.first_waiting, began, looked);
    }
    workers::prune(&mut tx).await?;
    dagwright_state::commit(tx).await?;
    let mut by_cluster: BTreeMap<String, Vec<ScaledPool>> = BTreeMap::new();
    for pool in pools {
        let cluster = pool.ecs_cluster.clone().unwrap_or_else(|| dispatcher.args.ecs_cluster.clone());
        by_cluster.entry(cluster).or_default().push(pool);
    }
    let quarantine = &dispatcher.quarantines.scale;
    for (cluster, pools) in by_cluster {
        let name = format!("cluster {cluster}");
        if quarantine.admits(&name) {
            quarantine.note(&name, scale_cluster(&dispatcher, &cluster, &pools).await);
        }
    }
    Ok(())
}

async fn scale_cluster(dispatcher: &Dispatcher, cluster: &str, pools: &[ScaledPool]) -> Outcome {
    let arns: Vec<_> = pools.iter().filter_map(|p| p.service_arn.clone()).collect();
    let counts = within(LIMIT, async { Ok(dispatcher.scaler.counts(cluster, &arns).await?) }).await?;
    let scales = pools.iter().map(|pool| scale_admitted(dispatcher, cluster, pool, &counts));
    // None is cut off by the error of another.
    let outcomes: Vec<_> = stream::iter(scales.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await;
    outcomes.into_iter().collect()
}

async fn scale_admitted(
    dispatcher: &Dispatcher,
    cluster: &str,
    pool: &ScaledPool,
    counts: &HashMap<String, ServiceCounts>,
) -> Outcome {
    let quarantine = &dispatcher.quarantines.scale;
    if quarantine.admits(&pool.subject) {
        let outcome = within(LIMIT, Box::pin(scale(dispatcher, cluster, pool, counts))).await;
        if let Err(LoopError::Aws(error)) = &outcome {
            refused(dispatcher, pool, error).await?;
        }
        quarantine.note(&pool.subject, outcome);
    }
    Ok(())
}

async fn scale(
    dispatcher: &Dispatcher,
    cluster: &str,
    pool: &ScaledPool,
    counts: &HashMap<String, ServiceCounts>,
) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let present = workers::present(&mut tx, pool.pool_id, &pool.launch.task_definition_arn).await?;
    if let Some(since) = pool.starts.failed_at
        && workers::any_since(&mut tx, pool.pool_id, since).await?
    {
        pools::started(&mut tx, pool.pool_id).await?;
    }
    dagwright_state::commit(tx).await?;
    match (&pool.run, &pool.service_arn) {
        (Run::Service(service), Some(arn)) => match counts.get(arn) {
            Some(counts) => size(dispatcher, cluster, pool, service, arn, counts, &present).await,
            // It is being made anew; the controller sees to it.
            None => Ok(()),
        },
        (Run::OnDemand(on_demand), _) => {
            launcher::launch(dispatcher, cluster, pool, on_demand, &present).await
        }
        (Run::Service(_), None) => Ok(()),
    }
}

/// 1. Decide how many are wanted.
/// 2. When some do not come up, ask ECS why.
/// 3. Tell surplus workers to drain; stop those that are drained; then lower the count.
async fn size(
    dispatcher: &Dispatcher,
    cluster: &str,
    pool: &ScaledPool,
    service: &Service,
    arn: &str,
    counts: &ServiceCounts,
    present: &[Present],
) -> Outcome {
    let decision = decide(service, &pool.observed, pool.now);
    let members: Vec<Member> = present.iter().map(|p| p.member).collect();
    let current = members.iter().filter(|m| m.current).count();
    if usize::try_from(counts.desired).is_ok_and(|desired| desired > current) {
        explain(dispatcher, cluster, pool, counts.trouble.clone()).await?;
    }
    let moves = roster::moves(decision.desired, counts.desired, &members, pool.starts.allowance(pool.now));
    let mut tx = dispatcher.begin().await?;
    workers::set_draining(&mut tx, pool.pool_id, &moves.drain, true).await?;
    workers::set_draining(&mut tx, pool.pool_id, &moves.resume, false).await?;
    pools::scaled(&mut tx, pool.pool_id, decision.desired, counts.running, decision.needed).await?;
    dagwright_state::commit(tx).await?;
    stop(dispatcher, cluster, pool, present, &moves).await?;
    if counts.desired != moves.desired {
        dispatcher.scaler.set_desired(cluster, arn, moves.desired).await?;
        let (workers, demand) = (moves.desired, pool.observed.demand);
        tracing::info!(pool = pool.subject, workers, wanted = decision.desired, demand, "scaled");
        metrics::counter!("dagwright_scalings_total").increment(1);
    }
    let mut tx = dispatcher.begin().await?;
    workers::leave(&mut tx, pool.pool_id, &moves.stop).await?;
    dagwright_state::commit(tx).await?;
    Ok(())
}

/// Before the count falls: ECS, which misses a task, has none to choose. Should it start another one in between, that one is
/// drained in turn.
async fn stop(
    dispatcher: &Dispatcher,
    cluster: &str,
    pool: &ScaledPool,
    present: &[Present],
    moves: &Moves,
) -> Outcome {
    if moves.stop.is_empty() {
        return Ok(());
    }
    let family = &pool.launch.family;
    let listed = dispatcher.worker_tasks.of_family(cluster, family, false).await?;
    let own: HashSet<&str> = listed.iter().map(|task| task.arn.as_str()).collect();
    for worker in present.iter().filter(|p| moves.stop.contains(&p.member.id)) {
        let Some(arn) = worker.task_arn.as_deref() else { continue };
        let id = worker.member.id;
        if !own.contains(arn) {
            tracing::info!(worker = %id, task = arn, family, "a drained worker's task is not listed, nothing to stop");
            continue;
        }
        match dispatcher.worker_tasks.stop(cluster, arn, SCALED_IN).await {
            Err(error) if error.class != Class::NotFound => return Err(error.into()),
            _ => tracing::info!(worker = %id, task = arn, "stopped a drained worker"),
        }
    }
    Ok(())
}

/// Notes why workers do not come up: a task that ended without ever reporting, or what ECS says of the service.
pub(super) async fn explain(
    dispatcher: &Dispatcher,
    cluster: &str,
    pool: &ScaledPool,
    trouble: Option<(time::OffsetDateTime, String)>,
) -> Outcome {
    let stopped = dispatcher.worker_tasks.of_family(cluster, &pool.launch.family, true).await?;
    let ended = stopped.into_iter().filter(|t| t.task_definition_arn == pool.launch.task_definition_arn);
    let mut ends: Vec<_> = ended
        .filter_map(|t| Some((t.stopped.filter(|s| s.by_itself)?, t.arn)))
        .filter(|(s, _)| pool.failure_seen.is_none_or(|seen| s.at > seen))
        .collect();
    let mut tx = dispatcher.begin().await?;
    let arns: Vec<_> = ends.iter().map(|(_, arn)| arn.clone()).collect();
    let came_up = workers::came_up(&mut tx, pool.pool_id, &arns).await?;
    ends.retain(|(_, arn)| !came_up.contains(arn));
    let newest = ends.into_iter().map(|(s, _)| (s.at, s.reason)).max();
    let news = newest.or(trouble.filter(|(at, _)| pool.failure_seen.is_none_or(|seen| *at > seen)));
    if let Some((at, words)) = news {
        tracing::warn!(pool = pool.subject, ecs = words, "workers do not start");
        pools::start_failed(&mut tx, pool.pool_id, &words, Some(at)).await?;
    }
    dagwright_state::commit(tx).await?;
    Ok(())
}

/// Notes a call that AWS refused for its content; what passes by itself is left to the next pass.
async fn refused(dispatcher: &Dispatcher, pool: &ScaledPool, error: &AwsError) -> Outcome {
    if !matches!(error.class, Class::Denied | Class::Capacity | Class::Permanent) {
        return Ok(());
    }
    let mut tx = dispatcher.begin().await?;
    pools::start_failed(&mut tx, pool.pool_id, &error.to_string(), None).await?;
    dagwright_state::commit(tx).await?;
    Ok(())
}
