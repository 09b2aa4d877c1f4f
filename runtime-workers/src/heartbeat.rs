//! One heartbeat for all leases, every third of the shortest one. It extends the leases, and hides their messages as long.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dagwright_contracts::tasks::HeartbeatRequest;
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

async fn send(shared: &Shared) -> bool {
    let beats = shared.leases().beats();
    if beats.is_empty() {
        return true;
    }
    let sent = Instant::now();
    let response = match shared.api.heartbeat(&HeartbeatRequest { worker_id: shared.worker_id, beats }).await
    {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(error = %crate::chain(&error), "heartbeat failed");
            metrics::counter!("dagwright_worker_heartbeat_failures_total").increment(1);
            return false;
        }
    };
    let extended: Vec<_> = response.extended.iter().map(|extended| extended.task_id).collect();
    let messages = {
        let mut book = shared.leases();
        book.lost(&response.lost);
        book.extended(&extended, sent)
    };
    for task in &response.lost {
        tracing::warn!(%task, "lease lost or canceled, stopping work on it");
    }
    for (length, handles) in messages {
        if let Err(error) = shared.queue.hide(&handles, length).await {
            // They come again while the lease lives, and are told "not now".
            tracing::warn!(%error, "messages not extended");
        }
    }
    true
}
