//! The run with the controller: the product's release binary against an API server, Postgres and an AWS endpoint.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use dagwright_testkit::infrastructure::{Infrastructure, Process};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Client;

use super::{APPLIERS, QUIET, Run, counts::Writes, objects, per_object, tracker};

pub(super) async fn measure(
    each: u64,
    floor_seconds: f64,
    controller: &Path,
    watch: Duration,
) -> anyhow::Result<Run> {
    ensure!(controller.exists(), "there is no {}: `./dev bench` builds it", controller.display());
    let infra = tokio::task::spawn_blocking(Infrastructure::start).await??;
    let client = infra.client().await;
    objects::make_namespace(&client).await?;
    let process = start(&infra, controller);
    shared_pools(&client).await.with_context(|| infra.log(&process.name))?;
    let before = Writes::when_quiet(&client, QUIET).await?;

    let seen = tokio::spawn(tracker::all_ready(client.clone(), 2 * each));
    let began = Instant::now();
    let all = (0..each).flat_map(|n| [objects::dataset(n), objects::chain_sync(n)]);
    stream::iter(all)
        .map(|object| {
            let client = client.clone();
            async move { objects::apply(&client, &object).await.map(drop) }
        })
        .buffer_unordered(APPLIERS)
        .try_collect::<()>()
        .await?;
    eprintln!("applied after {:.1} s", began.elapsed().as_secs_f64());
    seen.await?.with_context(|| infra.log(&process.name))?;
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("all Ready after {seconds:.1} s, floor {floor_seconds:.1} s");

    let after = Writes::when_quiet(&client, QUIET).await?;
    tokio::time::sleep(watch).await;
    let idle = Writes::read(&client).await?;
    let minutes = watch.as_secs_f64() / 60.0;
    let run = Run {
        floor_seconds,
        seconds,
        writes_per_object: per_object(after.controller - before.controller, each),
        memory_mib: peak_memory(&process)?,
        idle_writes: crate::stats::number(idle.controller - after.controller) / minutes,
        lease_writes: crate::stats::number(idle.lease - after.lease) / minutes,
    };
    tokio::task::spawn_blocking(move || drop(infra)).await?;
    Ok(run)
}

/// The pools that all ChainSyncs share.
async fn shared_pools(client: &Client) -> anyhow::Result<()> {
    for object in objects::pools() {
        objects::apply(client, &object).await?;
        let (kind, name) = (object["kind"].as_str().unwrap_or_default(), object["metadata"]["name"].clone());
        let (api, name) = (objects::api(client, kind), name.as_str().unwrap_or_default().to_owned());
        let ready = async {
            let mut looks = tokio::time::interval(Duration::from_millis(200));
            loop {
                looks.tick().await;
                if tracker::is_ready(&api.get(&name).await?) {
                    return anyhow::Ok(());
                }
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(60), ready).await;
        done.with_context(|| format!("{kind} {name} did not turn Ready in 60 s"))??;
    }
    Ok(())
}

fn start(infra: &Infrastructure, controller: &Path) -> Process {
    let settings = &infra.stack.settings;
    let role = |key: &str| infra.aws.role_arns.get(key).cloned().unwrap_or_default();
    let env = [
        ("KUBECONFIG", settings.controller_kubeconfig().display().to_string()),
        ("DAGWRIGHT_POD_NAME", "bench".to_owned()),
        ("DAGWRIGHT_STATE_DATABASE_URL", settings.database_url("dagwright_controller", "state")),
        ("DAGWRIGHT_ECS_CLUSTER", infra.aws.cluster.clone()),
        ("DAGWRIGHT_DEFAULT_SUBNETS", infra.aws.subnets.join(",")),
        ("DAGWRIGHT_DEFAULT_SECURITY_GROUPS", infra.aws.security_groups.join(",")),
        ("DAGWRIGHT_DEFAULT_TASK_ROLE_ARN", role("worker-task")),
        ("DAGWRIGHT_DEFAULT_EXECUTION_ROLE_ARN", role("worker-execution")),
        ("DAGWRIGHT_DISPATCHER_URL", "http://127.0.0.1:9".to_owned()),
        ("DAGWRIGHT_RPC_URL", "http://127.0.0.1:9".to_owned()),
    ];
    infra.spawn("controller", controller, "controller", &env)
}

/// The most memory that the process ever had resident.
fn peak_memory(process: &Process) -> anyhow::Result<f64> {
    let path = format!("/proc/{}/status", process.pid());
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {path}: did the controller end?"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM is missing")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("VmHWM is no number")?;
    Ok(kib / 1024.0)
}
