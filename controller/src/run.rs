//! From flags to running controllers: wait for the Lease, take the epoch, watch, reconcile, until stopped or deposed.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use dagwright_aws::{
    queues::Queues, secrets::Secrets, services::Services, task_definitions::TaskDefinitions,
    worker_tasks::WorkerTasks,
};
use dagwright_state::desired::{Fence, cluster_id, intents};
use dagwright_telemetry::Health;
use kube::{
    Client, Config,
    runtime::{
        events::{Recorder, Reporter},
        reflector::Store,
    },
};
use sqlx::PgPool;
use tokio::{sync::broadcast, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    context::{Aws, Context, Guarded, Stores},
    engine::{self, Kind, PassMemory},
    leader::{Election, Held},
    progress,
    reconcile::{
        chain_sync::ChainSyncs, dag::Dags, dataset::Datasets, rpc_pool::RpcPools, worker_pool::WorkerPools,
    },
    references::References,
    settings::Settings,
    watch::{self, Change},
};

/// Name of the Lease, and of the epoch in the state.
pub const LEASE: &str = "dagwright-controller";
/// Between tries to reach the state database at the start.
const RETRY: Duration = Duration::from_secs(2);
/// How long running passes may take to end when the process stops.
const GRACE: Duration = Duration::from_secs(10);

/// Runs a replica until `stop` is cancelled.
///
/// # Errors
/// When it cannot begin, or when it loses the Lease: the process must end then, whatever it was doing.
pub async fn run(settings: Settings, health: Health, stop: CancellationToken) -> anyhow::Result<()> {
    let identity = settings.pod_name.clone().unwrap_or_else(random_identity);
    let config =
        Config::infer().await.context("find the Kubernetes API: set KUBECONFIG, or run in a cluster")?;
    // The Lease has a client of its own: a busy one would delay a renewal until it is too late.
    let lease_client = Client::try_from(config.clone()).context("set up the client of the Lease")?;
    let client = Client::try_from(config).context("set up the client of the Kubernetes API")?;
    let state = dagwright_state::connect(&settings.state_database_url, "dagwright-controller")?;

    let election = Election::new(lease_client, &settings.lease_namespace, LEASE, &identity);
    let check = health.check("lease");
    tracing::info!(identity, "waiting for the lease");
    metrics::gauge!("dagwright_controller_leader").set(0.0);
    let answered = |answer: Result<(), String>| match answer {
        Ok(()) => check.ready(),
        Err(why) => check.failing(format!("lease {}/{LEASE}: {why}", settings.lease_namespace)),
    };
    let Some(held) = election.acquire(&stop, answered).await else { return Ok(()) };
    tracing::info!(identity, "leading");
    metrics::gauge!("dagwright_controller_leader").set(1.0);
    lead(settings, client, state, held, &identity, health, stop).await
}

fn random_identity() -> String {
    let host =
        std::env::var("HOSTNAME").ok().filter(|h| !h.is_empty()).unwrap_or_else(|| "controller".into());
    format!("{host}-{:08x}", rand::Rng::random::<u32>(&mut rand::rng()))
}

async fn lead(
    settings: Settings,
    client: Client,
    state: PgPool,
    held: Held,
    identity: &str,
    health: Health,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let deposed = CancellationToken::new();
    let (lost, clock) = (held.lost.clone(), held.clock.clone());
    let begun = async {
        let (fence, id) = take_over(&state, identity, &health).await;
        let ctx = Arc::new(
            context(settings, client, state, fence, id, clock, deposed.clone(), identity, &health).await,
        );
        ready(&ctx).await;
        anyhow::Ok(ctx)
    };
    let ctx = tokio::select! {
        ctx = begun => ctx?,
        () = lost.cancelled() => bail!("lost the lease {LEASE} before taking over"),
        () = stop.cancelled() => {
            held.release().await;
            return Ok(());
        }
    };
    let mut controllers = controllers(&ctx);
    tokio::select! {
        // What still runs is cut off: its next write would be refused anyway.
        () = lost.cancelled() => bail!("lost the lease {LEASE}: another replica leads now"),
        () = deposed.cancelled() => bail!("another leader took a later epoch"),
        Some(ended) = controllers.join_next() => bail!("a controller ended by itself: {ended:?}"),
        () = stop.cancelled() => {}
    }
    ctx.stopping.cancel();
    let drained =
        tokio::time::timeout(GRACE, async { while controllers.join_next().await.is_some() {} }).await;
    tracing::info!(in_time = drained.is_ok(), "controllers stopped");
    held.release().await;
    Ok(())
}

