//! B2: from a commit to the start of the next task.
//!
//! Hot: a worker waits at the dispatcher, and whoever hears of a commit inserts the next task. By message: nobody waits, and
//! the task is claimed by the SQS message that offers it. Planned: the product's planner itself makes the next task.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dagwright_aws::queue_receive::QueueReceiver;
use dagwright_contracts::{
    message::TaskMessage,
    tasks::{ClaimRequest, CompleteRequest, Completion, Offer, TaskLease, Verdict},
};
use dagwright_core::ids::WorkerId;
use dagwright_worker::tasks_api::TasksApi;
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgListener};
use tokio::net::UdpSocket;
use uuid::Uuid;

use crate::{
    install::{Installation, Planned},
    noop::{STARTS_TO, partitions, since_1970},
    product::Product,
    report::Measurement,
    rig::Rig,
    sqs::Queue,
    stats,
};

/// Slots of the waiting worker; a chain never needs more than one.
const SLOTS: u32 = 4;
/// How long one task of a chain may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The planner's way is slower, and its distribution is narrow.
const PLANNED_TASKS: u64 = 200;

pub(crate) async fn run(rig: &Rig) -> anyhow::Result<Vec<Measurement>> {
    let mut results = Vec::new();
    for (name, way) in [("hot", Way::Hot), ("by message", Way::Message), ("planned", Way::Planned)] {
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..rig.options.runs {
            let latencies = once(rig, way).await.with_context(|| format!("the chain {name}"))?;
            p50.extend(stats::percentile(&latencies, 0.5));
            p99.extend(stats::percentile(&latencies, 0.99));
        }
        results.extend(Measurement::median(format!("B2 {name} p50"), "ms", p50));
        results.extend(Measurement::median(format!("B2 {name} p99"), "ms", p99));
    }
    Ok(results)
}

#[derive(Clone, Copy)]
enum Way {
    Hot,
    Message,
    Planned,
}

/// Milliseconds of each step of one chain.
async fn once(rig: &Rig, way: Way) -> anyhow::Result<Vec<f64>> {
    let db = rig.parts.postgres.fresh_state().await?;
    let queue = Queue::create(&rig.parts.sqs.client(), "chain").await?;
    let mut installed = Installation::pool(&db, &queue.url, SLOTS).await?;
    let mut product = Product::start(rig).await?;
    let latencies = match way {
        Way::Hot | Way::Planned => {
            let starts = Starts::open().await?;
            product.start_worker(rig, &installed.token, &queue.url, SLOTS)?;
            let config = json!({STARTS_TO: starts.address()?});
            if matches!(way, Way::Hot) {
                installed.add_streams(&db, 1, &config, Planned::ByUs).await?;
                hot(&db, &installed, &starts, rig.options.chain).await?
            } else {
                planned(&db, &mut installed, &starts, &config).await?
            }
        }
        Way::Message => {
            installed.add_streams(&db, 1, &Value::Null, Planned::ByUs).await?;
            let tasks = rig.options.chain / 4;
            by_message(rig, &db, &installed, &product, &queue, tasks.max(1)).await?
        }
    };
    product.check()?;
    product.stop().await?;
    db.close().await;
    Ok(latencies)
}

/// When tasks started, as the operator tells it.
struct Starts(UdpSocket);

impl Starts {
    async fn open() -> anyhow::Result<Self> {
        Ok(Self(UdpSocket::bind(("127.0.0.1", 0)).await.context("open a socket that hears of starts")?))
    }

    fn address(&self) -> anyhow::Result<String> {
        Ok(self.0.local_addr().context("read the socket's address")?.to_string())
    }

    /// Height and time since 1970 of the next start.
    async fn next(&self) -> anyhow::Result<(u64, Duration)> {
        let mut buffer = [0; 64];
        let received = tokio::time::timeout(PATIENCE, self.0.recv(&mut buffer)).await;
        let length = received.context("no task started within 30 s")?.context("hear of a start")?;
        let text = std::str::from_utf8(&buffer[..length]).context("read a start")?;
        let (height, nanoseconds) = text.split_once(' ').context("read a start")?;
        Ok((height.parse()?, Duration::from_nanos(nanoseconds.parse()?)))
    }
}

fn milliseconds(from: Duration, to: Duration) -> f64 {
    (to.as_secs_f64() - from.as_secs_f64()) * 1e3
}

/// The next row is inserted when the commit before is heard of; its time runs from just before its own commit is sent.
async fn hot(db: &PgPool, installed: &Installation, starts: &Starts, tasks: u64) -> anyhow::Result<Vec<f64>> {
    let stream = installed.streams.first().context("a chain has a stream")?;
    let mut commits = Commits::listen(db, stream.job).await?;
    let mut latencies = Vec::new();
    for height in 0..tasks {
        let mut tx = db.begin().await.context("begin to insert a task")?;
        stream.insert(&mut tx, height, 1).await?;
        let committed = since_1970();
        tx.commit().await.context("commit a task")?;
        let (started, at) = starts.next().await?;
        anyhow::ensure!(started == height, "task {started} started and {height} was inserted");
        latencies.push(milliseconds(committed, at));
        commits.wait(db, height + 1).await?;
    }
    // The first one also opens connections.
    latencies.remove(0);
    Ok(latencies)
}

