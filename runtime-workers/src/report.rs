//! Telling the dispatcher how attempts ended. Reports that wait together go together; a report is repeated until it is
//! acknowledged or its lease is over, because what the dispatcher did not hear of did not happen.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dagwright_contracts::tasks::{CompleteRequest, FailRequest, OutcomeResponse, ReleaseRequest, Verdict};
use tokio::sync::mpsc;

use crate::{
    attempt::Report,
    backoff::Backoff,
    tasks_api::{ApiError, TasksApi},
    worker::Shared,
};

/// Reports in one call.
const BATCH: usize = 50;

/// Sends reports until all senders are gone and everything is acknowledged or given up.
pub async fn send_all(shared: Arc<Shared>, mut reports: mpsc::Receiver<Report>) {
    let mut batch = Vec::with_capacity(BATCH);
    while reports.recv_many(&mut batch, BATCH).await > 0 {
        let (mut complete, mut fail, mut release) = (vec![], vec![], vec![]);
        for report in batch.drain(..) {
            match report {
                Report::Complete(_) => complete.push(report),
                Report::Fail(_) => fail.push(report),
                Report::Release(_) => release.push(report),
            }
        }
        for group in [release, complete, fail] {
            if !group.is_empty() {
                deliver(&shared, group).await;
            }
        }
    }
}

/// Delivers reports of one kind.
async fn deliver(shared: &Shared, mut group: Vec<Report>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match call(&shared.api, &group).await {
            Ok(response) => return settle(shared, &group, response).await,
            Err(error) if error.is_retryable() => {
                tracing::warn!(error = %crate::chain(&error), reports = group.len(), "report not delivered, trying again");
                tokio::time::sleep(backoff.pause()).await;
                let now = Instant::now();
                let book = shared.leases();
                group.retain(|report| book.is_current(report.fence(), now));
                drop(book);
                if group.is_empty() {
                    tracing::warn!("the leases ended before their reports were heard");
                    return;
                }
            }
            // One bad row refuses the whole call, so that each is to stand for itself.
            Err(_) if group.len() > 1 => {
                for report in group {
                    Box::pin(deliver(shared, vec![report])).await;
                }
                return;
            }
            Err(error) => {
                tracing::error!(error = %crate::chain(&error), "report refused, leaving the lease to expire");
                group.iter().for_each(|report| shared.leases().forget(report.fence()));
                return;
            }
        }
    }
}

async fn call(api: &TasksApi, group: &[Report]) -> Result<OutcomeResponse, ApiError> {
    let (mut completions, mut failures, mut leases) = (vec![], vec![], vec![]);
    for report in group {
        match report {
            Report::Complete(completion) => completions.push(completion.clone()),
            Report::Fail(failure) => failures.push(failure.clone()),
            Report::Release(fence) => leases.push(*fence),
        }
    }
    if !completions.is_empty() {
        api.complete(&CompleteRequest { completions }).await
    } else if !failures.is_empty() {
        api.fail(&FailRequest { failures }).await
    } else {
        api.release(&ReleaseRequest { leases }).await
    }
}

/// The dispatcher has spoken: the leases are over and their messages have done their work.
async fn settle(shared: &Shared, group: &[Report], response: OutcomeResponse) {
    for outcome in response.outcomes {
        match outcome.verdict {
            Verdict::Accepted => {}
            Verdict::StaleLease => {
                tracing::info!(task = %outcome.task_id, detail = outcome.detail, "lease was not ours any more");
            }
            Verdict::Rejected => {
                tracing::warn!(task = %outcome.task_id, detail = outcome.detail, "result rejected");
            }
        }
        let verdict = match outcome.verdict {
            Verdict::Accepted => "accepted",
            Verdict::StaleLease => "stale_lease",
            Verdict::Rejected => "rejected",
        };
        metrics::counter!("dagwright_worker_reports_total", "kind" => group[0].label(), "verdict" => verdict)
            .increment(1);
    }
    let messages: Vec<_> = {
        let mut book = shared.leases();
        group.iter().filter_map(|report| book.end(report.fence())).collect()
    };
    if let Err(error) = shared.queue.delete(&messages).await {
        // They come again, and are stale then.
        tracing::warn!(error = %error, "messages not deleted");
    }
}
