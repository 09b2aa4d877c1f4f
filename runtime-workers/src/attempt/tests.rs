use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use dagwright_contracts::tasks::Work;
use dagwright_core::{
    ids::{AttemptId, LeaseToken, TaskId},
    range::BlockRange,
};
use uuid::Uuid;

use super::*;
use crate::{gateway::Gateway, leases::Progress, operators::Operator, store::TaskStore, tasks_api::TasksApi};

/// An operator that ends as its config says.
struct Scripted;

#[async_trait]
impl Operator for Scripted {
    fn id(&self) -> &'static str {
        "scripted"
    }

    fn semantics(&self) -> RangeInclusive<u32> {
        2..=3
    }

    async fn run(&self, task: &TaskContext) -> Result<Vec<CommittedPartition>, OperatorError> {
        task.progress.add(1);
        match task.work.config.as_str() {
            Some("panic") => panic!("as the script says"),
            Some("hang") => std::future::pending().await,
            Some("fail") => Err(OperatorError::new(Reason::VerificationFailed, "block 7").blame("p")),
            _ => Ok(vec![]),
        }
    }
}

struct Run {
    lease: TaskLease,
    lost: CancellationToken,
    stop: CancellationToken,
}

impl Run {
    fn of(script: &str) -> Self {
        let lease = TaskLease {
            fence: Fence {
                task_id: TaskId(Uuid::nil()),
                attempt_id: AttemptId(Uuid::nil()),
                lease_token: LeaseToken(Uuid::nil()),
            },
            attempt: 1,
            expires_at: time::OffsetDateTime::UNIX_EPOCH,
            lease_seconds: 30,
            timeout_seconds: 1,
            work: Work {
                namespace: "demo".into(),
                subject: "Dag demo/d job j".into(),
                operator: "scripted".into(),
                semantics: 3,
                config: script.into(),
                range: BlockRange::new(0, 5).unwrap(),
                outputs: vec![],
                avoid_providers: vec![],
            },
        };
        Self { lease, lost: CancellationToken::new(), stop: CancellationToken::new() }
    }

    async fn end(self) -> Option<Report> {
        let (nobody, token) = ("http://127.0.0.1:1", "dwp_nobody-at-all");
        let api = TasksApi::new(nobody.parse().unwrap(), token.parse().unwrap()).unwrap();
        let aws =
            aws_config::SdkConfig::builder().behavior_version(aws_config::BehaviorVersion::latest()).build();
        let task = TaskContext {
            work: self.lease.work.clone(),
            progress: Progress::default(),
            store: TaskStore::new(&aws, api, self.lease.fence),
            gateway: Gateway::new(nobody.parse().unwrap(), token.parse().unwrap()).unwrap(),
        };
        run(&Registry::new(vec![Arc::new(Scripted)]), &self.lease, &task, &self.lost, &self.stop).await
    }

    async fn failure(self) -> Failure {
        match self.end().await {
            Some(Report::Fail(failure)) => failure,
            other => panic!("a failure, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_end_of_an_operator_is_the_report() {
    assert!(matches!(Run::of("").end().await, Some(Report::Complete(_))));
    let failure = Run::of("fail").failure().await;
    assert_eq!((failure.reason.as_str(), failure.retryable), ("VerificationFailed", true));
    assert_eq!(failure.provider.as_deref(), Some("p"));
}

#[tokio::test]
async fn a_panic_is_one_attempts_failure() {
    let failure = Run::of("panic").failure().await;
    assert_eq!((failure.reason.as_str(), failure.retryable), ("Panicked", true));
}

#[tokio::test]
async fn an_operator_that_hangs_runs_into_its_timeout() {
    let failure = Run::of("hang").failure().await;
    assert_eq!((failure.reason.as_str(), failure.retryable), ("Timeout", true));
    assert_eq!(failure.message, "not finished after 1 s; 1 of 5 blocks done");
}

#[tokio::test]
async fn stopping_hands_the_lease_back_and_a_lost_one_is_not_spoken_of() {
    let stopping = Run::of("hang");
    stopping.stop.cancel();
    assert!(matches!(stopping.end().await, Some(Report::Release(_))));
    let lost = Run::of("hang");
    lost.lost.cancel();
    lost.stop.cancel();
    assert!(lost.end().await.is_none());
}

#[tokio::test]
async fn what_a_worker_does_not_know_fails_for_good() {
    let mut newer = Run::of("");
    newer.lease.work.semantics = 4;
    let failure = newer.failure().await;
    assert_eq!((failure.reason.as_str(), failure.retryable), ("UnsupportedOperator", false));
    assert!(failure.message.contains("semantics 2 to 3") && failure.message.contains("asks for 4"));
    let mut unknown = Run::of("");
    unknown.lease.work.operator = "seance".into();
    assert!(!unknown.failure().await.retryable);
}
