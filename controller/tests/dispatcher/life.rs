//! A stream from its first plan to served data, over AWS on the wire with IAM enforced, by two replicas.

use std::{collections::BTreeMap, time::Duration};

use aws_config::SdkConfig;
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_s3::types::ObjectIdentifier;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use dagwright_aws::{
    object_write::{ObjectWriter, Renewing, SessionCredentials},
    queue_receive::QueueReceiver,
    queue_send::QueueSender,
};
use dagwright_cli::awslocal::{BootstrapConfig, CredentialsEndpoint, REGION, bootstrap};
use dagwright_contracts::{
    message::TaskMessage,
    tasks::{CredentialsResponse, Offer, TaskLease, Verdict},
};
use dagwright_testkit::{aws_endpoint::AwsEndpoint, wait::wait_until};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;

use crate::support::{
    BUCKET, Replica, Setup, TOKEN, add_job, client, count, fence, install, pool, wait_for_count,
};

/// How long a service may take to follow.
const PATIENCE: Duration = Duration::from_secs(20);

/// An installation with AWS, and the roles of its processes.
pub(crate) struct World {
    pub(crate) aws: AwsEndpoint,
    pub(crate) setup: Setup,
    pub(crate) role_arns: BTreeMap<&'static str, String>,
    pub(crate) queue: String,
    dead_letters: String,
}

pub(crate) async fn world(db: &PgPool) -> World {
    install(db).await;
    let aws = AwsEndpoint::start().await;
    let config = BootstrapConfig {
        endpoint: aws.url.clone(),
        region: REGION.into(),
        stack: "test".into(),
        bucket: BUCKET.into(),
        cluster: "dagwright".into(),
        log_group: "/dagwright/test/workers".into(),
    };
    let made = bootstrap(config).await.unwrap();
    let sqs = aws_sdk_sqs::Client::new(&aws.root());
    let create =
        async |name: &str| sqs.create_queue().queue_name(name).send().await.unwrap().queue_url.unwrap();
    let (queue, dead_letters) = (create("dw-test").await, create("dw-test-dlq").await);
    let sql = "UPDATE pools SET queue_url = $1, dead_letter_queue_url = $2 WHERE pool_id = $3";
    sqlx::query(sql).bind(&queue).bind(&dead_letters).bind(pool().0).execute(db).await.unwrap();
    let role = as_role(&aws, &made.role_arns["dispatcher"]).await;
    let setup = Setup { aws: role, data_role_arn: made.role_arns["data"].clone(), ..Setup::default() };
    World { aws, setup, role_arns: made.role_arns, queue, dead_letters }
}

/// The rights of a role, as the local stack hands them to our processes.
pub(crate) async fn as_role(aws: &AwsEndpoint, arn: &str) -> SdkConfig {
    let endpoint = CredentialsEndpoint::start(([127, 0, 0, 1], 0).into(), aws.url.clone()).await.unwrap();
    let env: BTreeMap<String, String> = endpoint.env_for(arn).into_iter().collect();
    let call = client().get(&env["AWS_CONTAINER_CREDENTIALS_FULL_URI"]);
    let call = call.header("authorization", &env["AWS_CONTAINER_AUTHORIZATION_TOKEN"]);
    let keys: Value = call.send().await.unwrap().error_for_status().unwrap().json().await.unwrap();
    let text = |field: &str| keys[field].as_str().unwrap().to_owned();
    let keys =
        Credentials::new(text("AccessKeyId"), text("SecretAccessKey"), Some(text("Token")), None, "a role");
    aws.root().to_builder().credentials_provider(SharedCredentialsProvider::new(keys)).build()
}

/// The next task, as a worker gets it: by a message.
pub(crate) async fn claim_by_message(world: &World, replica: &Replica) -> TaskLease {
    let queue = QueueReceiver::new(&world.aws.root(), &world.queue);
    loop {
        for message in queue.receive(1, Duration::from_secs(20)).await.unwrap() {
            let body: TaskMessage = serde_json::from_str(&message.body).unwrap();
            let offer = Offer { task_id: body.task_id, attempt: body.attempt };
            let claimed = replica.claim(vec![offer], 0, 0).await;
            queue.delete(&[message.handle]).await.unwrap();
            if let Some(lease) = claimed.leases.into_iter().next() {
                return lease;
            }
        }
    }
}

