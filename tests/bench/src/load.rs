//! A steady load of trivial tasks: fed as they are worked off, counted by the dispatcher, checked in Postgres afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::json;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::task::JoinHandle;

use crate::{
    install::{Installation, NAMESPACE, Planned, Stream},
    product::Product,
    report::Measurement,
    rig::Rig,
    sqs::Queue,
    stats,
    usage::{Meter, Usage},
};

const COMPLETED: &str = "dagwright_tasks_completed_total";
const SENT: &str = "dagwright_outbox_sent_total";
/// How often the feeder looks how many tasks are left.
const FEED: Duration = Duration::from_millis(50);
/// Tasks that the feeder inserts in one transaction, at most.
const FEED_BATCH: u64 = 500;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Committed tasks a second.
    pub(crate) rate: f64,
    /// The same by second.
    pub(crate) seconds: Vec<f64>,
    /// Tasks that committed while it was measured.
    pub(crate) tasks: f64,
    /// Messages that were sent meanwhile.
    pub(crate) messages: f64,
    /// What it cost.
    pub(crate) usage: Usage,
}

/// An installation under load.
#[derive(Debug)]
pub(crate) struct Running {
    product: Product,
    feeder: Feeder,
    meter: Meter,
    /// By the clock of Postgres.
    began: OffsetDateTime,
}

/// What the feeder and the benchmark share.
#[derive(Debug)]
struct Feed {
    fed: AtomicU64,
    completed: AtomicU64,
    backlog: u64,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Feeder {
    feed: Arc<Feed>,
    streams: Vec<Stream>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// An installation in the database `state`, which is there and migrated; load begins at once.
    pub(crate) async fn start(
        rig: &Rig,
        db: &PgPool,
        queued: Option<(Installation, Queue)>,
    ) -> anyhow::Result<Self> {
        let (mut installed, queue) = match queued {
            Some(there) => there,
            None => {
                let queue = Queue::create(&rig.parts.sqs.client(), "tasks").await?;
                (Installation::pool(db, &queue.url, rig.options.slots).await?, queue)
            }
        };
        let before = installed.streams.len();
        installed.add_streams(db, rig.options.streams, &json!({}), Planned::ByUs).await?;
        let streams = installed.streams.split_off(before);
        let began = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(db).await?;
        let mut product = Product::start(rig).await?;
        product.start_worker(rig, &installed.token, &queue.url, rig.options.slots)?;
        let meter = Meter { db: db.clone(), processes: product.processes(rig) };
        if rig.options.statements {
            rig.parts.postgres.reset_statements(db).await?;
        }
        let feeder = Feeder::start(db.clone(), streams, rig.options.backlog);
        let mut running = Self { product, feeder, meter, began };
        running.warm_up(Duration::from_secs(rig.options.warmup_seconds)).await?;
        Ok(running)
    }

    async fn warm_up(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        let mut tick = tokio::time::interval(FEED);
        while self.look().await?[0] < 1.0 {
            anyhow::ensure!(Instant::now() < end, "no task was committed within 60 s");
            tick.tick().await;
        }
        let end = Instant::now() + time;
        while Instant::now() < end {
            tick.tick().await;
            self.look().await?;
        }
        Ok(())
    }

    /// Completed tasks and sent messages; tells the feeder.
    async fn look(&mut self) -> anyhow::Result<[f64; 2]> {
        self.product.check()?;
        anyhow::ensure!(
            !self.feeder.task.is_finished(),
            "the feeder ended: {:?}",
            (&mut self.feeder.task).await
        );
        let counters = self.product.counters([COMPLETED, SENT]).await?;
        self.feeder.feed.completed.store(whole(counters[0]), Ordering::Relaxed);
        Ok(counters)
    }

    /// Measures for a while.
    pub(crate) async fn measure(&mut self, time: Duration) -> anyhow::Result<Load> {
        let (before, at_start, began) = (self.meter.read().await?, self.look().await?, Instant::now());
        let (mut seconds, mut last) = (Vec::new(), (began, at_start[0]));
        let mut tick = tokio::time::interval(FEED);
        loop {
            tick.tick().await;
            let counters = self.look().await?;
            let (now, elapsed) = (Instant::now(), began.elapsed());
            if now - last.0 >= Duration::from_secs(1) {
                seconds.push((counters[0] - last.1) / (now - last.0).as_secs_f64());
                last = (now, counters[0]);
            }
            if elapsed >= time {
                let usage = self.meter.read().await?.since(&before);
                let (tasks, messages) = (counters[0] - at_start[0], counters[1] - at_start[1]);
                let rate = tasks / elapsed.as_secs_f64();
                return Ok(Load { rate, seconds, tasks, messages, usage });
            }
        }
    }

    /// Stops feeding, waits until everything that was fed is committed, and checks that it is, once each.
    pub(crate) async fn drain(mut self, rig: &Rig) -> anyhow::Result<()> {
        self.feeder.feed.stop.store(true, Ordering::Relaxed);
        (&mut self.feeder.task).await.context("the feeder")??;
        let fed = self.feeder.feed.fed.load(Ordering::Relaxed);
        let end = Instant::now() + Duration::from_secs(120);
        let mut tick = tokio::time::interval(FEED);
        loop {
            self.product.check()?;
            let [completed] = self.product.counters([COMPLETED]).await?;
            if whole(completed) >= fed {
                break;
            }
            anyhow::ensure!(
                Instant::now() < end,
                "{completed} of {fed} tasks were committed 120 s after the last"
            );
            tick.tick().await;
        }
        self.end(rig).await?;
        check(&self.meter.db, &self.feeder.streams, fed).await?;
        self.product.stop().await
    }

    /// Stops with tasks left, and checks that each of the `queued` earlier ones and of the fed ones is there or committed.
    pub(crate) async fn cut(mut self, rig: &Rig, queued: u64) -> anyhow::Result<()> {
        self.feeder.feed.stop.store(true, Ordering::Relaxed);
        (&mut self.feeder.task).await.context("the feeder")??;
        let asked = queued + self.feeder.feed.fed.load(Ordering::Relaxed);
        self.end(rig).await?;
        self.product.stop().await?;
        let (left, done): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM tasks WHERE state <> 'Failed'),
                    (SELECT count(*) FROM task_history WHERE finished_at >= $1 AND state = 'Completed')",
        )
        .bind(self.began)
        .fetch_one(&self.meter.db)
        .await
        .context("check what was committed")?;
        anyhow::ensure!(
            left + done == i64::try_from(asked)?,
            "{asked} tasks were asked for; {done} are completed and {left} are left"
        );
        Ok(())
    }

    async fn end(&self, rig: &Rig) -> anyhow::Result<()> {
        if rig.options.statements {
            eprintln!("{}", rig.parts.postgres.statements(&self.meter.db).await?);
        }
        Ok(())
    }
}

