//! Leases that are over, and tasks that nobody wants any more.

use dagwright_state::finish;

use super::Outcome;
use crate::dispatch::{Dispatcher, context::jitter};

/// Rows per transaction.
const BATCH: u32 = 200;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    loop {
        let mut tx = dispatcher.begin().await?;
        let expired = finish::expire(&mut tx, BATCH, &mut jitter).await?;
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
