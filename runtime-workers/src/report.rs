//! Telling the dispatcher how attempts ended. Reports that wait together go together, some calls side by side; a report is repeated until
//! it is acknowledged or its lease is over, because what the dispatcher did not hear of did not happen.
//!
//! A group that fails for a reason that may lie in one of its reports is split, so that one that never gets through holds up no other.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use dagwright_contracts::tasks::{CompleteRequest, FailRequest, OutcomeResponse, ReleaseRequest, Verdict};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};

use crate::{
    attempt::Report,
    backoff::Backoff,
    tasks_api::{ApiError, TasksApi},
    worker::Shared,
};

/// Reports in one call.
const BATCH: usize = 100;
/// Calls under way at once. While all are, reports gather for the next.
const CALLS: usize = 3;
/// Reports that are not acknowledged. With so many no more are taken, so that slots stay taken and nothing new is claimed.
const UNHEARD: usize = 2048;

/// Sends reports until all senders are gone and everything is acknowledged or given up.
pub async fn send_all(shared: Arc<Shared>, mut reports: mpsc::Receiver<Report>) {
    let calls = Arc::new(Semaphore::new(CALLS));
    let unheard = Arc::new(Semaphore::new(UNHEARD));
    let mut deliveries = JoinSet::new();
    loop {
        // A turn first, reports then: those that come while all calls are under way go together.
        let Ok(turn) = Arc::clone(&calls).acquire_owned().await else { return };
        let mut batch = Vec::with_capacity(BATCH);
        let count = reports.recv_many(&mut batch, BATCH).await;
        if count == 0 {
            break;
        }
        let Ok(room) =
            Arc::clone(&unheard).acquire_many_owned(u32::try_from(count).unwrap_or(u32::MAX)).await
        else {
            return;
        };
        let (shared, calls) = (Arc::clone(&shared), Arc::clone(&calls));
        deliveries.spawn(async move {
            let mut turn = Some(turn);
            let groups = by_kind(batch).into_iter().map(|group| deliver(&shared, &calls, group, turn.take()));
            futures::future::join_all(groups.collect::<Vec<_>>()).await;
            drop(room);
        });
        while deliveries.try_join_next().is_some() {}
    }
    while deliveries.join_next().await.is_some() {}
}

fn by_kind(batch: Vec<Report>) -> Vec<Vec<Report>> {
    let (mut complete, mut fail, mut release) = (vec![], vec![], vec![]);
    for report in batch {
        match report {
            Report::Complete(_) => complete.push(report),
            Report::Fail(_) => fail.push(report),
            Report::Release(_) => release.push(report),
        }
    }
    [release, complete, fail].into_iter().filter(|group| !group.is_empty()).collect()
}

/// Delivers reports of one kind. `turn` is for the first call.
fn deliver<'a>(
    shared: &'a Shared,
    calls: &'a Arc<Semaphore>,
    mut group: Vec<Report>,
    mut turn: Option<OwnedSemaphorePermit>,
) -> BoxFuture<'a, ()> {
    async move {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let answer = {
                let _turn = match turn.take() {
                    Some(turn) => Some(turn),
                    None => Arc::clone(calls).acquire_owned().await.ok(),
                };
                call(&shared.api, &group).await
            };
            match answer {
                Ok(response) => {
                    group = settle(shared, group, response);
                    if group.is_empty() {
                        return;
                    }
                    tracing::warn!(reports = group.len(), "reports met trouble of their own, trying again");
                }
                Err(error) if group.len() > 1 && may_be_of_one(&error) => {
                    tracing::warn!(error = %crate::chain(&error), reports = group.len(), "reports not delivered together, splitting them");
                    let rest = group.split_off(group.len() / 2);
                    futures::future::join(
                        deliver(shared, calls, group, None),
                        deliver(shared, calls, rest, None),
                    )
                    .await;
                    return;
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(error = %crate::chain(&error), reports = group.len(), "report not delivered, trying again");
                }
                Err(error) => {
                    tracing::error!(error = %crate::chain(&error), "report refused, leaving the lease to expire");
                    group.iter().for_each(|report| shared.leases().forget(report.fence()));
                    return;
                }
            }
            tokio::time::sleep(backoff.pause()).await;
            group = still_current(shared, group);
            if group.is_empty() {
                tracing::warn!("the leases ended before their reports were heard");
                return;
            }
        }
    }
    .boxed()
}

/// Whether the cause may lie in one of several reports: the content was refused, or the dispatcher stumbled over it. One that is away
/// or overloaded says nothing about them.
fn may_be_of_one(error: &ApiError) -> bool {
    match error {
        ApiError::Refused { status: 500 | 502 | 504, .. } => true,
        ApiError::Unreachable { source, .. } => source.is_timeout() && !source.is_connect(),
        ApiError::Refused { .. } => !error.is_retryable(),
    }
}