/// Nothing lost, nothing twice: the fed ranges are covered without a gap, and the fed tasks are history.
async fn check(db: &PgPool, streams: &[Stream], fed: u64) -> anyhow::Result<()> {
    let jobs: Vec<_> = streams.iter().map(|s| s.job).collect();
    let versions: Vec<_> = streams.iter().map(|s| s.version).collect();
    let (left, done, covered, whole): (i64, i64, i64, bool) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM tasks WHERE job_id = ANY($1)),
                (SELECT count(*) FROM task_history WHERE job_id = ANY($1) AND state = 'Completed'),
                (SELECT count(*) FROM partition_versions WHERE namespace = $3 AND version = ANY($2) AND current),
                (SELECT bool_and(r = int8multirange(int8range(0, upper(r)))) FROM
                    (SELECT range_agg(range) AS r FROM partition_versions
                     WHERE namespace = $3 AND version = ANY($2) AND current GROUP BY version) v)",
    )
    .bind(&jobs)
    .bind(&versions)
    .bind(NAMESPACE)
    .fetch_one(db)
    .await
    .context("check what was committed")?;
    let fed = i64::try_from(fed)?;
    anyhow::ensure!(
        left == 0 && done == fed && covered == fed && whole,
        "{fed} tasks were asked for; {done} are completed, {left} are left, {covered} partitions are committed, \
         without a gap: {whole}"
    );
    Ok(())
}

impl Feeder {
    fn start(db: PgPool, streams: Vec<Stream>, backlog: u64) -> Self {
        let feed = Arc::new(Feed {
            fed: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            backlog,
            stop: AtomicBool::new(false),
        });
        let task = tokio::spawn(feed_all(db, streams.clone(), Arc::clone(&feed)));
        Self { feed, streams, task }
    }
}

