//! The worker as a whole: parts, start, stop.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dagwright_aws::queue_receive::{QueueReceiver, ReceiptHandle};
use dagwright_contracts::tasks::TaskLease;
use dagwright_core::ids::WorkerId;
use dagwright_telemetry::{Check, Health};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use crate::{
    args::Args,
    attempt::{self, Report},
    gate::Gate,
    gateway::Gateway,
    heartbeat,
    inbox::Inbox,
    leases::LeaseBook,
    messages::{self, Done, Hiding},
    operators::{Registry, TaskContext},
    presence, pull, report,
    store::TaskStore,
    tasks_api::TasksApi,
};

/// Messages that may wait in the inbox beyond those that free slots could take at once.
const INBOX_SPARE: usize = 10;

/// What all loops share.
pub struct Shared {
    /// Who we are.
    pub worker_id: WorkerId,
    /// The dispatcher.
    pub api: TasksApi,
    /// The same, over connections that carry heartbeats alone.
    pub heartbeat_api: TasksApi,
    /// The pool's queue.
    pub queue: QueueReceiver,
    /// Whether it claims.
    pub gate: Gate,
    /// One permit per task that may run.
    pub slots: Arc<Semaphore>,
    /// How many messages may wait.
    pub inbox_limit: usize,
    /// Told when messages were taken out of the inbox.
    pub inbox_drained: Notify,
    /// Told when a lease was entered.
    pub lease_entered: Notify,
    /// Whether the queue answers.
    pub queue_check: Check,
    /// Whether the dispatcher answers.
    pub dispatcher_check: Check,
    gateway: Gateway,
    registry: Registry,
    aws: aws_config::SdkConfig,
    leases: Mutex<LeaseBook>,
    inbox: Mutex<Inbox>,
    /// Messages whose lease goes on.
    pub hiding: Hiding,
    done: Mutex<Option<Done>>,
    reports: Mutex<Option<mpsc::Sender<Report>>>,
    attempts: TaskTracker,
    stop: CancellationToken,
}

impl Shared {
    /// What is held.
    pub fn leases(&self) -> MutexGuard<'_, LeaseBook> {
        lock(&self.leases)
    }

    /// Has messages deleted that are done with.
    pub fn done_with(&self, messages: Vec<ReceiptHandle>) {
        if let Some(done) = &*lock(&self.done) {
            done.put(messages);
        }
    }

    /// Drops the last sender: the reporter ends when everything is told.
    pub(crate) fn close_reports(&self) {
        lock(&self.reports).take();
    }

    /// What waits.
    pub fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }
}

/// The books stay consistent between any two statements, so that a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works until `stop` is cancelled, then hands back what it holds.
///
/// # Errors
/// When a part cannot be set up, or handing back takes longer than the grace time.
pub async fn run(
    args: &Args,
    registry: Registry,
    health: &Health,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::channel(1024);
    let (done, to_delete) = Done::channel();
    let aws = dagwright_aws::config().await;
    let shared = Arc::new(set_up(args, aws, registry, health, (sender, done), stop.clone())?);
    tracing::info!(
        worker = %shared.worker_id, namespace = args.namespace, pool = args.pool, slots = args.slots, "worker starts"
    );
    let reporting = tokio::spawn(report::send_all(Arc::clone(&shared), receiver));
    let deleting = tokio::spawn(messages::delete_all(shared.queue.clone(), to_delete));
    let quiet = CancellationToken::new();
    let beating = tokio::spawn(heartbeat::beat(Arc::clone(&shared), quiet.clone()));
    let receiving = tokio::spawn(pull::receive(Arc::clone(&shared), stop.clone()));
    let claiming = tokio::spawn(pull::claim(Arc::clone(&shared), stop.clone()));
    let idle_exit = (args.idle_exit_seconds > 0).then(|| Duration::from_secs(args.idle_exit_seconds));
    let present = tokio::spawn(presence::keep(Arc::clone(&shared), idle_exit, stop.clone()));

    stop.cancelled().await;
    let drain = async {
        claiming.await.context("claiming ended abnormally")?;
        receiving.await.context("receiving ended abnormally")?;
        give_back_messages(&shared).await;
        shared.attempts.close();
        shared.attempts.wait().await;
        shared.close_reports();
        reporting.await.context("reporting ended abnormally")?;
        quiet.cancel();
        present.await.context("checking in ended abnormally")?;
        presence::farewell(&shared).await;
        beating.await.context("the heartbeat ended abnormally")?;
        lock(&shared.done).take();
        deleting.await.context("deleting messages ended abnormally")
    };
    let grace = Duration::from_secs(args.grace_seconds);
    tokio::time::timeout(grace, drain).await.with_context(|| {
        format!("leases were not handed back within {} s; they come free when they expire", grace.as_secs())
    })??;
    tracing::info!("worker stopped, nothing is held");
    Ok(())
}

