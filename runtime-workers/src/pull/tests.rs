use std::collections::BTreeMap;

use clap::Parser as _;
use dagwright_aws::{queue_send::QueueSender, queues::Queues};
use dagwright_core::ids::TaskId;
use dagwright_telemetry::Health;
use dagwright_testkit::{
    aws_endpoint::{AwsEndpoint, root_at},
    fault_proxy::FaultProxy,
    wait::wait_until,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::*;
use crate::{args::Args, messages::Done, operators::Registry, worker};

const PATIENCE: Duration = Duration::from_secs(20);

/// A worker whose slots are all taken, as far as its queue is concerned: it receives and claims nothing.
fn busy_worker(aws: aws_config::SdkConfig, queue: &str) -> Arc<Shared> {
    let away = "http://127.0.0.1:9";
    let flags = [
        "worker",
        "--dispatcher-url",
        away,
        "--rpc-url",
        away,
        "--queue-url",
        queue,
        "--pool-token",
        "dwp_test",
    ];
    let (args, stop) = (Args::parse_from(flags), CancellationToken::new());
    let channels = (mpsc::channel(1).0, Done::channel().0);
    let shared = worker::set_up(&args, aws, Registry::default(), &Health::default(), channels, stop).unwrap();
    shared.gate.set(true);
    Arc::new(shared)
}

#[tokio::test]
async fn messages_that_wait_for_a_slot_are_not_shown_to_others() {
    let aws = AwsEndpoint::start().await;
    let proxy = FaultProxy::start(&aws.url).await.unwrap();
    let config = root_at(&proxy.url());
    let attributes = BTreeMap::from([("VisibilityTimeout".to_owned(), "10".to_owned())]);
    let queue = Queues::new(&config).create("busy", &attributes, &BTreeMap::new()).await.unwrap();
    let body = |n| format!(r#"{{"v":1,"taskId":"{}","attempt":1}}"#, TaskId(Uuid::from_u128(n)).0);
    let bodies: Vec<_> = (1..=3).map(body).collect();
    assert_eq!(QueueSender::new(&config).send(&queue, &bodies).await.unwrap(), []);

    let (shared, stop) = (busy_worker(config.clone(), &queue), CancellationToken::new());
    let receiving = tokio::spawn(receive(Arc::clone(&shared), stop.clone()));
    wait_until(PATIENCE, "three messages", async || shared.inbox().len() == 3).await;
    // Their visibility ends ten seconds after they came.
    let (came, control) = (Instant::now(), proxy.control());
    wait_until(PATIENCE, "them to be hidden", async || control.calls("ChangeMessageVisibilityBatch") > 0)
        .await;
    assert!(came.elapsed() < Duration::from_secs(9));
    stop.cancel();
    receiving.await.unwrap();
    assert_eq!(shared.inbox().len(), 3);
}
