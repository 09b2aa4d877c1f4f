//! Nothing wrong is ever committed, nothing lost goes unsaid, and nobody acts for another.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use dagwright_e2e::{
    World,
    checker::{assert_covered_once, assert_query_equals_node, bucket, list_objects, s3, sqs},
    manifests::{LocalSync, worker_pool},
    processes::{environment_of, workers_of},
    wait_for,
};
use dagwright_testkit::fault_proxy::{Fault, Lie, RpcFaultProxy, Rule};
use serde_json::{Value, json};

const TABLES: [&str; 3] = ["chain_blocks", "chain_transactions", "chain_logs"];

/// Every lie that a root can show from one provider, refusals and garbage from another, while an honest one stands last: all
/// of it is noticed, the range is fetched from the other one, and what is committed is what the chain says. The
/// liar is not cordoned, so that it is asked first for every task.
#[tokio::test]
async fn a_lying_provider_never_gets_anything_committed() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let namespace = "e2e-liar";
    let liar = RpcFaultProxy::start(&node).await.expect("the fault proxy starts");
    let rude = RpcFaultProxy::start(&node).await.expect("the fault proxy starts");
    let refused = Fault::Status { status: 429, body: "slow down".into(), retry_after: None };
    let refusals = rude.control().add(Rule::always(refused).times(2));
    let nonsense = rude.control().add(Rule::always(Fault::Garbage));
    liar.tell(Lie::all());
    let sync = LocalSync { chunk_size: 4, to: 120, max_attempts: 20, ..LocalSync::new(namespace, &node) };
    let mut objects = sync.objects();
    objects[0] = sync.rpc_pool(&[("rude", &rude.url()), ("liar", &liar.url()), ("honest", &node)]);
    objects[0]["spec"]["failover"] = json!({ "onVerificationFailure": "Continue" });
    world.apply(namespace, &objects).await;
    world.wait_condition("ChainSync", namespace, "chain", "Synced", "True").await;
    assert!(liar.lies_told() >= Lie::all().len() as u64, "every lie was told, not only {}", liar.lies_told());
    let hits = |rule| rude.control().hits(rule);
    assert!(hits(refusals) == 2 && hits(nonsense) > 0, "the rude one was asked too");
    assert_covered_once(&world, namespace, sync.outputs, 0, 120).await;
    assert_query_equals_node(&world, "e2e_liar", TABLES, &node, 0, 120).await;
    let named: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM attempts a JOIN task_history h USING (task_id) JOIN jobs j USING (job_id)
         WHERE j.namespace = $1 AND a.state = 'Errored' AND a.provider = 'liar' AND a.message LIKE '%block%'",
    )
    .bind(namespace)
    .fetch_one(&world.state)
    .await
    .expect("read attempts");
    assert!(named > 0, "an attempt that failed verification names provider and block");
}

/// With nobody honest left nothing is committed at all, and the ChainSync says so.
#[tokio::test]
async fn with_only_a_liar_nothing_is_committed_and_the_sync_says_why() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let namespace = "e2e-only-liar";
    let liar = RpcFaultProxy::start(&node).await.expect("the fault proxy starts");
    liar.tell(vec![Lie::DropLogs]);
    // The first block with a log is where this lie shows: ask for the load's token transfers.
    let sync = LocalSync { from: 100, to: 120, max_attempts: 2, ..LocalSync::new(namespace, &node) };
    let mut objects = sync.objects();
    objects[0] = sync.rpc_pool(&[("liar", &liar.url())]);
    world.apply(namespace, &objects).await;
    let stalled = world.wait_condition("ChainSync", namespace, "chain", "Stalled", "True").await;
    assert_eq!(stalled["reason"], "TasksFailed");
    let object = world.get("ChainSync", namespace, "chain").await.expect("the ChainSync");
    let problem = object["status"]["problems"][0]["message"].as_str().expect("a problem").to_owned();
    assert!(
        problem.contains("liar") && problem.contains("block"),
        "the problem names provider and block: {problem}"
    );
    let partitions: i64 = sqlx::query_scalar("SELECT count(*) FROM partition_versions WHERE namespace = $1")
        .bind(namespace)
        .fetch_one(&world.state)
        .await
        .expect("count partitions");
    assert_eq!(partitions, 0, "nothing was committed");
}

