//! Workers come and go: single tasks by RunTask, services by their desired count, over AWS on the wire with IAM enforced.
//! The endpoint has no engine here: its tasks run until they are stopped.

use std::time::Duration;

use aws_sdk_ecs::types::{ContainerDefinition, DesiredStatus, Task};
use dagwright_contracts::workers::CheckInResponse;
use dagwright_testkit::{
    fault_proxy::{Fault, FaultProxy, Rule},
    wait::wait_until,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    life::{World, world},
    support::{Replica, Setup, TOKEN, add_job, count, pool, wait_for_count},
};

const FAMILY: &str = "dw-test";
/// A scaler looks every other second.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pool whose workers can be started, behind a proxy.
struct Pool {
    /// Holds the parts up.
    _world: World,
    proxy: FaultProxy,
    setup: Setup,
    ecs: aws_sdk_ecs::Client,
    db: PgPool,
}

impl Pool {
    async fn new(db: &PgPool, run: Value) -> Self {
        let world = world(db).await;
        let proxy = FaultProxy::start(&world.aws.url).await.unwrap();
        let aws = world.setup.aws.to_builder().endpoint_url(proxy.url()).build();
        let setup = Setup { aws, data_role_arn: world.setup.data_role_arn.clone(), ..Setup::default() };
        let ecs = aws_sdk_ecs::Client::new(&world.aws.root());
        let pool = Self { _world: world, proxy, setup, ecs, db: db.clone() };
        sqlx::query("UPDATE pools SET run = $1 WHERE pool_id = $2")
            .bind(run)
            .bind(crate::support::pool().0)
            .execute(db)
            .await
            .unwrap();
        pool.revise().await;
        pool
    }

    /// A new revision, as the controller notes it.
    async fn revise(&self) -> String {
        let container = ContainerDefinition::builder().name("worker").image("worker").build();
        let made =
            self.ecs.register_task_definition().family(FAMILY).container_definitions(container).send().await;
        let arn = made.unwrap().task_definition.unwrap().task_definition_arn.unwrap();
        let launch = json!({
            "family": FAMILY, "taskDefinitionArn": arn, "subnets": ["subnet-1"], "securityGroups": ["sg-1"],
            "assignPublicIp": false,
            "capacity": [{"provider": "FARGATE_SPOT", "weight": 4, "base": 0}, {"provider": "FARGATE", "weight": 1, "base": 1}],
        });
        let sql = "UPDATE pools SET launch = $1 WHERE pool_id = $2";
        sqlx::query(sql).bind(launch).bind(pool().0).execute(&self.db).await.unwrap();
        arn
    }

    async fn service(&self, desired: i32) -> String {
        let create =
            self.ecs.create_service().cluster("dagwright").service_name(FAMILY).task_definition(FAMILY);
        let arn = create.desired_count(desired).send().await.unwrap().service.unwrap().service_arn.unwrap();
        let sql = "UPDATE pools SET service_arn = $1 WHERE pool_id = $2";
        sqlx::query(sql).bind(&arn).bind(pool().0).execute(&self.db).await.unwrap();
        arn
    }

    async fn desired(&self) -> i32 {
        let services =
            self.ecs.describe_services().cluster("dagwright").services(FAMILY).send().await.unwrap();
        services.services()[0].desired_count()
    }

    async fn tasks(&self, status: DesiredStatus) -> Vec<Task> {
        let list = self.ecs.list_tasks().cluster("dagwright").family(FAMILY).desired_status(status);
        let arns = list.send().await.unwrap().task_arns.unwrap_or_default();
        if arns.is_empty() {
            return vec![];
        }
        let describe = self.ecs.describe_tasks().cluster("dagwright").set_tasks(Some(arns));
        describe.send().await.unwrap().tasks.unwrap_or_default()
    }

    async fn running(&self) -> usize {
        self.tasks(DesiredStatus::Running).await.len()
    }

    async fn wait_running(&self, wanted: usize) {
        wait_until(PATIENCE, &format!("{wanted} running tasks"), async || self.running().await == wanted)
            .await;
    }

