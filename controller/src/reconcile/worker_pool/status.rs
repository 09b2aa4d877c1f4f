use dagwright_crds::{
    WorkerPool, WorkerPoolStatus,
    conditions::{PROGRESSING, QUEUE_READY, SERVICE_READY, START_FAILED, SUCCEEDED},
    worker_pool::{RunMode, Workers},
};
use dagwright_state::status::PoolProgress;
use std::time::Duration;

use super::observe::Observed;
use crate::{
    engine::{Extra, OUTSIDE, Pass, Tri, Verdict},
    reconcile::{instant, number, place},
};

/// What the pool says of itself when nothing is left to do.
pub(super) fn pass(
    pool: &WorkerPool,
    seen: &Observed,
    progress: &PoolProgress,
    waiting: Option<String>,
    corrected: Vec<String>,
) -> Pass<WorkerPoolStatus> {
    let (_, name) = place(pool);
    let mut status = numbers(progress);
    status.queue_url = seen.queue.as_ref().map(|q| q.url.clone());
    status.dead_letter_queue_url = seen.dead_letters.as_ref().map(|q| q.url.clone());
    status.task_definition_arn = seen.task_definition.as_ref().map(|d| d.arn.clone());
    let service = seen.service.as_ref().filter(|_| matches!(pool.spec.run, RunMode::Service(_)));
    status.service_arn = service.map(|s| s.arn.clone());
    let made = match service {
        Some(_) => "task definition and service are as wanted",
        None => "the task definition is as wanted; workers are started as the backlog asks",
    };
    let queue = Extra::new(QUEUE_READY, Tri::True, SUCCEEDED, "queue and dead-letter queue are as wanted");
    let (verdict, service, again) = match (waiting, &progress.start_error) {
        (None, None) => (
            Verdict::Ready { message: format!("WorkerPool {name} can run workers") },
            Extra::new(SERVICE_READY, Tri::True, SUCCEEDED, made),
            // AWS tells nobody when a queue or a service goes; workers stand still until they are back.
            OUTSIDE,
        ),
        (None, Some(words)) => {
            let message = format!(
                "WorkerPool {name} cannot start workers: {words}; it is tried again with growing waits, and at once when spec changes"
            );
            let service = Extra::new(SERVICE_READY, Tri::False, START_FAILED, message.clone());
            (Verdict::Retrying { message }, service, OUTSIDE)
        }
        (Some(what), _) => (
            Verdict::Progressing { message: what.clone() },
            Extra::new(SERVICE_READY, Tri::False, PROGRESSING, what),
            Duration::from_secs(5),
        ),
    };
    // What is corrected after an edit is no drift.
    let edited = pool.status.as_ref().and_then(|s| s.observed_generation) != pool.metadata.generation;
    Pass {
        status,
        extra: vec![queue, service],
        again,
        spacing: Duration::from_secs(10),
        drift: if edited { vec![] } else { corrected },
        ..Pass::of(verdict)
    }
}

/// The status of a pool that a human has to mend: what was known of its resources stays.
pub(super) fn kept(pool: &WorkerPool, progress: &PoolProgress) -> WorkerPoolStatus {
    let old = pool.status.clone().unwrap_or_default();
    WorkerPoolStatus {
        queue_url: old.queue_url,
        dead_letter_queue_url: old.dead_letter_queue_url,
        task_definition_arn: old.task_definition_arn,
        service_arn: old.service_arn,
        ..numbers(progress)
    }
}

fn numbers(progress: &PoolProgress) -> WorkerPoolStatus {
    WorkerPoolStatus {
        workers: Some(Workers {
            desired: i64::from(progress.desired_workers),
            running: i64::from(progress.running_workers),
            busy: number(progress.busy_workers),
        }),
        backlog: Some(number(progress.backlog)),
        oldest_queued_at: progress.oldest_queued_at.and_then(instant),
        dead_letters: Some(number(progress.dead_letters)),
        ..WorkerPoolStatus::default()
    }
}