pub(crate) fn set_up(
    args: &Args,
    aws: aws_config::SdkConfig,
    registry: Registry,
    health: &Health,
    (reports, done): (mpsc::Sender<Report>, Done),
    stop: CancellationToken,
) -> anyhow::Result<Shared> {
    let tls = "set up the HTTP client";
    let api = || TasksApi::new(args.dispatcher_url.clone(), args.pool_token.clone()).context(tls);
    let queue = QueueReceiver::new(&aws, &args.queue_url);
    Ok(Shared {
        worker_id: WorkerId(uuid::Uuid::new_v4()),
        api: api()?,
        heartbeat_api: api()?,
        hiding: Hiding::new(queue.clone()),
        queue,
        gate: Gate::default(),
        slots: Arc::new(Semaphore::new(args.slots as usize)),
        inbox_limit: 2 * args.slots as usize + INBOX_SPARE,
        inbox_drained: Notify::new(),
        lease_entered: Notify::new(),
        queue_check: health.check("queue"),
        dispatcher_check: health.check("dispatcher"),
        gateway: Gateway::new(args.rpc_url.clone(), args.pool_token.clone()).context(tls)?,
        registry,
        aws,
        leases: Mutex::default(),
        inbox: Mutex::default(),
        done: Mutex::new(Some(done)),
        reports: Mutex::new(Some(reports)),
        attempts: TaskTracker::new(),
        stop,
    })
}

/// Starts work on a lease. The slot is free again when the operator has ended and its report is on its way, which may take longer than
/// the way itself: with the dispatcher away, nothing more is taken on.
pub fn start_attempt(
    shared: &Arc<Shared>,
    lease: TaskLease,
    message: Option<ReceiptHandle>,
    got: Instant,
    slot: Option<OwnedSemaphorePermit>,
) {
    let Some(reports) = lock(&shared.reports).clone() else { return };
    let (progress, lost) = shared.leases().enter(&lease, message, got);
    shared.lease_entered.notify_one();
    shared.gate.worked();
    let span = tracing::info_span!(
        "attempt", task = %lease.fence.task_id, attempt = lease.attempt, subject = lease.work.subject,
        range = %lease.work.range
    );
    let owned = Arc::clone(shared);
    let work = async move {
        let task = TaskContext {
            work: lease.work.clone(),
            progress,
            store: TaskStore::new(&owned.aws, owned.api.clone(), lease.fence),
            gateway: owned.gateway.clone(),
        };
        let began = Instant::now();
        metrics::gauge!("dagwright_worker_busy_slots").increment(1.0);
        let report = attempt::run(&owned.registry, &lease, &task, &lost, &owned.stop).await;
        metrics::gauge!("dagwright_worker_busy_slots").decrement(1.0);
        note(report.as_ref(), began);
        let told = match report {
            Some(report) => reports.send(report).await.is_ok(),
            None => false,
        };
        drop(slot);
        if !told {
            // Lost, or nobody is left to tell.
            owned.leases().forget(&lease.fence);
        }
    };
    shared.attempts.spawn(work.instrument(span));
}

fn note(report: Option<&Report>, began: Instant) {
    let result = report.map_or("lost", Report::label);
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    match report {
        Some(Report::Fail(failure)) => {
            tracing::warn!(
                reason = failure.reason,
                retryable = failure.retryable,
                message = failure.message,
                milliseconds,
                "attempt failed"
            );
        }
        _ => tracing::info!(result, milliseconds, "attempt ended"),
    }
    metrics::counter!("dagwright_worker_attempts_total", "result" => result).increment(1);
    metrics::histogram!("dagwright_worker_attempt_seconds", "result" => result)
        .record(began.elapsed().as_secs_f64());
}

/// Messages that nobody looked at are shown to others at once.
pub(crate) async fn give_back_messages(shared: &Shared) {
    let handles: Vec<_> = shared.inbox().take(usize::MAX).into_iter().map(|offered| offered.handle).collect();
    if let Err(error) = shared.queue.hide(&handles, Duration::ZERO).await {
        tracing::warn!(%error, "cannot show messages again");
    }
}
