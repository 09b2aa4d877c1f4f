//! What the session of an attempt may do in the bucket, and what the worker's own role may. Every denial is shown beside what
//! the same keys may do, so that none passes because the keys are broken.

use aws_config::SdkConfig;
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_s3::{error::ProvideErrorMetadata, operation::put_object::builders::PutObjectFluentBuilder};
use dagwright_aws::task_credentials::{TaskAccess, TaskCredentials};
use dagwright_contracts::tasks::{CredentialsResponse, TaskLease};
use dagwright_core::ids::{AttemptId, VersionId};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    life::{World, as_role, world},
    support::{BUCKET, Replica, TOKEN, add_job, fence, wait_for_count},
};

/// `Ok`, or the error's code.
fn outcome<T, E: ProvideErrorMetadata>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "Ok".to_owned(),
        Err(error) => error.code().unwrap_or("unknown").to_owned(),
    }
}

macro_rules! allowed {
    ($call:expr) => {
        assert_eq!(
            outcome($call.send().await.map_err(|e| e.into_service_error())),
            "Ok",
            "{}",
            stringify!($call)
        )
    };
}

macro_rules! refused {
    ($code:expr, $call:expr) => {
        assert_eq!(
            outcome($call.send().await.map_err(|e| e.into_service_error())),
            $code,
            "{}",
            stringify!($call)
        )
    };
}

macro_rules! denied {
    ($call:expr) => {
        refused!("AccessDenied", $call)
    };
}

fn s3(aws: &SdkConfig, id: &str, secret: &str, token: &str) -> aws_sdk_s3::Client {
    let keys = Credentials::new(id, secret, Some(token.to_owned()), None, "an attempt");
    let config = aws.to_builder().credentials_provider(SharedCredentialsProvider::new(keys)).build();
    aws_sdk_s3::Client::new(&config)
}

async fn client_of(world: &World, replica: &Replica, lease: &TaskLease) -> aws_sdk_s3::Client {
    let answer = replica.post(TOKEN, "/v1/tasks:credentials", &fence(&lease.fence)).await;
    let keys: CredentialsResponse = answer.error_for_status().unwrap().json().await.unwrap();
    s3(&world.aws.root(), &keys.access_key_id, &keys.secret_access_key, &keys.session_token)
}

