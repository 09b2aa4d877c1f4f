//! The worker: takes tasks of one WorkerPool, runs their operators, commits through the dispatcher. It decides no retry and
//! touches no state; whatever it holds comes free by itself when it dies.
//!
//! [`presence`] tells the dispatcher who is there and opens the [`gate`], [`pull`] gets leases, [`attempt`] runs an operator under one, [`heartbeat`] keeps it, [`report`] ends it. [`leases`] and
//! [`inbox`] are the books that they share, pure and tested alone. [`operators`] is what a worker can do.

pub mod args;
pub mod attempt;
pub mod backoff;
pub mod gate;
pub mod gateway;
pub mod heartbeat;
pub mod identity;
pub mod inbox;
pub mod leases;
pub mod messages;
pub mod operators;
pub mod presence;
pub mod protection;
pub mod pull;
pub mod report;
pub mod store;
pub mod tasks_api;
pub mod worker;

/// An error with all its sources, for a log line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}