/// Takes the epoch; without the state database nothing can be led, so this waits for it.
async fn take_over(
    state: &PgPool,
    identity: &str,
    health: &Health,
) -> (Fence, dagwright_core::ids::ClusterId) {
    let check = health.check("state database");
    loop {
        let taken = async {
            let mut conn = state.acquire().await.map_err(|e| e.to_string())?;
            let fence = Fence::take(&mut conn, LEASE, identity).await.map_err(|e| chain(&e))?;
            let id = cluster_id(&mut conn).await.map_err(|e| chain(&e))?;
            intents::prune(&mut conn).await.map_err(|e| chain(&e))?;
            Ok::<_, String>((fence, id))
        };
        match taken.await {
            Ok(taken) => {
                tracing::info!(epoch = taken.0.epoch, "epoch taken");
                check.ready();
                return taken;
            }
            Err(why) => {
                tracing::warn!(why, "epoch not taken, trying again");
                check.failing(why);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        text = format!("{text}: {c}");
        cause = c.source();
    }
    text
}

#[expect(clippy::too_many_arguments, reason = "it gathers what the others made, once")]
async fn context(
    settings: Settings,
    client: Client,
    state: PgPool,
    fence: Fence,
    cluster_id: dagwright_core::ids::ClusterId,
    lease: crate::leader::LeaseClock,
    deposed: CancellationToken,
    identity: &str,
    health: &Health,
) -> Context {
    let aws = dagwright_aws::config().await;
    let (changes, _) = broadcast::channel(4096);
    let references = Arc::new(References::default());
    let stores = stores(&client, &changes, &references, health);
    watch::spawn_secrets(&client, changes.clone(), health.check("watch of Secrets"));
    let reporter =
        Reporter { controller: "dagwright-controller".into(), instance: Some(identity.to_owned()) };
    Context {
        recorder: Recorder::new(client.clone(), reporter),
        aws: Aws {
            queues: Queues::new(&aws),
            secrets: Secrets::new(&aws),
            task_definitions: TaskDefinitions::new(&aws),
            services: Services::new(&aws),
            worker_tasks: WorkerTasks::new(&aws),
            region: aws.region().map_or_else(|| "us-east-1".to_owned(), ToString::to_string),
        },
        cluster: settings.common.cluster,
        workers: settings.workers,
        references,
        memory: PassMemory::default(),
        client,
        state,
        fence,
        lease,
        deposed,
        stopping: CancellationToken::new(),
        cluster_id,
        stores,
        changes,
    }
}

fn stores(
    client: &Client,
    changes: &broadcast::Sender<Change>,
    references: &Arc<References>,
    health: &Health,
) -> Stores {
    fn one<K: Kind>(
        client: &Client,
        changes: &broadcast::Sender<Change>,
        references: &Arc<References>,
        health: &Health,
        check: &'static str,
    ) -> Store<Guarded<K::Object>> {
        watch::spawn::<K>(client, changes.clone(), Arc::clone(references), health.check(check))
    }
    Stores {
        rpc_pools: one::<RpcPools>(client, changes, references, health, "watch of RpcPools"),
        worker_pools: one::<WorkerPools>(client, changes, references, health, "watch of WorkerPools"),
        datasets: one::<Datasets>(client, changes, references, health, "watch of Datasets"),
        chain_syncs: one::<ChainSyncs>(client, changes, references, health, "watch of ChainSyncs"),
        dags: one::<Dags>(client, changes, references, health, "watch of Dags"),
    }
}

/// Every store must have been listed: a reference that is not there yet would look like one that is missing.
async fn ready(ctx: &Context) {
    let s = &ctx.stores;
    // An error means that the watch ended, which it does only with the process.
    let _ = s.rpc_pools.wait_until_ready().await;
    let _ = s.worker_pools.wait_until_ready().await;
    let _ = s.datasets.wait_until_ready().await;
    let _ = s.chain_syncs.wait_until_ready().await;
    let _ = s.dags.wait_until_ready().await;
}

fn controllers(ctx: &Arc<Context>) -> JoinSet<()> {
    let mut set = JoinSet::new();
    let s = ctx.stores.clone();
    set.spawn(engine::run::<RpcPools>(Arc::clone(ctx), s.rpc_pools));
    set.spawn(engine::run::<WorkerPools>(Arc::clone(ctx), s.worker_pools));
    set.spawn(engine::run::<Datasets>(Arc::clone(ctx), s.datasets));
    set.spawn(engine::run::<ChainSyncs>(Arc::clone(ctx), s.chain_syncs));
    set.spawn(engine::run::<Dags>(Arc::clone(ctx), s.dags));
    set.spawn(progress::follow(Arc::clone(ctx)));
    set
}
