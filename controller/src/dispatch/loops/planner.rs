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

/// So long a pass looks at jobs that nobody announced, before it looks who is announced.
const BUDGET: Duration = Duration::from_millis(500);

pub(super) async fn run(dispatcher: Dispatcher) {
    let mut wakes = dispatcher.wakes.subscribe();
    let mut failures = Failures::new("planner");
    let (mut rested, mut tick) = (Instant::now(), TICK);
    while !dispatcher.stop.is_cancelled() {
        let announced = tokio::select! {
            () = dispatcher.stop.cancelled() => return,
            announced = announced(&mut wakes, rested, tick) => announced,
        };
        let began = Instant::now();
        let passed = pass(&dispatcher, announced).await;
        let (brought_tasks, more) = passed.as_ref().map_or((false, false), |p| (p.tasks > 0, p.more));
        rested = Instant::now() + rest(began.elapsed(), brought_tasks || more);
        tick = if more { Duration::ZERO } else { TICK };
        if failures.note(passed.map(drop)) {
            tokio::select! {
                () = dispatcher.stop.cancelled() => return,
                () = tokio::time::sleep(failures.pause()) => {}
            }
        }
    }
}

/// How long to gather announcements after a pass. The first of a burst is planned at once, and where each plan brings new tasks, the
/// next pass comes as soon as this one was long. With many jobs at work a pass is long, and most have planned ahead what they may.
fn rest(pass: Duration, goes_on: bool) -> Duration {
    if goes_on { pass.min(GATHER) } else { super::rest(pass, TICK) }
}

/// Jobs that were announced since the last pass, not before it has `rested`; none after a quiet `tick`.
async fn announced(wakes: &mut Receiver<Wake>, rested: Instant, tick: Duration) -> HashSet<JobId> {
    let mut jobs = HashSet::new();
    let first = tokio::time::timeout(tick, async {
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

/// What a pass did.
struct Passed {
    /// Tasks that it planned.
    tasks: u64,
    /// Whether jobs are left that are due.
    more: bool,
}

async fn pass(dispatcher: &Dispatcher, announced: HashSet<JobId>) -> Result<Passed, LoopError> {
    let (mut tasks, began) = (0, Instant::now());
    for job_id in announced {
        if dispatcher.quarantines.plan.admits(&job_id.to_string()) {
            let mut tx = dispatcher.begin().await?;
            if let Some(job) = jobs::lock(&mut tx, job_id).await? {
                tasks += plan_or_leave(dispatcher, tx, &job).await?;
            }
        }
    }
    while began.elapsed() < BUDGET {
        let mut tx = dispatcher.begin().await?;
        let Some(job) = jobs::lock_next(&mut tx, STALE).await? else {
            return Ok(Passed { tasks, more: false });
        };
        tasks += plan_or_leave(dispatcher, tx, &job).await?;
    }
    Ok(Passed { tasks, more: true })
}

/// Plans a job; one that cannot be planned is left alone for a while, and the others are planned.
async fn plan_or_leave(
    dispatcher: &Dispatcher,
    tx: Transaction<'static, Postgres>,
    job: &jobs::PlannableJob,
) -> Result<u64, LoopError> {
    let name = job.job_id.to_string();
    match plan_job(tx, job).await {
        Ok(tasks) => {
            dispatcher.quarantines.plan.note(&name, Ok(()));
            Ok(tasks)
        }
        Err(error) if error.is_of_all() => Err(error),
        Err(error) => {
            dispatcher.quarantines.plan.note(&name, Err(error));
            let mut tx = dispatcher.begin().await?;
            jobs::mark_tried(&mut tx, job.job_id).await?;
            dagwright_state::commit(tx).await?;
            Ok(0)
        }
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
