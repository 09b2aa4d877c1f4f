//! A worker with no disk to write to: it needs none. In a binary of its own, because the limit is the whole process's.
#![expect(clippy::unwrap_used, reason = "a test panics with what went wrong")]

mod common;

use std::process::Command;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dagwright_aws::object_write::{ObjectWriter, Written};
use dagwright_testkit::aws_endpoint::AwsEndpoint;
use sha2::{Digest as _, Sha256};

use crate::common::{pool, read};

/// Lets this process, and what it starts from now on, write no byte to any file; or lifts that again.
fn file_size(limit: &str) {
    let pid = std::process::id().to_string();
    let done = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status().unwrap();
    assert!(done.success());
}

#[tokio::test]
async fn a_full_disk_stops_no_attempt() {
    let (pool, aws) = tokio::join!(pool(), AwsEndpoint::start());
    let s3 = aws_sdk_s3::Client::new(&aws.root());
    s3.create_bucket().bucket("data").send().await.unwrap();
    let truth = read(&pool, &[]).await.unwrap();
    let writer = ObjectWriter::new(&aws.root(), aws.root().credentials_provider().unwrap());

    let probe = std::env::temp_dir().join(format!("dw-disk-{}", std::process::id()));
    file_size("0");
    let denied =
        Command::new("sh").arg("-c").arg(format!("echo full > {}", probe.display())).output().unwrap();
    let files = read(&pool, &["a"]).await;
    let file = files.as_ref().ok().map(|files| files[0].bytes.clone()).unwrap_or_default();
    let sum = STANDARD.encode(Sha256::digest(&file));
    let written = writer.create("data", "0.parquet", file, &sum).await;
    file_size("unlimited");
    let _ = std::fs::remove_file(&probe);

    assert!(!denied.status.success(), "the limit holds");
    assert_eq!(files.unwrap()[0].bytes, truth[0].bytes);
    assert_eq!(written.unwrap(), Written::Created);
}
