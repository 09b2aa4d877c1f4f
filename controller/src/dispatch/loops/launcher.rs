//! Single tasks for pools that run on demand: started per batch of backlog, ending by themselves when idle.
//!
//! ECS counts what is there, rows say what was intended. A row is written before its call and carries the call's token; a call
//! whose answer was not heard is looked for before it is repeated, because not every endpoint knows client tokens.

use std::collections::HashMap;

use dagwright_aws::{
    Class,
    services::{Capacity, Network},
    worker_tasks::{Start, TaskState},
};
use dagwright_core::scale::{
    OnDemand, decide_on_demand,
    launch::{BATCH, Next, Seen, missing},
    roster,
};
use dagwright_state::{
    launches::{self, Launch},
    pools::{self, ScaledPool},
    workers::{self, Present},
};

use super::{Outcome, scaler::explain};
use crate::dispatch::Dispatcher;

/// What ECS shows of a pool.
struct Scene {
    alive: Vec<TaskState>,
    launches: Vec<(Launch, Seen)>,
    /// Alive, or about to be.
    current: u32,
    all: u32,
}

/// 1. See which tasks are there; settle the launches that they belong to.
/// 2. Drain workers of older revisions.
/// 3. Start what is missing, at most ten by one call.
pub(super) async fn launch(
    dispatcher: &Dispatcher,
    cluster: &str,
    pool: &ScaledPool,
    on_demand: &OnDemand,
    present: &[Present],
) -> Outcome {
    let wanted = decide_on_demand(on_demand, &pool.observed);
    let mut tx = dispatcher.begin().await?;
    let open = launches::open(&mut tx, pool.pool_id).await?;
    let members: Vec<_> = present.iter().map(|p| p.member).collect();
    workers::set_draining(&mut tx, pool.pool_id, &roster::outdated(&members), true).await?;
    dagwright_state::commit(tx).await?;
    if wanted == 0 && open.is_empty() {
        return note(dispatcher, pool, 0, 0).await;
    }
    let scene = look(dispatcher, cluster, pool, open).await?;
    let repeated = settle(dispatcher, cluster, pool, &scene).await?;
    note(dispatcher, pool, wanted, scene.all).await?;
    let mut more = missing(wanted, on_demand.max, scene.current, scene.all, pool.starts.allowance(pool.now));
    let mut last = launches::last(&mut *dispatcher.begin().await?, pool.pool_id).await?;
    while more > 0 && repeated {
        let mut tx = dispatcher.begin().await?;
        let arn = &pool.launch.task_definition_arn;
        let made = launches::intend(&mut tx, pool.pool_id, more.min(BATCH), arn, last).await?;
        dagwright_state::commit(tx).await?;
        let Some(made) = made else { return Ok(()) };
        if !call(dispatcher, cluster, pool, &made).await? {
            return Ok(());
        }
        more -= made.wanted;
        last = Some(made.id);
    }
    Ok(())
}

async fn note(dispatcher: &Dispatcher, pool: &ScaledPool, wanted: u32, running: u32) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    pools::scaled(&mut tx, pool.pool_id, wanted, running, wanted > 0).await?;
    dagwright_state::commit(tx).await?;
    Ok(())
}

async fn look(
    dispatcher: &Dispatcher,
    cluster: &str,
    pool: &ScaledPool,
    open: Vec<Launch>,
) -> Result<Scene, super::LoopError> {
    let ecs = &dispatcher.worker_tasks;
    let listed = ecs.of_family(cluster, &pool.launch.family, false).await?;
    let alive: Vec<_> = listed.into_iter().filter(|t| t.stopped.is_none()).collect();
    let named: Vec<String> = open.iter().flat_map(|l| l.task_arns.clone()).collect();
    let unlisted: Vec<_> = named.into_iter().filter(|arn| alive.iter().all(|t| t.arn != *arn)).collect();
    let mut gone = ecs.describe(cluster, &unlisted).await?;
    if open.iter().any(|l| l.intended) {
        // A call that went through unheard may have started tasks that ended meanwhile.
        gone.extend(ecs.of_family(cluster, &pool.launch.family, true).await?);
    }
    let known: HashMap<String, TaskState> =
        gone.into_iter().chain(alive.iter().cloned()).map(|t| (t.arn.clone(), t)).collect();
    let seen = |launch: &Launch| {
        let id = launch.id.0.simple().to_string();
        let of = known.values().filter(|t| t.started_by == id || launch.task_arns.contains(&t.arn));
        let (stopped, alive): (Vec<_>, Vec<_>) = of.partition(|t| t.stopped.is_some());
        Seen {
            wanted: launch.wanted,
            intended: launch.intended,
            current: launch.task_definition_arn == pool.launch.task_definition_arn,
            alive: count(alive.len()),
            stopped: count(stopped.len()),
            unknown: count(launch.task_arns.iter().filter(|arn| !known.contains_key(*arn)).count()),
            age: pool.now - launch.created_at,
        }
    };
    let launches: Vec<_> = open.into_iter().map(|l| (seen(&l), l)).map(|(s, l)| (l, s)).collect();
    let about_to = |current: bool| -> u32 {
        let of = launches.iter().filter(|(_, s)| s.current || !current);
        of.map(|(_, s)| s.stands_for().saturating_sub(s.alive)).sum()
    };
    let runs_current = |t: &&TaskState| t.task_definition_arn == pool.launch.task_definition_arn;
    let current = count(alive.iter().filter(runs_current).count()) + about_to(true);
    let all = count(alive.len()) + about_to(false);
    Ok(Scene { current, all, alive, launches })
}

