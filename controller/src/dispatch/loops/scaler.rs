//! Services get the desired count that our own backlog asks for. A count that somebody else set is set back.

use std::collections::{BTreeMap, HashMap};

use dagwright_aws::service_scale::ServiceCounts;
use dagwright_core::scale::{Run, decide};
use dagwright_state::pools::{self, ScaledPool};

use super::Outcome;
use crate::dispatch::Dispatcher;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let pools = pools::to_scale(&mut tx).await?;
    dagwright_state::commit(tx).await?;
    let mut by_cluster: BTreeMap<String, Vec<ScaledPool>> = BTreeMap::new();
    for pool in pools {
        let cluster = pool.ecs_cluster.clone().unwrap_or_else(|| dispatcher.args.ecs_cluster.clone());
        by_cluster.entry(cluster).or_default().push(pool);
    }
    for (cluster, pools) in by_cluster {
        let arns: Vec<_> = pools.iter().map(|p| p.service_arn.clone()).collect();
        let counts = dispatcher.scaler.counts(&cluster, &arns).await?;
        let quarantine = &dispatcher.quarantines.scale;
        for pool in &pools {
            if quarantine.admits(&pool.subject) {
                quarantine.note(&pool.subject, scale(&dispatcher, &cluster, pool, &counts).await);
            }
        }
    }
    Ok(())
}

async fn scale(
    dispatcher: &Dispatcher,
    cluster: &str,
    pool: &ScaledPool,
    counts: &HashMap<String, ServiceCounts>,
) -> Outcome {
    let Run::Service(service) = pool.run else { return Ok(()) };
    let decision = decide(&service, &pool.observed, pool.now);
    let found = counts.get(&pool.service_arn);
    if found.is_some_and(|counts| counts.desired != decision.desired) {
        dispatcher.scaler.set_desired(cluster, &pool.service_arn, decision.desired).await?;
        let demand = pool.observed.demand;
        tracing::info!(pool = pool.subject, workers = decision.desired, demand, "scaled");
        metrics::counter!("dagwright_scalings_total").increment(1);
    }
    let running = found.map_or(0, |counts| counts.running);
    let mut tx = dispatcher.begin().await?;
    pools::scaled(&mut tx, pool.pool_id, decision.desired, running, decision.needed).await?;
    dagwright_state::commit(tx).await?;
    Ok(())
}
