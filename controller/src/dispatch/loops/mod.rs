//! What the dispatcher does by itself. Each loop is a pass that can be repeated at any time by any replica.

mod cutover;
mod dead_letters;
mod head;
mod history;
mod launcher;
mod objects;
mod outbox;
mod planner;
mod quarantine;
mod reaper;
mod scaler;
mod sweeper;
mod tidy;
mod unwanted;

use std::{
    error::Error,
    time::{Duration, Instant},
};

use dagwright_aws::AwsError;
use tokio::{sync::broadcast::error::TryRecvError, task::JoinSet};

pub(crate) use quarantine::Quarantine;

use super::{
    Dispatcher,
    wake::{Wake, wait},
};

/// Longest wait between passes that fail.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// A pass that failed; the next one tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoopError {
    /// Postgres.
    #[error(transparent)]
    State(#[from] dagwright_state::Error),
    /// AWS.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// SQS answered, and took no message.
    #[error("send to queue {queue}: none of the messages was taken")]
    Refused {
        /// URL of the queue.
        queue: String,
    },
    /// It took too long.
    #[error("no end after {} s", limit.as_secs())]
    Slow {
        /// What it was given.
        limit: Duration,
    },
    /// The RPC gateway.
    #[error("ask the RPC gateway for the head of {pool}: {message}")]
    Rpc {
        /// `namespace/pool`.
        pool: String,
        /// Why.
        message: String,
    },
}

impl LoopError {
    /// Whether it says nothing about whom it met: the state database is away, and nobody fares better.
    fn is_of_all(&self) -> bool {
        matches!(self, Self::State(error) if error.category() == "unavailable")
    }
}

type Outcome = Result<(), LoopError>;

/// Spawns all loops.
pub(crate) fn spawn_all(dispatcher: &Dispatcher, tasks: &mut JoinSet<()>) {
    let d = || dispatcher.clone();
    tasks.spawn(planner::run(d()));
    tasks.spawn(outbox::run(d()));
    tasks.spawn(repeat(d(), "reaper", Duration::from_secs(1), |_| false, reaper::pass));
    tasks.spawn(repeat(
        d(),
        "cutover",
        Duration::from_secs(2),
        |w| matches!(w, Wake::Plan(_)),
        cutover::pass,
    ));
    tasks.spawn(repeat(
        d(),
        "unwanted",
        Duration::from_secs(2),
        |w| matches!(w, Wake::Plan(_)),
        unwanted::pass,
    ));
    tasks.spawn(repeat(d(), "objects", Duration::from_secs(2), |_| false, objects::pass));
    tasks.spawn(alone(d(), "scaler", Duration::from_secs(2), scaler::pass));
    tasks.spawn(alone(d(), "head", Duration::from_secs(3), head::pass));
    tasks.spawn(alone(d(), "dead_letters", Duration::from_secs(10), dead_letters::pass));
    tasks.spawn(alone(d(), "history", Duration::from_secs(300), history::pass));
    tasks.spawn(alone(d(), "tidy", Duration::from_secs(3600), tidy::pass));
    let sweeps = sweeper::period(dispatcher.args.sweep_age);
    tasks.spawn(alone(d(), "sweeper", sweeps, sweeper::pass));
}

/// Makes the days of history that are missing. What goes wrong is tried again by the loop.
pub(crate) async fn make_days(dispatcher: &Dispatcher) {
    if let Err(error) = history::pass(dispatcher.clone()).await {
        tracing::warn!(error = chain(&error), "history's days are not made yet");
    }
}

/// Announcements come in bursts; one pass serves them all.
const GATHER: Duration = Duration::from_millis(50);

/// Passes that announcements call for may take one part of the time in so many.
const SHARE: u32 = 5;

/// How long to gather announcements after a pass of such a length.
fn rest(pass: Duration, most: Duration) -> Duration {
    (pass * (SHARE - 1)).clamp(GATHER, most)
}

/// Runs `pass` every `period`, and earlier when woken; slower while it fails.
async fn repeat<F, Fut>(
    dispatcher: Dispatcher,
    name: &'static str,
    period: Duration,
    woken_by: fn(Wake) -> bool,
    pass: F,
) where
    F: Fn(Dispatcher) -> Fut,
    Fut: Future<Output = Outcome>,
{
    let mut wakes = dispatcher.wakes.subscribe();
    let mut failures = Failures::new(name);
    while !dispatcher.stop.is_cancelled() {
        let began = Instant::now();
        let failed = failures.note(pass(dispatcher.clone()).await);
        let pause = if failed { failures.pause() } else { period };
        let rest = rest(began.elapsed(), period);
        let woken = async {
            tokio::time::sleep(rest).await;
            wait(&mut wakes, pause.saturating_sub(rest), |wake| !failed && woken_by(wake)).await;
            // The next pass sees what all of them are about.
            while !matches!(wakes.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
        };
        tokio::select! {
            () = dispatcher.stop.cancelled() => {}
            () = woken => {}
        }
    }
}

/// As [`repeat`], in one replica at a time.
async fn alone<F, Fut>(dispatcher: Dispatcher, name: &'static str, period: Duration, pass: F)
where
    F: Fn(Dispatcher) -> Fut,
    Fut: Future<Output = Outcome>,
{
    let mut right = dagwright_state::singleton::Singleton::new(&dispatcher.db, name);
    let mut failures = Failures::new(name);
    while !dispatcher.stop.is_cancelled() {
        let outcome = match right.hold().await {
            Ok(true) => pass(dispatcher.clone()).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error.into()),
        };
        let failed = failures.note(outcome);
        // Who does not hold the right asks again soon, so that little time passes when its holder dies.
        let pause = if failed {
            failures.pause()
        } else if right.is_held() {
            period
        } else {
            period.min(Duration::from_secs(10))
        };
        tokio::select! {
            () = dispatcher.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Does something of somebody's within `limit`. What is cut off is done again: each step of a pass may be repeated.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, LoopError>>,
) -> Result<T, LoopError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(LoopError::Slow { limit }))
}

/// Logs the first failure of a row of them, and their end.
struct Failures {
    name: &'static str,
    row: u32,
}

impl Failures {
    fn new(name: &'static str) -> Self {
        Self { name, row: 0 }
    }

    /// Notes an outcome; true when it was a failure.
    fn note(&mut self, outcome: Outcome) -> bool {
        let Err(error) = outcome else {
            if self.row > 0 {
                tracing::info!(r#loop = self.name, failures = self.row, "works again");
            }
            self.row = 0;
            return false;
        };
        metrics::counter!("dagwright_dispatcher_loop_errors_total", "loop" => self.name).increment(1);
        if self.row == 0 {
            tracing::warn!(r#loop = self.name, error = chain(&error), "a pass failed, trying on");
        } else {
            tracing::debug!(r#loop = self.name, error = chain(&error), "a pass failed again");
        }
        self.row = self.row.saturating_add(1);
        true
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(500).saturating_mul(2u32.saturating_pow(self.row.min(8))).min(MAX_PAUSE)
    }
}

/// An error with all its causes, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
