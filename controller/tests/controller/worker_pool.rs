use std::collections::BTreeMap;

use dagwright_aws::{queues::Queues, services::Services, task_definitions::TaskDefinitions};
use dagwright_core::names::aws_name;
use serde_json::{Value, json};

use crate::{
    objects::worker_pool,
    world::{World, message, passes},
};

struct Aws {
    queues: Queues,
    services: Services,
    definitions: TaskDefinitions,
    name: String,
}

fn aws(world: &World) -> Aws {
    let root = world.infra.root();
    Aws {
        queues: Queues::new(&root),
        services: Services::new(&root),
        definitions: TaskDefinitions::new(&root),
        name: aws_name("local", &world.namespace, "ingest"),
    }
}

async fn reconcile(world: &World, mark: &str) {
    world.annotate("WorkerPool", "ingest", "reconcile.fluxcd.io/requestedAt", Some(mark)).await;
    world
        .wait("WorkerPool", "ingest", |o| {
            (o["status"]["lastHandledReconcileAt"] == mark).then_some(()).ok_or_else(|| "not handled".into())
        })
        .await;
}

#[tokio::test]
async fn a_pool_makes_its_resources_keeps_them_and_removes_them() {
    let world = World::start().await;
    let aws = aws(&world);
    let mut pool = worker_pool("ingest");
    world.apply(&pool).await;
    let object = world.ready("WorkerPool", "ingest").await;
    world.condition("WorkerPool", "ingest", "QueueReady", "True", "Succeeded").await;
    world.condition("WorkerPool", "ingest", "ServiceReady", "True", "Succeeded").await;

    let queue = aws.queues.describe(&aws.name).await.unwrap().unwrap();
    let dead = aws.queues.describe(&format!("{}-dlq", aws.name)).await.unwrap().unwrap();
    assert_eq!(queue.attributes["VisibilityTimeout"], "45");
    let redrive: Value = serde_json::from_str(&queue.attributes["RedrivePolicy"]).unwrap();
    assert_eq!(
        (&redrive["deadLetterTargetArn"], redrive["maxReceiveCount"].to_string().trim_matches('"')),
        (&json!(dead.arn), "3")
    );
    let service = aws.services.describe("dagwright", &aws.name).await.unwrap().unwrap();
    assert_eq!((service.desired, &json!(service.arn)), (0, &object["status"]["serviceArn"]));

    // The desired count is the scaler's; everything else is drift.
    let ecs = aws_sdk_ecs::Client::new(&world.infra.root());
    ecs.update_service().cluster("dagwright").service(&aws.name).desired_count(1).send().await.unwrap();
    aws.queues
        .set_attributes(&queue.url, &BTreeMap::from([("VisibilityTimeout".into(), "7".into())]))
        .await
        .unwrap();
    reconcile(&world, "drift").await;
    let mended = aws.queues.describe(&aws.name).await.unwrap().unwrap();
    assert_eq!(mended.attributes["VisibilityTimeout"], "45");
    assert_eq!(aws.services.describe("dagwright", &aws.name).await.unwrap().unwrap().desired, 1);
    assert!(world.events("WorkerPool", "ingest").await.contains(&"DriftCorrected".to_owned()));
    ecs.update_service().cluster("dagwright").service(&aws.name).desired_count(0).send().await.unwrap();

    // A revision only when what workers are started with changes.
    pool["spec"]["run"]["service"]["cooldown"] = json!("90s");
    world.apply(&pool).await;
    let same = world.ready("WorkerPool", "ingest").await;
    assert_eq!(same["status"]["taskDefinitionArn"], object["status"]["taskDefinitionArn"]);
    pool["spec"]["image"] = json!("dagwright/worker:next");
    world.apply(&pool).await;
    let next = world.ready("WorkerPool", "ingest").await;
    assert_ne!(next["status"]["taskDefinitionArn"], object["status"]["taskDefinitionArn"]);
    let service = aws.services.describe("dagwright", &aws.name).await.unwrap().unwrap();
    assert_eq!(json!(service.task_definition_arn), next["status"]["taskDefinitionArn"]);

    world.delete("WorkerPool", "ingest").await;
    world.gone("WorkerPool", "ingest").await;
    assert!(aws.queues.describe(&aws.name).await.unwrap().is_none());
    assert!(aws.queues.describe(&format!("{}-dlq", aws.name)).await.unwrap().is_none());
    assert!(aws.services.describe("dagwright", &aws.name).await.unwrap().is_none());
    assert!(aws.definitions.latest(&aws.name).await.unwrap().is_none());
}