/// Brings the rows of launches in line with what was found; calls again for the one that is not to be found. False when that call
/// did not go through either.
async fn settle(
    dispatcher: &Dispatcher,
    cluster: &str,
    pool: &ScaledPool,
    scene: &Scene,
) -> Result<bool, super::LoopError> {
    let mut ended = false;
    for (launch, seen) in &scene.launches {
        let mut tx = dispatcher.begin().await?;
        match seen.next() {
            Next::Keep => {}
            Next::Adopt => {
                let id = launch.id.0.simple().to_string();
                let arns: Vec<_> =
                    scene.alive.iter().filter(|t| t.started_by == id).map(|t| t.arn.clone()).collect();
                launches::started(&mut tx, launch.id, &arns).await?;
            }
            Next::End => {
                launches::end(&mut tx, launch.id, None).await?;
                ended = true;
            }
            Next::Repeat => {
                dagwright_state::commit(tx).await?;
                let rested =
                    pool.starts.allowance(pool.now) != dagwright_core::scale::backoff::Allowance::None;
                if !rested || !call(dispatcher, cluster, pool, launch).await? {
                    return Ok(false);
                }
                continue;
            }
        }
        dagwright_state::commit(tx).await?;
    }
    if ended {
        explain(dispatcher, cluster, pool, None).await?;
    }
    Ok(true)
}

/// Calls RunTask for a launch. False when fewer than wanted came of it: then the pool rests.
async fn call(
    dispatcher: &Dispatcher,
    cluster: &str,
    pool: &ScaledPool,
    launch: &Launch,
) -> Result<bool, super::LoopError> {
    let mut tx = dispatcher.begin().await?;
    launches::calling(&mut tx, launch.id).await?;
    dagwright_state::commit(tx).await?;
    let with = &pool.launch;
    let capacity: Vec<_> = with
        .capacity
        .iter()
        .map(|c| Capacity { provider: c.provider.clone(), weight: c.weight, base: c.base })
        .collect();
    let network = Network {
        subnets: with.subnets.clone(),
        security_groups: with.security_groups.clone(),
        assign_public_ip: with.assign_public_ip,
    };
    let start = Start {
        cluster,
        task_definition_arn: &launch.task_definition_arn,
        count: launch.wanted,
        launch: &launch.id.0.simple().to_string(),
        network: &network,
        capacity: &capacity,
    };
    let answer = dispatcher.worker_tasks.start(&start).await;
    let mut tx = dispatcher.begin().await?;
    let trouble = match answer {
        Ok(started) => {
            let trouble = started.failures.join("; ");
            if started.task_arns.is_empty() {
                launches::end(&mut tx, launch.id, Some(&trouble)).await?;
            } else {
                launches::started(&mut tx, launch.id, &started.task_arns).await?;
                let workers = started.task_arns.len();
                tracing::info!(pool = pool.subject, launch = %launch.id, workers, "started workers");
                metrics::counter!("dagwright_worker_launches_total").increment(1);
            }
            (!started.failures.is_empty()).then(|| format!("run task: {trouble}"))
        }
        Err(error) => {
            // What was refused did not happen. Of all else nobody knows: the row stays, and is looked for.
            if matches!(error.class, Class::Denied | Class::Capacity | Class::Permanent | Class::NotFound) {
                launches::end(&mut tx, launch.id, Some(&error.to_string())).await?;
            }
            Some(error.to_string())
        }
    };
    if let Some(words) = &trouble {
        tracing::warn!(pool = pool.subject, launch = %launch.id, ecs = words, "workers do not start");
        pools::start_failed(&mut tx, pool.pool_id, words, None).await?;
    }
    dagwright_state::commit(tx).await?;
    Ok(trouble.is_none())
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
