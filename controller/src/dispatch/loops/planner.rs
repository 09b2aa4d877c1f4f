//! Desired rows become tasks: wanted minus covered minus pending, within each job's bound.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use dagwright_core::{
    ids::JobId,
    plan::{PlanRequest, plan},
};
use dagwright_state::{finish, plan as jobs};
use sqlx::{Postgres, Transaction};
use tokio::sync::broadcast::{Receiver, error::TryRecvError};

use super::{Failures, GATHER, LoopError};
use crate::dispatch::{Dispatcher, context::jitter, wake::Wake};

/// How often jobs are looked for that nobody announced.
const TICK: Duration = Duration::from_secs(1);

/// A job is planned at least this often: what a lost notification left undone is found then.
const STALE: time::Duration = time::Duration::seconds(10);

pub(super) async fn run(dispatcher: Dispatcher) {
    let mut wakes = dispatcher.wakes.subscribe();
    let mut failures = Failures::new("planner");
    let mut rested = Instant::now();
    while !dispatcher.stop.is_cancelled() {
        let announced = tokio::select! {
            () = dispatcher.stop.cancelled() => return,
            announced = announced(&mut wakes, rested) => announced,
        };
        let began = Instant::now();
        let planned = pass(&dispatcher, announced).await;
        rested = Instant::now() + rest(began.elapsed(), matches!(planned, Ok(1..)));
        if failures.note(planned.map(drop)) {
            tokio::select! {
                () = dispatcher.stop.cancelled() => return,
                () = tokio::time::sleep(failures.pause()) => {}
            }
        }
    }
}

/// How long to gather announcements after a pass. The first of a burst is planned at once, and where each plan brings new tasks, the
/// next pass comes as soon as this one was long. With many jobs at work a pass is long, and most have planned ahead what they may.
fn rest(pass: Duration, brought_tasks: bool) -> Duration {
    if brought_tasks { pass.min(GATHER) } else { super::rest(pass, TICK) }
}

/// Jobs that were announced since the last pass, not before it has `rested`; none after a quiet second.
async fn announced(wakes: &mut Receiver<Wake>, rested: Instant) -> HashSet<JobId> {
    let mut jobs = HashSet::new();
    let first = tokio::time::timeout(TICK, async {
        loop {
            match wakes.recv().await {
                Ok(Wake::Plan(job)) => return Some(job),
                Ok(Wake::Tasks(_) | Wake::Room(_) | Wake::Gateway) => {}
                Err(_) => return None,
            }
        }
    });
    let Ok(Some(job)) = first.await else { return jobs };
    jobs.insert(job);
    tokio::time::sleep(rested.saturating_duration_since(Instant::now())).await;
    loop {
        match wakes.try_recv() {
            Ok(Wake::Plan(job)) => drop(jobs.insert(job)),
            Ok(Wake::Tasks(_) | Wake::Room(_) | Wake::Gateway) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return jobs,
        }
    }
}

/// Returns how many tasks were planned.
async fn pass(dispatcher: &Dispatcher, announced: HashSet<JobId>) -> Result<u64, LoopError> {
    let mut planned = 0;
    for job_id in announced {
        let mut tx = dispatcher.begin().await?;
        if let Some(job) = jobs::lock(&mut tx, job_id).await? {
            planned += plan_job(tx, &job).await?;
        }
    }
    loop {
        let mut tx = dispatcher.begin().await?;
        let Some(job) = jobs::lock_next(&mut tx, STALE).await? else { return Ok(planned) };
        planned += plan_job(tx, &job).await?;
    }
}

async fn plan_job(
    mut tx: Transaction<'static, Postgres>,
    job: &jobs::PlannableJob,
) -> Result<u64, LoopError> {
    let redriven = finish::redrive_edited(&mut tx, job.job_id, &mut jitter).await?;
    jobs::mark_outside(&mut tx, job.job_id).await?;
    let mut planned = vec![];
    // Without room, what is covered makes no difference.
    if let Some(wanted) = job.wanted.filter(|_| job.in_flight < job.max_in_flight) {
        let outputs = jobs::coverage(&mut tx, job.job_id).await?;
        let (chunk, in_flight, max_in_flight) = (job.chunk, job.in_flight, job.max_in_flight);
        planned = plan(&PlanRequest { wanted, outputs, chunk, in_flight, max_in_flight });
    }
    let inserted = jobs::insert(&mut tx, job.job_id, &planned).await?;
    jobs::mark_planned(&mut tx, job.job_id).await?;
    dagwright_state::commit(tx).await?;
    if redriven > 0 {
        metrics::counter!("dagwright_tasks_redriven_total").increment(redriven as u64);
        tracing::info!(
            job = job.subject,
            tasks = redriven,
            "redrove tasks that failed before the job was edited"
        );
    }
    if inserted > 0 {
        metrics::counter!("dagwright_tasks_planned_total").increment(inserted);
        tracing::debug!(job = job.subject, tasks = inserted, "planned");
    }
    Ok(inserted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_brings_nothing_rests_longer_than_it_took() {
        let ms = Duration::from_millis;
        assert_eq!([rest(ms(3), true), rest(ms(300), true)], [ms(3), GATHER]);
        assert_eq!([rest(ms(3), false), rest(ms(100), false), rest(ms(800), false)], [GATHER, ms(400), TICK]);
    }
}