/// Hears of commits as the planner does.
struct Commits {
    listener: PgListener,
    job: Uuid,
}

impl Commits {
    async fn listen(db: &PgPool, job: Uuid) -> anyhow::Result<Self> {
        let mut listener = PgListener::connect_with(db).await.context("open a listening connection")?;
        listener.listen("dagwright_plan").await.context("listen for commits")?;
        Ok(Self { listener, job })
    }

    /// Waits until so many tasks are committed; a notification only says when to look.
    async fn wait(&mut self, db: &PgPool, wanted: u64) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let sql = "SELECT count(*) FROM task_history WHERE job_id = $1 AND state = 'Completed'";
            let done: i64 = sqlx::query_scalar(sql).bind(self.job).fetch_one(db).await?;
            if done >= i64::try_from(wanted)? {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "{done} of {wanted} tasks were committed within 30 s");
            let _ = tokio::time::timeout(Duration::from_millis(100), self.listener.recv()).await;
        }
    }
}

/// The stream may have one task in flight, so that each is planned when the one before it has committed.
async fn planned(
    db: &PgPool,
    installed: &mut Installation,
    starts: &Starts,
    config: &Value,
) -> anyhow::Result<Vec<f64>> {
    installed.add_streams(db, 1, config, Planned::OneByOne(PLANNED_TASKS)).await?;
    let stream = *installed.streams.first().context("a chain has a stream")?;
    let mut started = Vec::new();
    for height in 0..PLANNED_TASKS {
        let (at, when) = starts.next().await?;
        anyhow::ensure!(at == height, "task {at} started and {height} was the next");
        started.push(when);
    }
    Commits::listen(db, stream.job).await?.wait(db, PLANNED_TASKS).await?;
    let commits: Vec<(i64, f64)> = sqlx::query_as(
        "SELECT lower(range), extract(epoch FROM finished_at)::float8 FROM task_history WHERE job_id = $1 ORDER BY 1",
    )
    .bind(stream.job)
    .fetch_all(db)
    .await
    .context("read when tasks were committed")?;
    let commits = commits.into_iter().map(|(_, at)| Duration::from_secs_f64(at));
    Ok(commits.zip(started.into_iter().skip(1)).map(|(done, next)| milliseconds(done, next)).collect())
}

/// The benchmark is a worker that never waits at the dispatcher: it has nothing but messages.
async fn by_message(
    rig: &Rig,
    db: &PgPool,
    installed: &Installation,
    product: &Product,
    queue: &Queue,
    tasks: u64,
) -> anyhow::Result<Vec<f64>> {
    let stream = installed.streams.first().context("a chain has a stream")?;
    let worker = Bare {
        queue: QueueReceiver::new(&rig.parts.sqs.config(), &queue.url),
        api: TasksApi::new(product.url.parse()?, installed.token.parse()?)?,
        id: WorkerId(Uuid::new_v4()),
    };
    let worker = Arc::new(worker);
    let mut latencies = Vec::new();
    for height in 0..tasks {
        let waiting = tokio::spawn({
            let worker = Arc::clone(&worker);
            async move { worker.claim().await }
        });
        let mut tx = db.begin().await.context("begin to insert a task")?;
        stream.insert(&mut tx, height, 1).await?;
        let committed = since_1970();
        tx.commit().await.context("commit a task")?;
        let (lease, at) = waiting.await.context("the bare worker")??;
        anyhow::ensure!(
            lease.work.range.start() == height,
            "{:?} was claimed, not {height}",
            lease.work.range
        );
        latencies.push(milliseconds(committed, at));
        worker.complete(&lease).await?;
    }
    latencies.remove(0);
    Ok(latencies)
}

struct Bare {
    queue: QueueReceiver,
    api: TasksApi,
    id: WorkerId,
}

impl Bare {
    /// The next task that a message offers, and when it was ours.
    async fn claim(&self) -> anyhow::Result<(TaskLease, Duration)> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            for message in self.queue.receive(1, Duration::from_secs(20)).await? {
                let body: TaskMessage = serde_json::from_str(&message.body).context("read a message")?;
                let offered = vec![Offer { task_id: body.task_id, attempt: body.attempt }];
                let request = ClaimRequest { worker_id: self.id, offered, max_further: 0, wait_ms: 0 };
                let claimed = self.api.claim(&request).await?;
                let at = since_1970();
                self.queue.delete(&[message.handle]).await?;
                if let Some(lease) = claimed.leases.into_iter().next() {
                    return Ok((lease, at));
                }
            }
        }
        anyhow::bail!("no message led to a task within 30 s")
    }

    async fn complete(&self, lease: &TaskLease) -> anyhow::Result<()> {
        let completion = Completion { fence: lease.fence, partitions: partitions(&lease.work) };
        let answer = self.api.complete(&CompleteRequest { completions: vec![completion] }).await?;
        let outcome = answer.outcomes.first().context("a completion is answered")?;
        anyhow::ensure!(outcome.verdict == Verdict::Accepted, "a completion was refused: {}", outcome.detail);
        Ok(())
    }
}
