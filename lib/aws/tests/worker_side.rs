//! What workers and the RPC gateway do with AWS, over the wire and through a proxy that loses answers.
#![expect(clippy::unwrap_used, reason = "a test panics with what went wrong")]

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use dagwright_aws::{
    Class,
    object_write::{ObjectWriter, Renewing, SessionCredentials, Written},
    queue_receive::QueueReceiver,
    secret_read::SecretReader,
};
use dagwright_testkit::{
    aws_endpoint::{AwsEndpoint, root_at},
    fault_proxy::{Fault, FaultProxy, Rule},
};
use sha2::{Digest as _, Sha256};

const BODY: &[u8] = b"PAR1 and so on";

fn sha256(body: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(body))
}

/// A writer whose credentials come as a worker's do.
fn writer(url: &str) -> ObjectWriter {
    let session = || async {
        Ok(SessionCredentials {
            access_key_id: "test".into(),
            secret_access_key: "test".into(),
            session_token: String::new(),
            expires_at: (time::OffsetDateTime::now_utc() + Duration::from_secs(900)).into(),
        })
    };
    ObjectWriter::new(&root_at(url), Renewing::new(session))
}

async fn bucket(aws: &AwsEndpoint) {
    aws_sdk_s3::Client::new(&aws.root()).create_bucket().bucket("data").send().await.unwrap();
}

#[tokio::test]
async fn an_object_is_written_once_whatever_becomes_of_the_answer() {
    let aws = AwsEndpoint::start().await;
    bucket(&aws).await;
    let proxy = FaultProxy::start(&aws.url).await.unwrap();
    let writer = writer(&proxy.url());
    let create = async |key: &str, body: &'static [u8], sum: &str| {
        writer.create("data", key, Bytes::from_static(body), sum).await
    };
    assert_eq!(create("a/0.parquet", BODY, &sha256(BODY)).await.unwrap(), Written::Created);

    let dropped = proxy.control().add(Rule::always(Fault::DropAnswer).on_aws("PutObject").times(1));
    assert_eq!(create("b/0.parquet", BODY, &sha256(BODY)).await.unwrap(), Written::AlreadyThere);
    assert_eq!(proxy.control().hits(dropped), 1);

    let slow =
        Fault::Status { status: 503, body: "<Error><Code>SlowDown</Code></Error>".into(), retry_after: None };
    proxy.control().add(Rule::always(slow).on_aws("PutObject").times(1));
    assert_eq!(create("c/0.parquet", BODY, &sha256(BODY)).await.unwrap(), Written::Created);

    let other = create("a/0.parquet", b"other bytes", &sha256(b"other bytes")).await.unwrap_err();
    assert_eq!(other.class, Class::Conflict, "{other}");
    assert!(other.to_string().starts_with("write s3://data/a/0.parquet: "), "{other}");
    let broken = create("d/0.parquet", BODY, &sha256(b"not these")).await.unwrap_err();
    assert_eq!(broken.class, Class::Permanent, "{broken}");
}

#[tokio::test]
async fn messages_are_received_hidden_shown_and_deleted() {
    let aws = AwsEndpoint::start().await;
    let sqs = aws_sdk_sqs::Client::new(&aws.root());
    let url = sqs.create_queue().queue_name("tasks").send().await.unwrap().queue_url.unwrap();
    let proxy = FaultProxy::start(&aws.url).await.unwrap();
    let queue = QueueReceiver::new(&root_at(&proxy.url()), &url);
    let (none, second) = (Duration::ZERO, Duration::from_secs(1));
    assert!(queue.receive(10, none).await.unwrap().is_empty());
    for n in 0..12 {
        sqs.send_message().queue_url(&url).message_body(format!("m{n}")).send().await.unwrap();
    }
    let mut received = queue.receive(10, second).await.unwrap();
    received.extend(queue.receive(10, second).await.unwrap());
    assert_eq!(received.len(), 12);
    assert!(received.iter().all(|message| message.receive_count == 1));

    let handles: Vec<_> = received.iter().map(|message| message.handle.clone()).collect();
    queue.hide(&handles, Duration::from_secs(60)).await.unwrap();
    assert!(queue.receive(10, none).await.unwrap().is_empty(), "hidden");
    queue.hide(&handles[..2], Duration::ZERO).await.unwrap();
    let again = queue.receive(10, second).await.unwrap();
    assert_eq!(again.iter().map(|message| message.receive_count).collect::<Vec<_>>(), [2, 2], "shown again");

    let again: Vec<_> = again.into_iter().map(|message| message.handle).collect();
    let lost = proxy.control().add(Rule::always(Fault::DropAnswer).on_aws("DeleteMessageBatch").times(1));
    queue.delete(&handles[2..]).await.unwrap();
    queue.delete(&again).await.unwrap();
    assert_eq!(proxy.control().hits(lost), 1, "a delete whose answer was lost is repeated without harm");
    assert!(queue.receive(10, none).await.unwrap().is_empty());

    let gone =
        QueueReceiver::new(&aws.root(), url.replace("tasks", "absent")).receive(1, none).await.unwrap_err();
    assert_eq!(gone.class, Class::NotFound, "{gone}");
}

#[tokio::test]
async fn a_secret_is_read_by_version_and_never_printed() {
    let aws = AwsEndpoint::start().await;
    let client = aws_sdk_secretsmanager::Client::new(&aws.root());
    let made =
        client.create_secret().name("dagwright/k").secret_string("https://rpc/one").send().await.unwrap();
    let (arn, first) = (made.arn.unwrap(), made.version_id.unwrap());
    let next =
        client.put_secret_value().secret_id(&arn).secret_string("https://rpc/two").send().await.unwrap();
    let reader = SecretReader::new(&aws.root());
    let old = reader.read(&arn, &first).await.unwrap();
    let new = reader.read(&arn, &next.version_id.unwrap()).await.unwrap();
    assert_eq!((old.expose(), new.expose()), ("https://rpc/one", "https://rpc/two"));
    assert!(!format!("{new:?}").contains("rpc"));
    let error =
        reader.read("arn:aws:secretsmanager:us-east-1:000000000000:secret:nope", &first).await.unwrap_err();
    assert_eq!(error.class, Class::NotFound, "{error}");
}
