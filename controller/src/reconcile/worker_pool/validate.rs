use std::collections::BTreeMap;

use dagwright_aws::services::{Capacity, Network};
use dagwright_core::{ids::PoolId, names::aws_name};
use dagwright_crds::{
    WorkerPool,
    conditions::{INVALID_SPEC, NO_CLUSTER, NO_NETWORK, NO_ROLES, NOT_OWNED, ROLE_NOT_ALLOWED},
    worker_pool::{RunMode, WorkerPoolSpec},
};
use serde_json::{Value, json};

use super::observe::{Observed, pool_id};
use crate::{
    context::{Context, OWNER_TAG},
    engine::Stall,
    reconcile::place,
    roles::AllowedRole,
    settings::WorkerSettings,
};

/// A pool with every default filled in.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) pool_id: PoolId,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) generation: i64,
    /// Name of the queue, the family and the service.
    pub(super) aws_name: String,
    /// Name of the token's secret.
    pub(super) secret_name: String,
    pub(super) cluster: String,
    pub(super) owner: String,
    pub(super) slots: u32,
    pub(super) run: Value,
    /// Workers that a new service begins with; none when the pool runs single tasks.
    pub(super) service_count: Option<i32>,
    pub(super) lease_seconds: u64,
    pub(super) max_receive_count: u32,
    pub(super) network: Network,
    pub(super) capacity: Vec<Capacity>,
    pub(super) container: Container,
}

/// What a worker is started with, but for what AWS has to make first.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) image: String,
    pub(super) cpu: i64,
    pub(super) memory_mib: i64,
    pub(super) ephemeral_storage_gib: Option<i64>,
    pub(super) architecture: &'static str,
    pub(super) stop_timeout_seconds: i32,
    pub(super) task_role_arn: String,
    pub(super) execution_role_arn: String,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) logs: Option<(String, String)>,
}

/// A worker started on demand ends when it had nothing to do for so long: a start takes about as long.
const IDLE_EXIT_SECONDS: u64 = 30;

impl Wanted {
    pub(super) fn dead_letter_name(&self) -> String {
        format!("{}-dlq", self.aws_name)
    }
}

pub(super) fn validate(ctx: &Context, pool: &WorkerPool) -> Result<Wanted, Stall> {
    let (namespace, name) = place(pool);
    let spec = &pool.spec;
    let (run, service_count) = run(spec);
    Ok(Wanted {
        pool_id: pool_id(ctx, pool),
        generation: pool.metadata.generation.unwrap_or(0),
        aws_name: aws_name(&ctx.cluster, &namespace, &name),
        secret_name: format!("dagwright/{}/{namespace}/pools/{name}/token", ctx.cluster),
        cluster: ctx.workers.ecs_cluster.clone(),
        owner: ctx.owner("WorkerPool", &namespace, &name),
        slots: spec.slots(),
        run,
        service_count,
        lease_seconds: spec.lease().as_secs(),
        max_receive_count: spec.max_receive_count(),
        network: network(ctx, pool)?,
        capacity: capacity(pool),
        container: container(ctx, pool, &namespace, &name)?,
        namespace,
        name,
    })
}

/// As the scaler reads it, and how many workers a new service begins with.
fn run(spec: &WorkerPoolSpec) -> (Value, Option<i32>) {
    match &spec.run {
        RunMode::Service(service) => {
            let min = service.min.unwrap_or(0);
            let run = json!({ "service": {
                "min": min,
                "max": service.max,
                "tasksPerWorker": service.tasks_per_worker.unwrap_or(spec.slots() * 2),
                "cooldownSeconds": service.cooldown().as_secs(),
            } });
            (run, Some(i32::try_from(min).unwrap_or(0)))
        }
        RunMode::OnDemand(on_demand) => (json!({ "onDemand": { "max": on_demand.max } }), None),
    }
}

fn network(ctx: &Context, pool: &WorkerPool) -> Result<Network, Stall> {
    if let Some(network) = &pool.spec.network {
        return Ok(Network {
            subnets: network.subnets.clone(),
            security_groups: network.security_groups.clone(),
            assign_public_ip: network.assign_public_ip.unwrap_or(false),
        });
    }
    let clean = |ids: &[String]| ids.iter().filter(|s| !s.is_empty()).cloned().collect::<Vec<_>>();
    let network = Network {
        subnets: clean(&ctx.workers.default_subnets),
        security_groups: clean(&ctx.workers.default_security_groups),
        assign_public_ip: false,
    };
    if network.subnets.is_empty() || network.security_groups.is_empty() {
        return Err(Stall::new(
            NO_NETWORK,
            "spec.network: the pool names no subnets and security groups, and the controller has no default network; set one of the two",
        ));
    }
    Ok(network)
}

fn capacity(pool: &WorkerPool) -> Vec<Capacity> {
    if pool.spec.capacity.is_empty() {
        return vec![Capacity { provider: "FARGATE".into(), weight: 1, base: 0 }];
    }
    let shares = pool.spec.capacity.iter().map(|c| Capacity {
        provider: c.provider.as_str().into(),
        weight: c.weight.unwrap_or(1),
        base: c.base.unwrap_or(0),
    });
    shares.collect()
}