/// A committed object that somebody deleted is reported, and stays missing.
#[tokio::test]
async fn a_deleted_object_is_reported_and_never_made_again_in_silence() {
    let world = World::enter().await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let namespace = "e2e-missing";
    let sync = LocalSync { to: 40, ..LocalSync::new(namespace, &node) };
    world.apply(namespace, &sync.objects()).await;
    world.wait_condition("ChainSync", namespace, "chain", "Synced", "True").await;
    let (partition, key): (i64, String) = sqlx::query_as(
        "SELECT partition_id, o.key FROM partition_objects o JOIN partition_versions p USING (partition_id)
         JOIN datasets d ON d.namespace = p.namespace AND d.served_version = p.version
         WHERE d.namespace = $1 AND d.name = 'chain-logs' AND p.current ORDER BY o.key LIMIT 1",
    )
    .bind(namespace)
    .fetch_one(&world.state)
    .await
    .expect("an object");
    remove_all_versions(&world, &key).await;
    // Its turn comes now, and not behind the partitions of every other scenario: so many are looked at per second.
    sqlx::query("UPDATE partition_versions SET checked_at = NULL WHERE partition_id = $1")
        .bind(partition)
        .execute(&world.state)
        .await
        .expect("ask for a look");
    let ready = world.wait_condition("Dataset", namespace, "chain-logs", "Ready", "False").await;
    assert_eq!(ready["reason"], "ObjectMissing");
    assert!(list_objects(&world, &key).await.is_empty(), "nobody wrote it again");
    let error = world
        .query("select count(*) from e2e_missing.chain_logs where data is null")
        .await
        .expect_err("a query that needs it");
    assert!(error.contains("ObjectMissing"), "the query says why: {error}");
}

async fn remove_all_versions(world: &World, key: &str) {
    let (s3, bucket) = (s3(world).await, bucket(world).await);
    let listed = s3.list_object_versions().bucket(&bucket).prefix(key).send().await.expect("list versions");
    let ids: Vec<ObjectIdentifier> = listed
        .versions()
        .iter()
        .map(|v| {
            ObjectIdentifier::builder()
                .key(key)
                .set_version_id(v.version_id().map(Into::into))
                .build()
                .expect("a key")
        })
        .collect();
    let delete = Delete::builder().set_objects(Some(ids)).build().expect("objects");
    s3.delete_objects().bucket(&bucket).delete(delete).send().await.expect("delete the object");
}

/// A message that nobody can read ends in the dead-letter queue, and the pool's status counts it.
#[tokio::test]
async fn a_poison_message_goes_to_the_dead_letter_queue_and_shows_in_status() {
    let world = World::enter().await;
    let namespace = "e2e-poison";
    world.apply(namespace, &[worker_pool(namespace)]).await;
    world.wait_condition("WorkerPool", namespace, "ingest", "Ready", "True").await;
    let pool = world.get("WorkerPool", namespace, "ingest").await.expect("the pool");
    let queue = pool["status"]["queueUrl"].as_str().expect("a queue").to_owned();
    sqs(&world)
        .await
        .send_message()
        .queue_url(&queue)
        .message_body("{\"no\": \"task\"}")
        .send()
        .await
        .expect("send");
    wait_for("the pool to count a dead letter", || async {
        let pool = world.get("WorkerPool", namespace, "ingest").await?;
        match pool["status"]["deadLetters"].as_u64() {
            Some(n) if n > 0 => Ok(()),
            _ => Err(format!("status {}", pool["status"])),
        }
    })
    .await;
    world.delete("WorkerPool", namespace, "ingest").await;
}

/// A pool's token opens that pool's tasks, no other's.
#[tokio::test]
async fn a_pool_cannot_claim_for_another() {
    let world = World::enter().await;
    world.apply("e2e-pool", &[worker_pool("e2e-pool")]).await;
    let token = wait_for("a worker of the pool with its token", || async {
        let workers = workers_of(&world, "e2e-pool");
        workers.iter().find_map(|pid| pool_token(*pid)).ok_or_else(|| "no worker runs".to_owned())
    })
    .await;
    let node = world.url("EVM_RPC_URL").to_owned();
    let namespace = "e2e-other-pool";
    let sync = LocalSync { chunk_size: 5, ..LocalSync::new(namespace, &node) };
    world.apply(namespace, &sync.objects()).await;
    let foreign = wait_for("a task of the other pool", || async {
        let found: Option<String> = sqlx::query_scalar(
            "SELECT task_id::text FROM tasks JOIN jobs USING (job_id) WHERE namespace = $1 AND state = 'Queued' LIMIT 1",
        )
        .bind(namespace)
        .fetch_optional(&world.state)
        .await
        .map_err(|e| e.to_string())?;
        found.ok_or_else(|| "no queued task".to_owned())
    })
    .await;
    let claim = json!({ "workerId": uuid::Uuid::nil(), "offered": [{ "taskId": foreign, "attempt": 1 }] });
    let claim_as = async |bearer: &str| -> (u16, Value) {
        let url = format!("{}/v1/tasks:claim", world.url("DAGWRIGHT_DISPATCHER_URL"));
        let answer = world
            .http
            .post(url)
            .bearer_auth(bearer)
            .json(&claim)
            .send()
            .await
            .expect("the dispatcher answers");
        (answer.status().as_u16(), answer.json().await.expect("problem+json"))
    };
    assert_eq!(claim_as("dwp_nobody").await.0, 401);
    let (status, problem) = claim_as(&token).await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("WrongPool")), "{problem}");
}

fn pool_token(pid: i32) -> Option<String> {
    environment_of(pid).iter().find_map(|e| e.strip_prefix("DAGWRIGHT_POOL_TOKEN=").map(str::to_owned))
}