#[tokio::test]
async fn retained_resources_are_found_again_and_foreign_ones_never_taken() {
    let world = World::start().await;
    let aws = aws(&world);
    let foreign = BTreeMap::from([("team".to_owned(), "other".to_owned())]);
    let url = aws.queues.create(&aws.name, &BTreeMap::new(), &foreign).await.unwrap();
    let mut pool = worker_pool("ingest");
    pool["spec"]["deletionPolicy"] = json!("Retain");
    world.apply(&pool).await;
    let text = world.stalled("WorkerPool", "ingest", "NotOwned").await;
    assert!(text.contains(&aws.name), "{text}");
    let untouched = aws.queues.describe(&aws.name).await.unwrap().unwrap();
    assert_eq!(untouched.tags, foreign);

    aws.queues.delete(&url).await.unwrap();
    // Nothing tells the controller; asking does.
    world.annotate("WorkerPool", "ingest", "reconcile.fluxcd.io/requestedAt", Some("1")).await;
    let first = world.ready("WorkerPool", "ingest").await;
    world.delete("WorkerPool", "ingest").await;
    world.gone("WorkerPool", "ingest").await;
    assert!(aws.queues.describe(&aws.name).await.unwrap().is_some(), "retained");

    world.apply(&pool).await;
    let again = world.ready("WorkerPool", "ingest").await;
    assert_eq!(again["status"]["queueUrl"], first["status"]["queueUrl"]);
    assert_eq!(again["status"]["serviceArn"], first["status"]["serviceArn"]);
    let tokens: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pool_tokens t JOIN pools p USING (pool_id) WHERE p.namespace = $1",
    )
    .bind(&world.namespace)
    .fetch_one(&world.state)
    .await
    .unwrap();
    assert_eq!(tokens, 1, "a re-created pool is another principal: the old token opens nothing");
}

#[tokio::test]
async fn a_pool_that_rests_is_not_written() {
    let world = World::start().await;
    world.apply(&worker_pool("ingest")).await;
    world.ready("WorkerPool", "ingest").await;
    reconcile(&world, "1").await;
    let version = world.get("WorkerPool", "ingest").await.unwrap()["metadata"]["resourceVersion"].clone();
    let before = passes("WorkerPool").await;
    // The scaler noted something that no status shows.
    sqlx::query(
        "UPDATE pools SET dead_letters = dead_letters + 0, last_backlog_at = now() WHERE namespace = $1",
    )
    .bind(&world.namespace)
    .execute(&world.state)
    .await
    .unwrap();
    world.passes("WorkerPool", before, 1.0).await;
    assert_eq!(world.get("WorkerPool", "ingest").await.unwrap()["metadata"]["resourceVersion"], version);
}

#[tokio::test]
async fn an_endpoint_that_forgot_everything_gets_its_resources_back() {
    let world = World::start().await;
    let aws = aws(&world);
    world.apply(&worker_pool("ingest")).await;
    let before = world.ready("WorkerPool", "ingest").await;
    let ecs = aws_sdk_ecs::Client::new(&world.infra.root());
    ecs.delete_service().cluster("dagwright").service(&aws.name).force(true).send().await.unwrap();
    aws.definitions.deregister_all(&aws.name).await.unwrap();
    for queue in [aws.name.clone(), format!("{}-dlq", aws.name)] {
        let url = aws.queues.describe(&queue).await.unwrap().unwrap().url;
        aws.queues.delete(&url).await.unwrap();
    }
    // Nobody tells the controller; it looks twice a minute, or when it is asked to.
    reconcile(&world, "look").await;
    let after = world.ready("WorkerPool", "ingest").await;
    assert_eq!(after["status"]["queueUrl"], before["status"]["queueUrl"]);
    assert!(aws.services.describe("dagwright", &aws.name).await.unwrap().is_some());
}