async fn feed_all(db: PgPool, streams: Vec<Stream>, feed: Arc<Feed>) -> anyhow::Result<()> {
    let mut heights = vec![0u64; streams.len()];
    let mut turn = (0..streams.len()).cycle();
    let mut tick = tokio::time::interval(FEED);
    while !feed.stop.load(Ordering::Relaxed) {
        let fed = feed.fed.load(Ordering::Relaxed);
        let left = fed.saturating_sub(feed.completed.load(Ordering::Relaxed));
        let room = feed.backlog.saturating_sub(left).min(FEED_BATCH);
        if room * 10 < feed.backlog.min(FEED_BATCH) {
            tick.tick().await;
            continue;
        }
        let Some(n) = turn.next() else { return Ok(()) };
        let mut tx = db.begin().await.context("begin to feed tasks")?;
        streams[n].insert(&mut tx, heights[n], room).await.context("feed tasks")?;
        tx.commit().await.context("commit fed tasks")?;
        heights[n] += room;
        feed.fed.store(fed + room, Ordering::Relaxed);
    }
    Ok(())
}

/// Loads as results: the rate, what a task costs, and how much of it went by message.
pub(crate) fn results(prefix: &str, loads: &[Load]) -> Vec<Measurement> {
    let each = |name: &str, unit, of: &dyn Fn(&Load) -> f64| {
        Measurement::median(format!("{prefix}{name}"), unit, loads.iter().map(of).collect())
    };
    let slowest = |load: &Load| load.seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let mut results = vec![
        each("tasks", "tasks/s", &|load| load.rate),
        each("slowest second", "tasks/s", &slowest),
        each("p10 of the seconds", "tasks/s", &|l| stats::percentile(&l.seconds, 0.1).unwrap_or(0.0)),
    ];
    results.extend(costs(prefix, loads.iter().map(|l| (l.tasks, &l.usage))));
    results.push(each("messages", "per task", &|load| load.messages / load.tasks));
    results.into_iter().flatten().collect()
}

/// What a task costs, from runs of so many tasks.
pub(crate) fn costs<'a>(
    prefix: &str,
    runs: impl Iterator<Item = (f64, &'a Usage)>,
) -> Vec<Option<Measurement>> {
    let runs: Vec<_> = runs.filter(|(tasks, _)| *tasks > 0.0).collect();
    let each = |name: String, unit, of: &dyn Fn(&Usage) -> f64| {
        let samples = runs.iter().map(|(tasks, usage)| of(usage) / tasks).collect();
        Measurement::median(format!("{prefix}{name}"), unit, samples)
    };
    let processes = runs.iter().flat_map(|(_, usage)| usage.cpu.keys().copied());
    let processes: std::collections::BTreeSet<_> = processes.collect();
    let cpu = |process| {
        each(format!("CPU {process}"), "s/task", &move |u| u.cpu.get(process).copied().unwrap_or(0.0))
    };
    let mut results = vec![
        each("CPU".into(), "s/task", &|usage| usage.cpu.values().sum()),
        each("commits".into(), "per task", &|usage| usage.commits),
        each("WAL".into(), "bytes/task", &|usage| usage.wal_bytes),
    ];
    results.extend(processes.into_iter().map(cpu));
    results
}

/// A counter of the metrics as a count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters are whole and never negative"
)]
fn whole(counter: f64) -> u64 {
    counter as u64
}

/// The ratio of medians; none without samples.
pub(crate) fn ratio(of: &[Load], to: &[Load]) -> Option<f64> {
    let median = |loads: &[Load]| stats::median(&loads.iter().map(|l| l.rate).collect::<Vec<_>>());
    Some(median(of)? / median(to)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rate: f64) -> Load {
        let usage =
            Usage { cpu: [("worker", 2.0), ("postgres", 4.0)].into(), commits: 50.0, wal_bytes: 1000.0 };
        Load { rate, seconds: vec![rate / 2.0, rate], tasks: 100.0, messages: 20.0, usage }
    }

    #[test]
    fn costs_are_per_task_and_the_rate_is_the_median() {
        let results = results("B1 ", &[load(1.0), load(3.0), load(2.0)]);
        let value = |name: &str| results.iter().find(|m| m.name == name).map(|m| m.value);
        assert_eq!(value("B1 tasks"), Some(2.0));
        assert_eq!(value("B1 slowest second"), Some(1.0));
        assert_eq!(value("B1 commits"), Some(0.5));
        assert_eq!(value("B1 WAL"), Some(10.0));
        assert_eq!(value("B1 CPU"), Some(0.06));
        assert_eq!(value("B1 CPU postgres"), Some(0.04));
        assert_eq!(value("B1 messages"), Some(0.2));
    }

    #[test]
    fn a_ratio_is_of_medians() {
        assert_eq!(ratio(&[load(1.0), load(9.0)], &[load(10.0)]), Some(0.5));
        assert_eq!(ratio(&[], &[load(10.0)]), None);
    }
}