pub(crate) async fn writer(world: &World, replica: &Replica, lease: &TaskLease) -> ObjectWriter {
    let answer =
        replica.post(TOKEN, "/v1/tasks:credentials", &fence(&lease.fence)).await.error_for_status().unwrap();
    let keys: CredentialsResponse = answer.json().await.unwrap();
    let renew = move || {
        let keys = keys.clone();
        async move {
            Ok(SessionCredentials {
                access_key_id: keys.access_key_id,
                secret_access_key: keys.secret_access_key,
                session_token: keys.session_token,
                expires_at: keys.expires_at.into(),
            })
        }
    };
    ObjectWriter::new(&world.setup.aws, Renewing::new(renew))
}

pub(crate) fn sha256(body: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(body))
}

/// The hash of a block on the one true chain of these tests.
fn hash(height: u64) -> String {
    format!("0x{height:064x}")
}

/// A completion of one object, as an honest worker reports it.
pub(crate) fn completion(lease: &TaskLease, key: &str, body: &[u8]) -> Value {
    let range = lease.work.range;
    let mut row = fence(&lease.fence);
    row["partitions"] = json!([{
        "output": "blocks", "contentHash": hash(1), "firstParentHash": hash(range.start()), "lastHash": hash(range.end()),
        "rows": range.len(), "verification": "verified",
        "objects": [{"key": key, "bytes": body.len(), "sha256": sha256(body), "rows": range.len()}],
    }]);
    json!({"completions": [row]})
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_stream_is_planned_sent_claimed_written_committed_and_served(db: PgPool) {
    let world = world(&db).await;
    let (a, b) = (Replica::start(&db, &world.setup).await, Replica::start(&db, &world.setup).await);
    add_job(&db).await;
    let body = b"PAR1 and so on";
    let mut keys = vec![];
    for replica in [&a, &b, &a] {
        let lease = claim_by_message(&world, replica).await;
        let writer = writer(&world, replica, &lease).await;
        let key = format!("{}0.parquet", lease.work.outputs[0].prefix);
        writer.create(BUCKET, &key, Bytes::from_static(body), &sha256(body)).await.unwrap();
        let stray = writer
            .create(BUCKET, "demo/v/elsewhere/0.parquet", Bytes::from_static(body), &sha256(body))
            .await;
        assert_eq!(
            stray.unwrap_err().class,
            dagwright_aws::Class::Denied,
            "its own prefixes and nothing else"
        );
        let done = completion(&lease, &key, body);
        assert_eq!(replica.outcome("/v1/tasks:complete", &done).await.0, Verdict::Accepted);
        assert_eq!(
            b.outcome("/v1/tasks:complete", &done).await.0,
            Verdict::Accepted,
            "repeated at another replica"
        );
        keys.push(key);
    }
    assert_eq!(count(&db, "SELECT count(*) FROM partition_versions").await, 3, "each range once");
    wait_for_count(&db, "SELECT count(*) FROM datasets WHERE served_version IS NOT NULL", 1).await;
    assert_eq!(count(&db, "SELECT count(*) FROM tasks").await, 0);

    let gone = ObjectIdentifier::builder().key(&keys[1]).build().unwrap();
    let delete = aws_sdk_s3::types::Delete::builder().objects(gone).build().unwrap();
    let s3 = aws_sdk_s3::Client::new(&world.aws.root());
    s3.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    wait_for_count(&db, "SELECT count(*) FROM partition_versions WHERE missing_since IS NOT NULL", 1).await;
    assert_eq!(count(&db, "SELECT count(*) FROM tasks").await, 0, "never made again in silence");
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn results_that_do_not_hold_are_refused_and_the_task_is_tried_again(db: PgPool) {
    let world = world(&db).await;
    let replica = Replica::start(&db, &world.setup).await;
    add_job(&db).await;
    let body = b"PAR1";
    let written = replica.claim_one().await;
    let key = format!("{}0.parquet", written.work.outputs[0].prefix);
    let writer = writer(&world, &replica, &written).await;
    writer.create(BUCKET, &key, Bytes::from_static(body), &sha256(body)).await.unwrap();
    let (verdict, detail) = replica.outcome("/v1/tasks:complete", &completion(&written, &key, b"LIES")).await;
    assert_eq!(verdict, Verdict::Rejected, "{detail}");
    assert!(detail.contains("checksum"), "{detail}");
    assert_eq!(
        replica.outcome("/v1/tasks:complete", &completion(&written, &key, body)).await.0,
        Verdict::StaleLease
    );

    let absent = replica.claim_one().await;
    let nowhere = format!("{}7.parquet", absent.work.outputs[0].prefix);
    let (verdict, detail) = replica.outcome("/v1/tasks:complete", &completion(&absent, &nowhere, body)).await;
    assert!(verdict == Verdict::Rejected && detail.contains("is not in the store"), "{detail}");
    let stray = replica.claim_one().await;
    let (verdict, detail) = replica.outcome("/v1/tasks:complete", &completion(&stray, &key, body)).await;
    assert!(verdict == Verdict::Rejected && detail.contains("lies outside its prefix"), "{detail}");
    assert_eq!(count(&db, "SELECT count(*) FROM partition_versions").await, 0);
    assert_eq!(count(&db, "SELECT count(*) FROM attempts WHERE reason = 'ResultsRefused'").await, 3);
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn dead_letters_end_waiting_attempts_or_stay_and_are_counted(db: PgPool) {
    let world = world(&db).await;
    let replica = Replica::start(&db, &world.setup).await;
    add_job(&db).await;
    let running = replica.claim_one().await.fence.task_id;
    let waiting: uuid::Uuid = sqlx::query_scalar("SELECT task_id FROM tasks WHERE state = 'Queued' LIMIT 1")
        .fetch_one(&db)
        .await
        .expect("the job has more than one task");
    let dead = |task| json!({"v": 1, "taskId": task, "attempt": 1}).to_string();
    let sender = QueueSender::new(&world.aws.root());
    let letters = [dead(running.0), dead(waiting), "poison".into()];
    sender.send(&world.dead_letters, &letters).await.unwrap();
    wait_for_count(&db, "SELECT dead_letters FROM pools WHERE name = 'ingest'", 1).await;
    wait_for_count(&db, "SELECT count(*) FROM tasks WHERE attempt = 2 AND attempts_spent = 1", 1).await;
    // Whose lease holds is alive, whatever became of its message.
    assert_eq!(
        count(&db, "SELECT count(*) FROM tasks WHERE state = 'Running' AND attempts_spent = 0").await,
        1
    );
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_service_follows_the_backlog_and_a_count_that_somebody_set_is_set_back(db: PgPool) {
    let world = world(&db).await;
    let ecs = aws_sdk_ecs::Client::new(&world.aws.root());
    let container = aws_sdk_ecs::types::ContainerDefinition::builder().name("worker").image("worker").build();
    let family = "dw-test";
    ecs.register_task_definition().family(family).container_definitions(container).send().await.unwrap();
    let create = ecs
        .create_service()
        .cluster("dagwright")
        .service_name(family)
        .task_definition(family)
        .desired_count(0);
    let arn = create.send().await.unwrap().service.unwrap().service_arn.unwrap();
    let launch = json!({"family": family, "taskDefinitionArn": "dw-test:1", "subnets": [], "securityGroups": [],
                        "assignPublicIp": false, "capacity": []});
    let sql = "UPDATE pools SET service_arn = $1, launch = $3 WHERE pool_id = $2";
    sqlx::query(sql).bind(&arn).bind(pool().0).bind(launch).execute(&db).await.unwrap();
    let desired = async || {
        let services = ecs.describe_services().cluster("dagwright").services(&arn).send().await.unwrap();
        services.services()[0].desired_count()
    };
    let _replicas = (Replica::start(&db, &world.setup).await, Replica::start(&db, &world.setup).await);
    add_job(&db).await;
    wait_for_count(&db, "SELECT desired_workers::bigint FROM pools WHERE name = 'ingest'", 2).await;
    wait_until(PATIENCE, "the service to grow", async || desired().await == 2).await;
    ecs.update_service().cluster("dagwright").service(&arn).desired_count(7).send().await.unwrap();
    wait_until(PATIENCE, "the count to be set back", async || desired().await == 2).await;
    sqlx::query("UPDATE jobs SET suspended = true").execute(&db).await.unwrap();
    wait_until(PATIENCE, "the service to shrink", async || desired().await == 0).await;
}
