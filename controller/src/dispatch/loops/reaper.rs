//! Leases that are over, and tasks that nobody wants any more.

use std::time::Instant;

use dagwright_state::finish;
use time::Duration;

use super::Outcome;
use crate::dispatch::{Dispatcher, context::jitter};

/// Rows per transaction.
const BATCH: u32 = 200;

/// What ended within this time is looked for in each pass; what ended before, as often as its cost allows.
const LATELY: Duration = Duration::seconds(10);

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    loop {
        let mut tx = dispatcher.begin().await?;
        let began = Instant::now();
        let all = dispatcher.hints.looks_at_all_leases(began);
        let expired = finish::expire(&mut tx, (!all).then_some(LATELY), BATCH, &mut jitter).await?;
        if all && expired < BATCH as usize {
            dispatcher.hints.looked_at_all_leases(Instant::now(), began.elapsed());
        }
        let canceled = finish::cancel_unwanted(&mut tx, BATCH, &mut jitter).await?;
        dagwright_state::commit(tx).await?;
        metrics::counter!("dagwright_tasks_expired_total").increment(expired as u64);
        metrics::counter!("dagwright_tasks_canceled_total").increment(canceled as u64);
        if expired > 0 {
            tracing::info!(attempts = expired, "leases expired");
        }
        if expired.max(canceled) < BATCH as usize {
            return Ok(());
        }
    }
}
