//! I12 on the wire, with IAM enforced: orphans go, everything that somebody still needs stays.

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use dagwright_contracts::tasks::{TaskLease, Verdict};
use dagwright_testkit::wait::wait_until;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    life::{World, completion, sha256, world, writer},
    support::{BUCKET, Replica, Setup, add_job, fence},
};

const BODY: &[u8] = b"PAR1 and so on";

async fn write(world: &World, replica: &Replica, lease: &TaskLease) -> String {
    let key = format!("{}0.parquet", lease.work.outputs[0].prefix);
    let writer = writer(world, replica, lease).await;
    writer.create(BUCKET, &key, Bytes::from_static(BODY), &sha256(BODY)).await.unwrap();
    key
}

async fn keys(world: &World) -> Vec<String> {
    let s3 = aws_sdk_s3::Client::new(&world.aws.root());
    let listed = s3.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    listed.contents().iter().filter_map(|o| o.key().map(str::to_owned)).collect()
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn orphans_older_than_the_age_go_and_nothing_else_does(db: PgPool) {
    let world = world(&db).await;
    let setup = Setup { sweep_age: "2s", ..world.setup.clone() };
    let replica = Replica::start(&db, &setup).await;
    add_job(&db).await;

    let foreign = "notes/readme.parquet".to_owned();
    let s3 = aws_sdk_s3::Client::new(&world.aws.root());
    let put = s3.put_object().bucket(BUCKET).key(&foreign).body(ByteStream::from_static(BODY));
    put.send().await.unwrap();
    let committed = replica.claim_one().await;
    let pointed = write(&world, &replica, &committed).await;
    let done = completion(&committed, &pointed, BODY);
    assert_eq!(replica.outcome("/v1/tasks:complete", &done).await.0, Verdict::Accepted);
    let working = replica.claim_one().await;
    let leased = write(&world, &replica, &working).await;
    // Written last: once it is old enough to go, so are all the others.
    let abandoned = replica.claim_one().await;
    let orphan = write(&world, &replica, &abandoned).await;
    let release = json!({"leases": [fence(&abandoned.fence)]});
    assert_eq!(replica.outcome("/v1/tasks:release", &release).await.0, Verdict::Accepted);

    wait_until(std::time::Duration::from_secs(20), "the orphan to be swept", async || {
        !keys(&world).await.contains(&orphan)
    })
    .await;
    let mut left = keys(&world).await;
    left.sort();
    let mut wanted = vec![foreign.clone(), pointed.clone(), leased.clone()];
    wanted.sort();
    assert_eq!(left, wanted, "what is pointed at, what a live attempt wrote, and what is not ours");

    let release = json!({"leases": [fence(&working.fence)]});
    assert_eq!(replica.outcome("/v1/tasks:release", &release).await.0, Verdict::Accepted);
    wait_until(std::time::Duration::from_secs(20), "the second orphan to be swept", async || {
        !keys(&world).await.contains(&leased)
    })
    .await;
    assert!(keys(&world).await.contains(&pointed), "a commit is never swept");
}
