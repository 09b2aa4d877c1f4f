use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_sdk_ecs::types::{ContainerDefinition, NetworkMode};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use serde_json::Value;

use super::testing::{Ministack, client, wait_for};
use super::{CredentialsEndpoint, REGION, config};

/// What an SDK does with the two variables.
async fn fetch(credentials: &CredentialsEndpoint, role_arn: &str) -> Result<Value, String> {
    let env: std::collections::BTreeMap<_, _> = credentials.env_for(role_arn).into_iter().collect();
    let answer = client()
        .get(&env["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
        .header("authorization", &env["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
        .send()
        .await
        .map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{status}: {text}"));
    }
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

async fn assumed(ministack: &Ministack, credentials: &CredentialsEndpoint, role_arn: &str) -> SdkConfig {
    let keys = fetch(credentials, role_arn).await.unwrap();
    let text = |key: &str| keys[key].as_str().unwrap().to_owned();
    let keys =
        Credentials::new(text("AccessKeyId"), text("SecretAccessKey"), Some(text("Token")), None, "test");
    config(&ministack.endpoint, REGION, keys)
}

/// `Ok`, or the error's code.
fn outcome<T, E: ProvideErrorMetadata>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "Ok".to_owned(),
        Err(error) => error.code().unwrap_or("unknown").to_owned(),
    }
}

macro_rules! allowed {
    ($call:expr) => {
        assert_eq!(outcome($call.send().await.map_err(|e| e.into_service_error())), "Ok", stringify!($call))
    };
}

macro_rules! denied {
    ($call:expr) => {{
        let outcome = outcome($call.send().await.map_err(|e| e.into_service_error()));
        assert!(outcome.contains("AccessDenied"), "{}: {outcome}", stringify!($call));
    }};
}

#[tokio::test]
async fn bootstrap_twice_changes_nothing() {
    let ministack = Ministack::start().await;
    let first = ministack.bootstrap().await;
    let second = ministack.bootstrap().await;
    assert_eq!(first.role_arns, second.role_arns);
    assert_eq!(first.role_arns.len(), 7);
    let s3 = aws_sdk_s3::Client::new(&super::root_config(&ministack.endpoint, REGION));
    let versioning = s3.get_bucket_versioning().bucket(&first.bucket).send().await.unwrap();
    assert_eq!(versioning.status().map(aws_sdk_s3::types::BucketVersioningStatus::as_str), Some("Enabled"));
    let lifecycle = s3.get_bucket_lifecycle_configuration().bucket(&first.bucket).send().await.unwrap();
    assert_eq!(lifecycle.rules().len(), 1);
}

#[tokio::test]
async fn each_role_may_do_its_work_and_no_more() {
    let ministack = Ministack::start().await;
    let made = ministack.bootstrap().await;
    let credentials = ministack.credentials().await;
    let role = async |key: &str| assumed(&ministack, &credentials, &made.role_arns[key]).await;
    controller_scope(&role("controller").await, &made).await;
    dispatcher_scope(&role("dispatcher").await, &made).await;
    worker_scope(&role("worker-task").await, &made.bucket).await;
    let s3 = aws_sdk_s3::Client::new(&role("query").await);
    denied!(s3.put_object().bucket(&made.bucket).key("a/1"));
    denied!(s3.list_objects_v2().bucket(&made.bucket));
    let secrets = aws_sdk_secretsmanager::Client::new(&role("rpc").await);
    allowed!(secrets.get_secret_value().secret_id(RPC_KEY));
    denied!(secrets.get_secret_value().secret_id(POOL_TOKEN));
    denied!(secrets.get_secret_value().secret_id("dagwright/elsewhere/demo/chain/a"));
    denied!(secrets.create_secret().name("dagwright/local/demo/chain/other").secret_string("x"));
    let secrets = aws_sdk_secretsmanager::Client::new(&role("worker-execution").await);
    allowed!(secrets.get_secret_value().secret_id(POOL_TOKEN));
    denied!(secrets.get_secret_value().secret_id(RPC_KEY));
    denied!(secrets.get_secret_value().secret_id(TOKENLIKE_KEY));
    denied!(secrets.get_secret_value().secret_id("dagwright/elsewhere/demo/pools/ingest/token"));
}

/// What the controller names them.
const POOL_TOKEN: &str = "dagwright/local/demo/pools/ingest/token";
const RPC_KEY: &str = "dagwright/local/demo/chain/a";
/// A key of an RpcPool `pools` whose provider is called `token`.
const TOKENLIKE_KEY: &str = "dagwright/local/demo/pools/token";

async fn controller_scope(aws: &SdkConfig, made: &super::Bootstrapped) {
    let worker_role = &made.role_arns["worker-task"];
    let sqs = aws_sdk_sqs::Client::new(aws);
    allowed!(sqs.create_queue().queue_name("dw-00000000-ingest"));
    allowed!(sqs.create_queue().queue_name("dw-00000000-ingest-dlq"));
    denied!(sqs.create_queue().queue_name("other"));
    let url = sqs.get_queue_url().queue_name("dw-00000000-ingest").send().await.unwrap();
    denied!(sqs.send_message().queue_url(url.queue_url().unwrap()).message_body("x"));
    let queue = url.queue_url().unwrap();
    allowed!(sqs.get_queue_attributes().queue_url(queue));
    allowed!(sqs.list_queue_tags().queue_url(queue));
    allowed!(sqs.tag_queue().queue_url(queue).tags("a", "b"));
    allowed!(
        sqs.set_queue_attributes().queue_url(queue).attributes(QueueAttributeName::VisibilityTimeout, "45")
    );
    denied!(sqs.untag_queue().queue_url(queue).tag_keys("a"));
    denied!(sqs.purge_queue().queue_url(queue));
    allowed!(sqs.create_queue().queue_name("dw-00000000-gone"));
    let gone = sqs.get_queue_url().queue_name("dw-00000000-gone").send().await.unwrap();
    allowed!(sqs.delete_queue().queue_url(gone.queue_url().unwrap()));
    controller_secrets(aws).await;
    controller_ecs(aws, worker_role).await;
    denied!(aws_sdk_s3::Client::new(aws).get_object().bucket(&made.bucket).key("a/1"));
    denied!(aws_sdk_iam::Client::new(aws).create_role().role_name("x").assume_role_policy_document("{}"));
}

/// It writes secrets and reads none.
async fn controller_secrets(aws: &SdkConfig) {
    let secrets = aws_sdk_secretsmanager::Client::new(aws);
    allowed!(secrets.list_secrets());
    for name in [RPC_KEY, TOKENLIKE_KEY, POOL_TOKEN] {
        allowed!(secrets.create_secret().name(name).secret_string("x"));
    }
    allowed!(secrets.describe_secret().secret_id(RPC_KEY));
    allowed!(secrets.put_secret_value().secret_id(RPC_KEY).secret_string("y"));
    let tag = aws_sdk_secretsmanager::types::Tag::builder().key("a").value("b").build();
    allowed!(secrets.tag_resource().secret_id(RPC_KEY).tags(tag));
    denied!(secrets.get_secret_value().secret_id(RPC_KEY));
    denied!(secrets.create_secret().name("other").secret_string("x"));
    denied!(secrets.create_secret().name("dagwright/elsewhere/demo/chain/a").secret_string("x"));
    let gone = "dagwright/local/demo/chain/gone";
    allowed!(secrets.create_secret().name(gone).secret_string("x"));
    allowed!(secrets.delete_secret().secret_id(gone).force_delete_without_recovery(true));
}

async fn controller_ecs(aws: &SdkConfig, worker_role: &str) {
    let ecs = aws_sdk_ecs::Client::new(aws);
    allowed!(ecs.describe_services().cluster("dagwright").services("dw-none"));
    let container = ContainerDefinition::builder().name("worker").image("dagwright/worker:local").build();
    let register =
        ecs.register_task_definition().family("dw-00000000-ingest").container_definitions(container);
    allowed!(register.network_mode(NetworkMode::Awsvpc).cpu("256").memory("512").task_role_arn(worker_role));
    allowed!(ecs.list_task_definition_families().family_prefix("dw-00000000-ingest"));
    let create =
        ecs.create_service().cluster("dagwright").service_name("dw-00000000-ingest").desired_count(0);
    allowed!(create.task_definition("dw-00000000-ingest"));
    allowed!(ecs.describe_clusters().clusters("dagwright"));
    allowed!(ecs.describe_task_definition().task_definition("dw-00000000-ingest"));
    allowed!(ecs.list_task_definitions().family_prefix("dw-00000000-ingest"));
    let service = "dw-00000000-ingest";
    allowed!(ecs.update_service().cluster("dagwright").service(service).desired_count(0));
    denied!(ecs.create_cluster().cluster_name("other"));
    denied!(ecs.run_task().cluster("dagwright").task_definition(service));
    denied!(ecs.execute_command().cluster("dagwright").task("t").command("sh").interactive(true));
    allowed!(ecs.list_tasks().cluster("dagwright").family(service));
}

async fn dispatcher_scope(aws: &SdkConfig, made: &super::Bootstrapped) {
    let sqs = aws_sdk_sqs::Client::new(aws);
    let url = async |name: &str| {
        let answer = sqs.get_queue_url().queue_name(name).send().await.unwrap();
        answer.queue_url().unwrap().to_owned()
    };
    let (queue, dead) = (url("dw-00000000-ingest").await, url("dw-00000000-ingest-dlq").await);
    allowed!(sqs.send_message().queue_url(&queue).message_body("x"));
    let entry = SendMessageBatchRequestEntry::builder().id("1").message_body("x").build().unwrap();
    allowed!(sqs.send_message_batch().queue_url(&queue).entries(entry));
    denied!(sqs.receive_message().queue_url(&queue));
    allowed!(sqs.receive_message().queue_url(&dead));
    denied!(sqs.delete_queue().queue_url(&queue));
    let s3 = aws_sdk_s3::Client::new(aws);
    denied!(s3.put_object().bucket(&made.bucket).key("a/1"));
    allowed!(s3.list_objects_v2().bucket(&made.bucket));
    let ecs = aws_sdk_ecs::Client::new(aws);
    let service = "dw-00000000-ingest";
    allowed!(ecs.update_service().cluster(&made.cluster).service(service).desired_count(0));
    allowed!(ecs.describe_services().cluster(&made.cluster).services(service));
    denied!(ecs.delete_service().cluster(&made.cluster).service(service));
    let sts = aws_sdk_sts::Client::new(aws);
    let data = &made.role_arns["data"];
    let narrow = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":["s3:PutObject","s3:GetObject"],"Resource":"arn:aws:s3:::{}/a/*"}}]}}"#,
        made.bucket
    );
    let session =
        sts.assume_role().role_arn(data).role_session_name("task").policy(narrow).send().await.unwrap();
    let keys = session.credentials().unwrap();
    let token = Some(keys.session_token().to_owned());
    let keys = Credentials::new(keys.access_key_id(), keys.secret_access_key(), token, None, "test");
    let task = aws_sdk_s3::Client::new(
        &aws.to_builder()
            .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(keys))
            .build(),
    );
    allowed!(task.put_object().bucket(&made.bucket).key("a/1"));
    denied!(task.put_object().bucket(&made.bucket).key("b/1"));
    allowed!(s3.head_object().bucket(&made.bucket).key("a/1"));
    let gone = ObjectIdentifier::builder().key("a/1").build().unwrap();
    allowed!(
        s3.delete_objects().bucket(&made.bucket).delete(Delete::builder().objects(gone).build().unwrap())
    );
    denied!(sts.assume_role().role_arn(&made.role_arns["controller"]).role_session_name("x"));
}

async fn worker_scope(aws: &SdkConfig, bucket: &str) {
    let sqs = aws_sdk_sqs::Client::new(aws);
    let queue = format!("http://127.0.0.1/{}/dw-00000000-ingest", super::ACCOUNT);
    let received = sqs.receive_message().queue_url(&queue).max_number_of_messages(10).send().await.unwrap();
    let receipts: Vec<_> =
        received.messages().iter().filter_map(|message| message.receipt_handle()).collect();
    assert_eq!(receipts.len(), 2);
    let longer = ChangeMessageVisibilityBatchRequestEntry::builder().id("1").receipt_handle(receipts[0]);
    let longer = longer.visibility_timeout(60).build().unwrap();
    allowed!(sqs.change_message_visibility_batch().queue_url(&queue).entries(longer));
    let done = DeleteMessageBatchRequestEntry::builder().id("1").receipt_handle(receipts[0]).build().unwrap();
    allowed!(sqs.delete_message_batch().queue_url(&queue).entries(done));
    denied!(sqs.send_message().queue_url(&queue).message_body("x"));
    denied!(aws_sdk_s3::Client::new(aws).get_object().bucket(bucket).key("a/1"));
}

#[tokio::test]
async fn credentials_need_the_token_of_their_role() {
    let ministack = Ministack::start().await;
    let made = ministack.bootstrap().await;
    let credentials = ministack.credentials().await;
    let env = |key| {
        credentials.env_for(&made.role_arns[key]).into_iter().map(|(_, value)| value).collect::<Vec<_>>()
    };
    let (query, rpc) = (env("query"), env("rpc"));
    let client = client();
    for token in ["", "x", &rpc[1]] {
        let answer = client.get(&query[0]).header("authorization", token).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 401, "{token:?}");
    }
    let keys = fetch(&credentials, &made.role_arns["query"]).await.unwrap();
    assert_eq!(
        keys,
        fetch(&credentials, &made.role_arns["query"])
            .await
            .map(|again| {
                // Only the short expiry moves; the session is the same.
                let mut again = again;
                again["Expiration"] = keys["Expiration"].clone();
                again
            })
            .unwrap()
    );
}

#[tokio::test]
async fn credentials_survive_a_crash_of_the_endpoint() {
    let mut ministack = Ministack::start().await;
    let made = ministack.bootstrap().await;
    let credentials = ministack.credentials().await;
    let role = made.role_arns["dispatcher"].clone();
    let before = fetch(&credentials, &role).await.unwrap();
    ministack.crash_and_restart().await;
    ministack.bootstrap().await;
    let after =
        wait_for("a new session", Duration::from_secs(10), async || fetch(&credentials, &role).await).await;
    assert_ne!(before["AccessKeyId"], after["AccessKeyId"]);
    let aws = assumed(&ministack, &credentials, &role).await;
    allowed!(aws_sdk_s3::Client::new(&aws).list_objects_v2().bucket(&made.bucket));
}