fn still_current(shared: &Shared, mut group: Vec<Report>) -> Vec<Report> {
    let now = Instant::now();
    let mut book = shared.leases();
    group.retain(|report| {
        let current = book.is_current(report.fence(), now);
        if !current {
            book.forget(report.fence());
        }
        current
    });
    group
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

/// The dispatcher has spoken: these leases are over and their messages have done their work. Returns the reports that it said
/// nothing about.
fn settle(shared: &Shared, group: Vec<Report>, response: OutcomeResponse) -> Vec<Report> {
    let outcomes: HashMap<_, _> = response.outcomes.into_iter().map(|o| (o.task_id, o)).collect();
    let (mut messages, mut unheard) = (Vec::with_capacity(group.len()), vec![]);
    let mut book = shared.leases();
    for report in group {
        let Some(outcome) = outcomes.get(&report.fence().task_id) else {
            unheard.push(report);
            continue;
        };
        messages.extend(book.end(report.fence()));
        let verdict = match outcome.verdict {
            Verdict::Accepted => "accepted",
            Verdict::StaleLease => {
                tracing::info!(task = %outcome.task_id, detail = outcome.detail, "lease was not ours any more");
                "stale_lease"
            }
            Verdict::Rejected => {
                tracing::warn!(task = %outcome.task_id, detail = outcome.detail, "result rejected");
                "rejected"
            }
        };
        metrics::counter!("dagwright_worker_reports_total", "kind" => report.label(), "verdict" => verdict)
            .increment(1);
    }
    drop(book);
    shared.done_with(messages);
    unheard
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
    use clap::Parser as _;
    use dagwright_contracts::tasks::{Completion, Outcome};
    use dagwright_core::ids::TaskId;
    use dagwright_telemetry::Health;
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    use super::*;
    use crate::{args::Args, leases::tests::lease, messages::Done, operators::Registry, worker};

    const POISON: TaskId = TaskId(Uuid::from_u128(5));

    type Heard = Arc<Mutex<Vec<TaskId>>>;

    /// A dispatcher that stumbles over one completion, which the real one cannot be made to do: it tries each of a set by itself.
    async fn dispatcher() -> (String, Heard) {
        let heard = Heard::default();
        let complete = async |State(heard): State<Heard>, Json(request): Json<CompleteRequest>| {
            let tasks: Vec<_> = request.completions.iter().map(|c| c.fence.task_id).collect();
            if tasks.contains(&POISON) {
                return Err(StatusCode::INTERNAL_SERVER_ERROR);
            }
            heard.lock().unwrap().extend(&tasks);
            let accepted = |task_id| Outcome { task_id, verdict: Verdict::Accepted, detail: String::new() };
            Ok(Json(OutcomeResponse { outcomes: tasks.into_iter().map(accepted).collect() }))
        };
        let app = Router::new().route("/v1/tasks:complete", post(complete)).with_state(Arc::clone(&heard));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (url, heard)
    }

    #[tokio::test]
    async fn a_report_that_never_gets_through_holds_up_no_other() {
        let (url, heard) = dispatcher().await;
        let flags = [
            "worker",
            "--dispatcher-url",
            &url,
            "--rpc-url",
            &url,
            "--queue-url",
            &url,
            "--pool-token",
            "dwp_test-token",
        ];
        let (reports, receiver) = mpsc::channel(16);
        let (done, _to_delete) = Done::channel();
        let (args, health, stop) = (Args::parse_from(flags), Health::default(), CancellationToken::new());
        let (aws, channels) = (dagwright_aws::config().await, (reports.clone(), done));
        let shared =
            Arc::new(worker::set_up(&args, aws, Registry::default(), &health, channels, stop).unwrap());
        for task in 1..=8 {
            let lease = lease(task, 1, 3);
            shared.leases().enter(&lease, None, Instant::now());
            reports
                .send(Report::Complete(Completion { fence: lease.fence, partitions: vec![] }))
                .await
                .unwrap();
        }
        drop(reports);
        shared.close_reports();
        send_all(Arc::clone(&shared), receiver).await;
        let mut heard: Vec<_> = heard.lock().unwrap().iter().map(|task| task.0.as_u128()).collect();
        heard.sort_unstable();
        assert_eq!(heard, [1, 2, 3, 4, 6, 7, 8], "each once");
        assert_eq!(shared.leases().len(), 0, "the lease of the one that was not heard is over");
    }
}