fn container(ctx: &Context, pool: &WorkerPool, namespace: &str, name: &str) -> Result<Container, Stall> {
    let (spec, given) = (&pool.spec, &ctx.workers);
    let roles = spec.roles.as_ref().map(|r| (r.task.clone(), r.execution.clone()));
    let defaults = given.default_task_role_arn.clone().zip(given.default_execution_role_arn.clone());
    let Some((task_role_arn, execution_role_arn)) = roles.or(defaults) else {
        return Err(Stall::new(
            NO_ROLES,
            "spec.roles: the pool names no task and execution role, and the controller has no default roles; set one of the two",
        ));
    };
    // The execution role reads secrets before the container starts; whoever owns the image must not become it.
    if task_role_arn == execution_role_arn
        || Some(&task_role_arn) == given.default_execution_role_arn.as_ref()
    {
        return Err(Stall::new(
            INVALID_SPEC,
            "spec.roles.task: an execution role cannot be a task role; name a role that the worker may be",
        ));
    }
    may_act_as(given, namespace, &task_role_arn)?;
    // What is left of the stop timeout is for the end of the process itself.
    let stop_timeout = spec.stop_timeout().as_secs();
    let grace = stop_timeout.saturating_sub(3).max(1);
    // A service keeps its workers; a single task that is idle ends.
    let idle_exit = match &spec.run {
        RunMode::Service(_) => 0,
        RunMode::OnDemand(_) => IDLE_EXIT_SECONDS,
    };
    let environment = [
        ("DAGWRIGHT_GRACE_SECONDS", grace.to_string()),
        ("DAGWRIGHT_IDLE_EXIT_SECONDS", idle_exit.to_string()),
        ("DAGWRIGHT_DISPATCHER_URL", given.dispatcher_url.clone()),
        ("DAGWRIGHT_RPC_URL", given.rpc_url.clone()),
        ("DAGWRIGHT_SLOTS", spec.slots().to_string()),
        ("DAGWRIGHT_NAMESPACE", namespace.to_owned()),
        ("DAGWRIGHT_POOL", name.to_owned()),
        ("DAGWRIGHT_CLUSTER", ctx.cluster.clone()),
        ("DAGWRIGHT_LOG_FORMAT", "json".to_owned()),
    ];
    Ok(Container {
        image: spec.image.clone(),
        cpu: spec.cpu,
        memory_mib: spec.memory_mib,
        ephemeral_storage_gib: spec.ephemeral_storage_gib,
        architecture: spec.architecture.unwrap_or_default().as_str(),
        stop_timeout_seconds: i32::try_from(stop_timeout).unwrap_or(60),
        task_role_arn,
        execution_role_arn,
        environment: environment.map(|(k, v)| (k.to_owned(), v)).into(),
        logs: given.worker_log_group.clone().map(|group| (group, ctx.aws.region.clone())),
    })
}

/// The image gets the role's keys, so that a namespace may name only the roles that are its own.
fn may_act_as(given: &WorkerSettings, namespace: &str, role: &str) -> Result<(), Stall> {
    if given.default_task_role_arn.as_deref() == Some(role)
        || AllowedRole::any(&given.allowed_task_roles, namespace, role)
    {
        return Ok(());
    }
    Err(Stall::new(
        ROLE_NOT_ALLOWED,
        format!(
            "spec.roles.task: workers of namespace {namespace} may not act as {role}; name an allowed role, or add {namespace}={role} to the controller's --allowed-task-roles"
        ),
    ))
}

/// Nothing that carries another owner's tag is ever touched.
pub(super) fn owned(wanted: &Wanted, seen: &Observed) -> Result<(), Stall> {
    if !seen.cluster_exists {
        return Err(Stall::new(
            NO_CLUSTER,
            format!(
                "there is no active ECS cluster {}; create it, or correct the controller's --ecs-cluster",
                wanted.cluster
            ),
        ));
    }
    let tagged = [
        ("queue", wanted.aws_name.clone(), seen.queue.as_ref().map(|q| &q.tags)),
        ("queue", wanted.dead_letter_name(), seen.dead_letters.as_ref().map(|q| &q.tags)),
        ("secret", wanted.secret_name.clone(), seen.secret.as_ref().map(|s| &s.tags)),
        ("service", wanted.aws_name.clone(), seen.service.as_ref().map(|s| &s.tags)),
    ];
    for (kind, name, tags) in tagged {
        let Some(tags) = tags else { continue };
        if tags.get(OWNER_TAG) != Some(&wanted.owner) {
            let other = tags.get(OWNER_TAG).map_or("nobody that it names", String::as_str);
            return Err(Stall::new(
                NOT_OWNED,
                format!(
                    "{kind} {name} is there already and belongs to {other}; remove it, or rename the WorkerPool"
                ),
            ));
        }
    }
    Ok(())
}