    async fn passes(&self, more: i64) {
        // Whoever scales lists or describes; so many further looks are so many passes.
        let seen =
            self.proxy.control().add(Rule::always(Fault::Delay { milliseconds: 1 }).on_aws("ListTasks"));
        let control = self.proxy.control();
        wait_until(PATIENCE, "further passes", async || control.hits(seen) >= u64::try_from(more).unwrap())
            .await;
        control.remove(seen);
    }

    /// The rest after a failure is over.
    async fn rested(&self) {
        let sql = "UPDATE pools SET start_failed_at = start_failed_at - interval '1 hour'";
        sqlx::query(sql).execute(&self.db).await.unwrap();
    }

    async fn error(&self) -> Option<String> {
        sqlx::query_scalar("SELECT start_error FROM pools WHERE pool_id = $1")
            .bind(pool().0)
            .fetch_one(&self.db)
            .await
            .unwrap()
    }
}

async fn check_in(replica: &Replica, n: u128, task: &str, revision: &str, says: &[&str]) -> bool {
    let body = json!({
        "workerId": Uuid::from_u128(n), "taskArn": task, "taskDefinition": revision,
        "drained": says.contains(&"drained"), "leaving": says.contains(&"leaving"),
    });
    let answer = replica.post(TOKEN, "/v1/workers:checkin", &body).await.error_for_status().unwrap();
    answer.json::<CheckInResponse>().await.unwrap().draining
}

fn on_demand(max: u32) -> Value {
    json!({"onDemand": {"max": max}})
}

