//! One heartbeat for all leases, every third of the shortest one. It extends the leases, and hides their messages as long. It has
//! connections of its own and waits for nothing else that this worker does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dagwright_contracts::tasks::{Beat, HeartbeatRequest};
use futures::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::worker::Shared;

/// After a failed heartbeat, well before the lease is over.
const RETRY: Duration = Duration::from_secs(1);
/// With nothing held, only a new lease is worth waking up for.
const IDLE: Duration = Duration::from_secs(3600);

/// Beats until `done`.
pub async fn beat(shared: Arc<Shared>, done: CancellationToken) {
    let (mut healthy, mut last) = (true, Instant::now());
    loop {
        let period = shared.leases().period().map(|period| if healthy { period } else { period.min(RETRY) });
        let wait = match period {
            Some(period) => period.saturating_sub(last.elapsed()),
            None => IDLE,
        };
        tokio::select! {
            () = done.cancelled() => return,
            // A new lease may want an earlier beat.
            () = shared.lease_entered.notified() => continue,
            () = tokio::time::sleep(wait) => {}
        }
        last = Instant::now();
        for task in shared.leases().expire(last) {
            tracing::warn!(%task, "lease not extended in time, stopping work on it");
        }
        healthy = send(&shared).await;
    }
}

/// Leases per call: the dispatcher takes no more than some hundreds of rows.
const ROWS: usize = 200;
/// Calls that are under way at once.
const CALLS: usize = 4;

/// Beats for all leases; false when a call failed.
async fn send(shared: &Shared) -> bool {
    let (beats, period) = {
        let book = shared.leases();
        (book.beats(), book.period().unwrap_or(IDLE))
    };
    let mut calls = Vec::with_capacity(beats.len().div_ceil(ROWS));
    for rows in beats.chunks(ROWS) {
        calls.push(send_rows(shared, rows.to_vec(), period));
    }
    let outcomes: Vec<bool> = stream::iter(calls).buffer_unordered(CALLS).collect().await;
    outcomes.into_iter().all(|delivered| delivered)
}

async fn send_rows(shared: &Shared, beats: Vec<Beat>, period: Duration) -> bool {
    let sent = Instant::now();
    let request = HeartbeatRequest { worker_id: shared.worker_id, beats };
    let response = match shared.heartbeat_api.heartbeat(&request, period).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(error = %crate::chain(&error), "heartbeat failed");
            metrics::counter!("dagwright_worker_heartbeat_failures_total").increment(1);
            return false;
        }
    };
    let messages = {
        let mut book = shared.leases();
        book.lost(&response.lost);
        book.extended(&response.extended, sent)
    };
    for task in &response.lost {
        tracing::warn!(%task, "lease lost or canceled, stopping work on it");
    }
    for (length, handles) in messages {
        shared.hiding.start(handles, length);
    }
    true
}
