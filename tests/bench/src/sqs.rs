//! The SQS endpoint that benchmarks use, and what it can do by itself.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_sqs::{
    Client,
    types::{DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry},
};
use dagwright_cli::parts::{QUEUE_ENDPOINT, QueueEndpoint};

use crate::{
    process::{Process, Spec, free_port},
    stats::number,
};

const REGION: &str = "us-east-1";
const BATCH: u8 = 10;
/// Clients at once when the endpoint's own rate is measured.
const CLIENTS: usize = 8;

/// A running endpoint.
#[derive(Debug)]
pub(crate) struct Sqs {
    process: Process,
    url: String,
}

impl Sqs {
    /// Starts it on loopback, empty.
    pub(crate) async fn start(endpoint: &QueueEndpoint, dir: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let args = vec![endpoint.script.display().to_string(), port.to_string()];
        let spec = Spec { name: "sqs", program: &endpoint.node, args, env: vec![], user: None };
        let mut sqs = Self { process: Process::start(spec, dir)?, url: format!("http://127.0.0.1:{port}") };
        let end = Instant::now() + Duration::from_secs(60);
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sqs.process.check()?;
            anyhow::ensure!(Instant::now() < end, "{} does not listen after 60 s", sqs.name());
            tick.tick().await;
        }
        Ok(sqs)
    }

    /// Name and version.
    pub(crate) fn name(&self) -> String {
        format!("{QUEUE_ENDPOINT} on loopback")
    }

    /// Pid of the endpoint.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// The environment by which a process reaches it.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.url.clone()),
            ("AWS_REGION", REGION.into()),
            ("AWS_ACCESS_KEY_ID", "bench".into()),
            ("AWS_SECRET_ACCESS_KEY", "bench".into()),
        ]
    }

    /// A configuration that reaches it.
    pub(crate) fn config(&self) -> SdkConfig {
        let keys = Credentials::new("bench", "bench", None, None, "the benchmark");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(&self.url)
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .build()
    }

    /// A bare client.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.config())
    }
}

/// A queue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    client: Client,
    pub(crate) url: String,
}

impl Queue {
    /// Makes an empty queue; its name gets a suffix of its own.
    pub(crate) async fn create(client: &Client, name: &str) -> anyhow::Result<Self> {
        let name = format!("{name}-{}", uuid::Uuid::new_v4().simple());
        let made = client.create_queue().queue_name(&name).send().await;
        let url = made.with_context(|| format!("create queue {name}"))?.queue_url;
        Ok(Self { client: client.clone(), url: url.context("the SQS endpoint named no URL of a new queue")? })
    }

    /// Messages a second that go through: sent, received and deleted, in batches of 10, by several clients.
    pub(crate) async fn rate(&self, time: Duration) -> anyhow::Result<f64> {
        let (done, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let client = |_| {
            let (queue, done) = (self.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while began.elapsed() < time {
                    done.fetch_add(queue.cycle().await?, Ordering::Relaxed);
                }
                anyhow::Ok(())
            })
        };
        for client in (0..CLIENTS).map(client).collect::<Vec<_>>() {
            client.await.context("a client of the SQS endpoint")??;
        }
        Ok(number(done.load(Ordering::Relaxed)) / began.elapsed().as_secs_f64())
    }

    /// How many messages one cycle moved.
    async fn cycle(&self) -> anyhow::Result<u64> {
        let body = "x".repeat(512);
        let mut send = self.client.send_message_batch().queue_url(&self.url);
        for n in 0..BATCH {
            let entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(&body);
            send = send.entries(entry.build().context("build a message")?);
        }
        send.send().await.context("send messages")?;
        let received =
            self.client.receive_message().queue_url(&self.url).max_number_of_messages(BATCH.into());
        let messages = received.send().await.context("receive messages")?.messages.unwrap_or_default();
        if messages.is_empty() {
            return Ok(0);
        }
        let mut delete = self.client.delete_message_batch().queue_url(&self.url);
        for (n, message) in messages.iter().enumerate() {
            let handle = message.receipt_handle.clone().unwrap_or_default();
            let entry = DeleteMessageBatchRequestEntry::builder().id(n.to_string()).receipt_handle(handle);
            delete = delete.entries(entry.build().context("build a deletion")?);
        }
        delete.send().await.context("delete messages")?;
        Ok(messages.len() as u64)
    }
}