#[tokio::test]
async fn a_pool_on_demand_has_no_service_and_repeats_ecs_words() {
    let world = World::start().await;
    let aws = aws(&world);
    let mut pool = worker_pool("ingest");
    let service = pool["spec"]["run"].clone();
    pool["spec"]["run"] = json!({ "onDemand": { "max": 3 } });
    pool["spec"]["capacity"] =
        json!([{ "provider": "FARGATE_SPOT", "weight": 4 }, { "provider": "FARGATE", "base": 1 }]);
    world.apply(&pool).await;
    let object = world.ready("WorkerPool", "ingest").await;
    world.condition("WorkerPool", "ingest", "ServiceReady", "True", "Succeeded").await;
    assert_eq!(object["status"]["serviceArn"], Value::Null);
    assert!(aws.services.describe("dagwright", &aws.name).await.unwrap().is_none());
    let launch: Value = sqlx::query_scalar("SELECT launch FROM pools WHERE namespace = $1")
        .bind(&world.namespace)
        .fetch_one(&world.state)
        .await
        .unwrap();
    assert_eq!(launch["taskDefinitionArn"], object["status"]["taskDefinitionArn"]);
    let shares = json!([{ "provider": "FARGATE_SPOT", "weight": 4, "base": 0 }, { "provider": "FARGATE", "weight": 1, "base": 1 }]);
    assert_eq!(launch["capacity"], shares);

    // What the dispatcher noted is shown, and goes as it came.
    let note = async |words: Option<&str>| {
        let sql = "UPDATE pools SET start_error = $1, start_failures = 1 WHERE namespace = $2";
        sqlx::query(sql).bind(words).bind(&world.namespace).execute(&world.state).await.unwrap();
    };
    note(Some("CannotPullContainerError: no such image")).await;
    let failing = world.condition("WorkerPool", "ingest", "ServiceReady", "False", "StartFailed").await;
    assert!(message(&failing, "Ready").contains("CannotPullContainerError: no such image"), "{failing}");
    world.condition("WorkerPool", "ingest", "Ready", "False", "ProgressingWithRetry").await;
    note(None).await;
    world.ready("WorkerPool", "ingest").await;

    // From single tasks to a service and back.
    let single = pool["spec"]["run"].clone();
    pool["spec"]["run"] = service;
    world.apply(&pool).await;
    let object = world.ready("WorkerPool", "ingest").await;
    assert!(object["status"]["serviceArn"].is_string());
    pool["spec"]["run"] = single;
    world.apply(&pool).await;
    let object = world.ready("WorkerPool", "ingest").await;
    assert_eq!(object["status"]["serviceArn"], Value::Null);
    assert!(aws.services.describe("dagwright", &aws.name).await.unwrap().is_none());
    world.delete("WorkerPool", "ingest").await;
    world.gone("WorkerPool", "ingest").await;
    assert!(aws.definitions.latest(&aws.name).await.unwrap().is_none());
}

#[tokio::test]
async fn a_pool_may_only_name_task_roles_of_its_namespace() {
    let world = World::start().await;
    let roles = &world.infra.aws.role_arns;
    let mut pool = worker_pool("ingest");
    // Allowed to another namespace, allowed to nobody, and one that every process of ours would like to be.
    for role in
        ["arn:aws:iam::000000000000:role/else", "arn:aws:iam::000000000000:role/none", &roles["dispatcher"]]
    {
        pool["spec"]["roles"] = json!({ "task": role, "execution": roles["worker-execution"] });
        world.apply(&pool).await;
        let text = world.stalled("WorkerPool", "ingest", "RoleNotAllowed").await;
        assert!(
            text.starts_with("spec.roles.task: ") && text.contains(role) && text.contains(&world.namespace),
            "{text}"
        );
    }
    assert!(
        aws(&world).queues.describe(&aws(&world).name).await.unwrap().is_none(),
        "nothing was made for it"
    );
    // The default needs no entry.
    pool["spec"]["roles"]["task"] = json!(roles["worker-task"]);
    world.apply(&pool).await;
    world.ready("WorkerPool", "ingest").await;
    // A role of the list is put to AWS, which lets this controller pass no other than the default.
    pool["spec"]["roles"]["task"] = json!("arn:aws:iam::000000000000:role/team-ingest");
    world.apply(&pool).await;
    world.stalled("WorkerPool", "ingest", "Refused").await;
}