/// A write as workers do it.
fn create(s3: &aws_sdk_s3::Client, key: &str) -> PutObjectFluentBuilder {
    s3.put_object().bucket(BUCKET).key(key).if_none_match("*").body(b"PAR1".to_vec().into())
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn an_attempt_writes_its_own_prefixes_once_and_nothing_else(db: PgPool) {
    let world = world(&db).await;
    let replica = Replica::start(&db, &world.setup).await;
    add_job(&db).await;
    let (mine, theirs) = (replica.claim_one().await, replica.claim_one().await);
    let (own, foreign) = (&mine.work.outputs[0].prefix, &theirs.work.outputs[0].prefix);
    let version = mine.work.outputs[0].version;
    let (s3, neighbour) =
        (client_of(&world, &replica, &mine).await, client_of(&world, &replica, &theirs).await);
    let key = format!("{own}0.parquet");
    allowed!(create(&s3, &key));
    allowed!(s3.get_object().bucket(BUCKET).key(&key));
    let neighbours = format!("{foreign}0.parquet");
    allowed!(create(&neighbour, &neighbours));
    allowed!(neighbour.get_object().bucket(BUCKET).key(&neighbours));

    // Out of its prefixes: another attempt's, the version's root, another version, another namespace, the bucket's root.
    let elsewhere = VersionId(Uuid::from_u128(77));
    let attempt = mine.fence.attempt_id;
    for stray in [
        format!("{foreign}1.parquet"),
        format!("demo/v/{version}/0.parquet"),
        format!("demo/v/{elsewhere}/r/{attempt}/0.parquet"),
        format!("other/v/{version}/r/{attempt}/0.parquet"),
        format!("demo/v/{version}/r/{attempt}"),
        "0.parquet".to_owned(),
    ] {
        denied!(create(&s3, &stray));
    }
    // Reading: not what another attempt wrote, though it is of the same version.
    denied!(s3.get_object().bucket(BUCKET).key(&neighbours));
    refused!("unknown", s3.head_object().bucket(BUCKET).key(&neighbours));
    // Listing: not even its own prefix.
    denied!(s3.list_objects_v2().bucket(BUCKET));
    denied!(s3.list_objects_v2().bucket(BUCKET).prefix(own));
    denied!(s3.list_object_versions().bucket(BUCKET).prefix(own));
    // Copying: neither in nor out nor within.
    for (from, to) in [(&neighbours, format!("{own}1.parquet")), (&key, format!("{foreign}1.parquet"))] {
        denied!(s3.copy_object().bucket(BUCKET).copy_source(format!("{BUCKET}/{from}")).key(to));
    }
    denied!(
        s3.copy_object().bucket(BUCKET).copy_source(format!("{BUCKET}/{key}")).key(format!("{own}1.parquet"))
    );
    denied!(s3.delete_object().bucket(BUCKET).key(&key));

    // What is there stays: the conditional write meets it, and there is no other.
    refused!("PreconditionFailed", create(&s3, &key));
    denied!(s3.put_object().bucket(BUCKET).key(&key).body(b"lies".to_vec().into()));
    denied!(s3.put_object().bucket(BUCKET).key(format!("{own}2.parquet")).body(b"PAR1".to_vec().into()));
    denied!(s3.create_multipart_upload().bucket(BUCKET).key(format!("{own}2.parquet")));
    let kept = s3.get_object().bucket(BUCKET).key(&key).send().await.unwrap();
    assert_eq!(kept.body.collect().await.unwrap().into_bytes(), &b"PAR1"[..]);
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn inputs_are_read_by_their_version_and_never_written(db: PgPool) {
    let world = world(&db).await;
    let root = aws_sdk_s3::Client::new(&world.aws.root());
    let version = |n: u128| VersionId(Uuid::from_u128(n));
    let (input, other, output) = (version(1), version(2), version(3));
    let attempt = AttemptId(Uuid::from_u128(4));
    let key = |namespace: &str, version: VersionId| format!("{namespace}/v/{version}/r/a/0.parquet");
    let (readable, other_version, other_namespace) =
        (key("shared", input), key("shared", other), key("demo", input));
    for key in [&readable, &other_version, &other_namespace] {
        allowed!(root.put_object().bucket(BUCKET).key(key));
    }
    let access = TaskAccess {
        bucket: BUCKET,
        namespace: "demo",
        attempt,
        outputs: &[output],
        inputs: &[("shared", input)],
    };
    let sts = TaskCredentials::new(&world.setup.aws, &world.setup.data_role_arn);
    let session = sts.session(&access).await.unwrap();
    let s3 =
        s3(&world.aws.root(), &session.access_key_id, &session.secret_access_key, &session.session_token);
    allowed!(s3.get_object().bucket(BUCKET).key(&readable));
    allowed!(create(&s3, &format!("demo/v/{output}/r/{attempt}/0.parquet")));
    denied!(s3.get_object().bucket(BUCKET).key(&other_version));
    denied!(s3.get_object().bucket(BUCKET).key(&other_namespace));
    denied!(s3.list_objects_v2().bucket(BUCKET).prefix(format!("shared/v/{input}/")));
    denied!(create(&s3, &readable));
    denied!(create(&s3, &format!("shared/v/{input}/r/{attempt}/0.parquet")));
    let taken = format!("demo/v/{output}/r/{attempt}/1.parquet");
    denied!(s3.copy_object().bucket(BUCKET).copy_source(format!("{BUCKET}/{other_version}")).key(&taken));
    denied!(s3.delete_object().bucket(BUCKET).key(&readable));
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn the_workers_own_role_writes_and_reads_no_object(db: PgPool) {
    let world = world(&db).await;
    let role = as_role(&world.aws, &world.role_arns["worker-task"]).await;
    allowed!(aws_sdk_sqs::Client::new(&role).receive_message().queue_url(&world.queue));
    let root = aws_sdk_s3::Client::new(&world.aws.root());
    allowed!(root.put_object().bucket(BUCKET).key("demo/0"));
    let s3 = aws_sdk_s3::Client::new(&role);
    denied!(create(&s3, "demo/1"));
    denied!(s3.get_object().bucket(BUCKET).key("demo/0"));
    denied!(s3.list_objects_v2().bucket(BUCKET));
    denied!(s3.delete_object().bucket(BUCKET).key("demo/0"));
    let sts = aws_sdk_sts::Client::new(&role);
    denied!(sts.assume_role().role_arn(&world.setup.data_role_arn).role_session_name("x"));
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_lost_lease_gets_no_rights(db: PgPool) {
    let world = world(&db).await;
    let replica = Replica::start(&db, &world.setup).await;
    add_job(&db).await;
    let lost = replica.claim_one().await;
    let ask = async || replica.post(TOKEN, "/v1/tasks:credentials", &fence(&lost.fence)).await;
    assert_eq!(ask().await.status(), 200);
    sqlx::query("UPDATE tasks SET cancel_requested = true WHERE state = 'Running'")
        .execute(&db)
        .await
        .unwrap();
    assert_eq!(ask().await.status(), 409, "canceled");
    sqlx::query("UPDATE tasks SET cancel_requested = false WHERE state = 'Running'")
        .execute(&db)
        .await
        .unwrap();
    assert_eq!(ask().await.status(), 200);
    sqlx::query("UPDATE tasks SET lease_expires_at = clock_timestamp() WHERE state = 'Running'")
        .execute(&db)
        .await
        .unwrap();
    wait_for_count(&db, "SELECT count(*) FROM tasks WHERE state = 'Running'", 0).await;
    let answer = ask().await;
    assert_eq!(answer.status(), 409);
    assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["code"], "StaleLease");
}