fn denied() -> Rule {
    let body =
        json!({"__type": "AccessDeniedException", "Message": "no identity-based policy allows ecs:RunTask"});
    Rule::always(Fault::Status { status: 400, body: body.to_string(), retry_after: None }).on_aws("RunTask")
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn single_tasks_follow_the_backlog_and_a_call_that_was_not_heard_is_not_repeated(db: PgPool) {
    let pool = Pool::new(&db, on_demand(2)).await;
    sqlx::query("UPDATE pools SET slots = 1").execute(&db).await.unwrap();
    let lost = pool.proxy.control().add(Rule::always(Fault::DropAnswer).on_aws("RunTask").times(1));
    let _replicas = (Replica::start(&db, &pool.setup).await, Replica::start(&db, &pool.setup).await);
    add_job(&db).await;
    // Three tasks by two per worker.
    pool.wait_running(2).await;
    wait_for_count(
        &db,
        "SELECT count(*) FROM worker_launches WHERE state = 'Started' AND cardinality(task_arns) = 2",
        1,
    )
    .await;
    assert_eq!(pool.proxy.control().hits(lost), 1, "the answer was lost");
    pool.passes(3).await;
    assert_eq!(pool.running().await, 2, "never doubled");
    assert_eq!(count(&db, "SELECT count(*) FROM worker_launches").await, 1);
    assert_eq!(
        count(&db, "SELECT sum(calls)::bigint FROM worker_launches").await,
        1,
        "looked for before repeated"
    );

    // What the row and the client token are for: the same call once more, although nothing of it was to be found.
    let tasks = pool.tasks(DesiredStatus::Running).await;
    let launch: Uuid =
        sqlx::query_scalar("SELECT launch_id FROM worker_launches").fetch_one(&db).await.unwrap();
    assert!(tasks.iter().all(|t| t.started_by() == Some(launch.simple().to_string().as_str())));
    let providers: Vec<_> = tasks.iter().filter_map(|t| t.capacity_provider_name()).collect();
    assert_eq!(providers.len(), 2, "by weights, not by launch type: {tasks:?}");

    // Idle workers end by themselves; nothing takes their place.
    sqlx::query("UPDATE jobs SET suspended = true").execute(&db).await.unwrap();
    for task in &tasks {
        pool.ecs.stop_task().cluster("dagwright").task(task.task_arn().unwrap()).send().await.unwrap();
    }
    wait_for_count(&db, "SELECT count(*) FROM worker_launches WHERE state = 'Ended'", 1).await;
    wait_for_count(
        &db,
        "SELECT (desired_workers + running_workers)::bigint FROM pools WHERE name = 'ingest'",
        0,
    )
    .await;
    assert_eq!(pool.running().await, 0);
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_call_that_never_arrived_is_repeated_with_the_same_row(db: PgPool) {
    let pool = Pool::new(&db, on_demand(1)).await;
    pool.proxy.control().add(Rule::always(Fault::Reset).on_aws("RunTask").times(1));
    let _replica = Replica::start(&db, &pool.setup).await;
    add_job(&db).await;
    wait_for_count(&db, "SELECT count(*) FROM worker_launches WHERE state = 'Intended' AND calls = 1", 1)
        .await;
    wait_for_count(&db, "SELECT start_failures::bigint FROM pools WHERE name = 'ingest'", 1).await;
    pool.rested().await;
    pool.wait_running(1).await;
    wait_for_count(&db, "SELECT count(*) FROM worker_launches WHERE state = 'Started' AND calls = 2", 1)
        .await;
    assert_eq!(count(&db, "SELECT count(*) FROM worker_launches").await, 1);
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_pool_without_capacity_or_rights_says_so_rests_and_recovers(db: PgPool) {
    let pool = Pool::new(&db, on_demand(3)).await;
    sqlx::query("UPDATE pools SET slots = 1").execute(&db).await.unwrap();
    let full = json!({"tasks": [], "failures": [{"arn": "a", "reason": "RESOURCE:FARGATE_SPOT",
                      "detail": "Capacity is unavailable at this time. Please try again later"}]});
    let full = Fault::Status { status: 200, body: full.to_string(), retry_after: None };
    let control = pool.proxy.control();
    let rule = control.add(Rule::always(full).on_aws("RunTask"));
    let replica = Replica::start(&db, &pool.setup).await;
    add_job(&db).await;
    let words = async |part: &str| {
        wait_until(PATIENCE, part, async || pool.error().await.is_some_and(|e| e.contains(part))).await;
    };
    words("Capacity is unavailable at this time").await;
    assert_eq!(control.hits(rule), 1, "it rests");
    control.remove(rule);
    let rule = control.add(denied());
    pool.rested().await;
    words("no identity-based policy allows ecs:RunTask").await;
    assert_eq!(control.hits(rule), 1, "one try after the rest");
    wait_for_count(&db, "SELECT start_failures::bigint FROM pools WHERE name = 'ingest'", 2).await;
    assert_eq!(count(&db, "SELECT count(*) FROM worker_launches WHERE state = 'Failed'").await, 2);
    control.remove(rule);
    pool.rested().await;
    pool.wait_running(1).await;
    assert!(pool.error().await.is_some(), "a task is no worker yet");
    let task = pool.tasks(DesiredStatus::Running).await[0].task_arn().unwrap().to_owned();
    check_in(&replica, 1, &task, "dw-test:1", &[]).await;
    wait_until(PATIENCE, "the error to go", async || pool.error().await.is_none()).await;
    pool.wait_running(2).await;
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_service_shrinks_by_the_workers_that_drained_and_by_no_other(db: PgPool) {
    let run = json!({"service": {"min": 0, "max": 2, "tasksPerWorker": 2, "cooldownSeconds": 0}});
    let pool = Pool::new(&db, run).await;
    pool.service(0).await;
    let replica = Replica::start(&db, &pool.setup).await;
    add_job(&db).await;
    pool.wait_running(2).await;
    let tasks: Vec<_> =
        pool.tasks(DesiredStatus::Running).await.iter().map(|t| t.task_arn().unwrap().to_owned()).collect();
    // Worker 9 is the one that claims in these tests.
    assert!(!check_in(&replica, 9, &tasks[0], "dw-test:1", &[]).await);
    assert!(!check_in(&replica, 8, &tasks[1], "dw-test:1", &[]).await);
    let lease = replica.claim_one().await;
    sqlx::query("UPDATE jobs SET suspended = true").execute(&db).await.unwrap();
    // One running task is left to do: one worker is enough, and it is the busy one that stays.
    wait_until(PATIENCE, "the idle worker to be told", async || {
        check_in(&replica, 8, &tasks[1], "dw-test:1", &[]).await
    })
    .await;
    assert!(!check_in(&replica, 9, &tasks[0], "dw-test:1", &[]).await);
    assert_eq!(
        (pool.desired().await, pool.running().await),
        (2, 2),
        "nobody is stopped that has not drained"
    );
    check_in(&replica, 8, &tasks[1], "dw-test:1", &["drained"]).await;
    wait_until(PATIENCE, "the count to fall", async || pool.desired().await == 1).await;
    let left: Vec<_> =
        pool.tasks(DesiredStatus::Running).await.iter().map(|t| t.task_arn().unwrap().to_owned()).collect();
    assert_eq!(left, [tasks[0].clone()], "the drained one went");
    assert!(check_in(&replica, 8, &tasks[1], "dw-test:1", &[]).await, "it claims no more while it ends");

    // The last lease goes back unspent when its worker leaves, whether or not the worker knew of it (I7).
    let task = lease.fence.task_id;
    check_in(&replica, 9, &tasks[0], "dw-test:1", &["drained", "leaving"]).await;
    let spent: (String, i32, i32) =
        sqlx::query_as("SELECT state, attempts_spent, releases FROM tasks WHERE task_id = $1")
            .bind(task.0)
            .fetch_one(&db)
            .await
            .unwrap();
    assert_eq!(spent, ("Queued".into(), 0, 1));
    wait_until(PATIENCE, "the service to be empty", async || pool.desired().await == 0).await;
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn workers_of_an_older_revision_drain_when_a_new_one_is_there(db: PgPool) {
    let run = json!({"service": {"min": 1, "max": 1, "tasksPerWorker": 9, "cooldownSeconds": 0}});
    let pool = Pool::new(&db, run).await;
    pool.service(1).await;
    let replica = Replica::start(&db, &pool.setup).await;
    pool.wait_running(1).await;
    let old = pool.tasks(DesiredStatus::Running).await[0].task_arn().unwrap().to_owned();
    assert!(!check_in(&replica, 1, &old, "dw-test:1", &[]).await);
    pool.revise().await;
    pool.passes(2).await;
    assert!(!check_in(&replica, 1, &old, "dw-test:1", &[]).await, "it works on until somebody can take over");
    assert!(!check_in(&replica, 2, "another", "dw-test:2", &[]).await);
    wait_until(PATIENCE, "the old one to be told", async || {
        check_in(&replica, 1, &old, "dw-test:1", &[]).await
    })
    .await;
    assert!(!check_in(&replica, 2, "another", "dw-test:2", &[]).await);
    check_in(&replica, 1, &old, "dw-test:1", &["drained"]).await;
    wait_until(PATIENCE, "the old one to be stopped", async || {
        let stopped = pool.tasks(DesiredStatus::Stopped).await;
        stopped
            .iter()
            .any(|t| t.task_arn() == Some(&old) && t.stopped_reason().is_some_and(|r| r.contains("drained")))
    })
    .await;
    assert_eq!(pool.desired().await, 1);
}

/// A worker says itself which task it runs in. One that names another pool's task has it stopped by nobody.
#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_worker_that_names_the_task_of_another_pool_has_it_not_stopped(db: PgPool) {
    let run = json!({"service": {"min": 0, "max": 2, "tasksPerWorker": 2, "cooldownSeconds": 0}});
    let pool = Pool::new(&db, run).await;
    pool.service(0).await;
    let container = ContainerDefinition::builder().name("worker").image("worker").build();
    let define = pool.ecs.register_task_definition().family("dw-other").container_definitions(container);
    define.send().await.unwrap();
    let started = pool.ecs.run_task().cluster("dagwright").task_definition("dw-other").send().await.unwrap();
    let victim = started.tasks()[0].task_arn().unwrap().to_owned();
    let replica = Replica::start(&db, &pool.setup).await;
    wait_until(PATIENCE, "the surplus worker to be told", async || {
        check_in(&replica, 7, &victim, "dw-test:1", &[]).await
    })
    .await;
    check_in(&replica, 7, &victim, "dw-test:1", &["drained"]).await;
    wait_for_count(&db, "SELECT count(*) FROM workers WHERE left_at IS NOT NULL", 1).await;
    let tasks = pool.ecs.describe_tasks().cluster("dagwright").tasks(&victim).send().await.unwrap();
    assert_eq!(tasks.tasks()[0].desired_status(), Some("RUNNING"));

    let long = json!({"workerId": Uuid::from_u128(6), "taskArn": "a".repeat(513)});
    let answer = replica.post(TOKEN, "/v1/workers:checkin", &long).await;
    assert_eq!(answer.status(), reqwest::StatusCode::UNPROCESSABLE_ENTITY);
}
