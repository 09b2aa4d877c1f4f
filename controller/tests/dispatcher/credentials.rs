//! Rights as a worker's store gets them: when it first writes, renewed before they end, refused when the lease is lost. The
//! worker's clock is moved; the session's end is STS's own.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use bytes::Bytes;
use dagwright_contracts::{
    endpoints::Endpoints,
    tasks::{CommittedPartition, TaskLease, Work},
};
use dagwright_testkit::fault_proxy::{Fault, FaultProxy, Rule};
use dagwright_worker::{
    attempt::{self, Report},
    gateway::Gateway,
    leases::Progress,
    operators::{Operator, OperatorError, Reason, Registry, TaskContext},
    store::TaskStore,
    tasks_api::TasksApi,
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    life::world,
    support::{Replica, Setup, TOKEN, add_job, wait_for_count},
};

/// The true time and so many seconds.
#[derive(Clone, Debug, Default)]
struct Clock(Arc<AtomicU64>);

impl TimeSource for Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is passed in")]
    fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// An operator that needs no store.
struct Computes;

#[async_trait]
impl Operator for Computes {
    fn id(&self) -> &'static str {
        "computes"
    }

    fn semantics(&self) -> RangeInclusive<u32> {
        1..=1
    }

    async fn run(&self, _: &TaskContext) -> Result<Vec<CommittedPartition>, OperatorError> {
        Ok(vec![])
    }
}

/// A dispatcher that reaches AWS through a proxy, and what a worker has of it.
struct Stage {
    proxy: FaultProxy,
    replica: Replica,
    clock: Clock,
    world: crate::life::World,
}

impl Stage {
    async fn start(db: &PgPool) -> Self {
        let world = world(db).await;
        let proxy = FaultProxy::start(&world.aws.url).await.unwrap();
        let aws = world.setup.aws.to_builder().endpoint_url(proxy.url()).build();
        let setup = Setup { aws, data_role_arn: world.setup.data_role_arn.clone(), ..Setup::default() };
        let replica = Replica::start(db, &setup).await;
        add_job(db).await;
        Self { proxy, replica, clock: Clock::default(), world }
    }

    fn sessions(&self) -> u64 {
        self.proxy.control().calls("AssumeRole")
    }

    /// What an attempt is given, as the worker makes it.
    fn context(&self, work: &Work, lease: &TaskLease) -> TaskContext {
        let endpoints: Endpoints = self.replica.url.parse().unwrap();
        let api = TasksApi::new(endpoints.clone(), TOKEN.parse().unwrap()).unwrap();
        let aws = self.world.aws.root().to_builder();
        let aws = aws.time_source(SharedTimeSource::new(self.clock.clone())).build();
        TaskContext {
            work: work.clone(),
            progress: Progress::default(),
            store: TaskStore::new(&aws, api, lease.fence),
            gateway: Gateway::new(endpoints, TOKEN.parse().unwrap()).unwrap(),
        }
    }
}

async fn write(task: &TaskContext, n: usize) -> Result<(), OperatorError> {
    task.store.write(&task.work.outputs[0], n, Bytes::from_static(b"PAR1"), 1).await.map(drop)
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_task_without_objects_never_calls_sts(db: PgPool) {
    let stage = Stage::start(&db).await;
    let mut lease = stage.replica.claim_one().await;
    (lease.work.operator, lease.work.semantics) = ("computes".into(), 1);
    let task = stage.context(&lease.work, &lease);
    let registry = Registry::new(vec![Arc::new(Computes)]);
    let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
    let report = attempt::run(&registry, &lease, &task, &lost, &stop).await;
    assert!(matches!(report, Some(Report::Complete(_))), "{report:?}");
    assert_eq!(stage.sessions(), 0);
    // The same context would have got them: the count counts.
    write(&task, 0).await.unwrap();
    assert_eq!(stage.sessions(), 1);
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn rights_are_renewed_before_they_end_and_not_for_a_lost_lease(db: PgPool) {
    let stage = Stage::start(&db).await;
    let lease = stage.replica.claim_one().await;
    let task = stage.context(&lease.work, &lease);
    write(&task, 0).await.unwrap();
    write(&task, 1).await.unwrap();
    assert_eq!(stage.sessions(), 1, "one session for many objects");

    // Within its last two and a half minutes a session of fifteen is not used any more.
    stage.clock.0.store(760, Ordering::Relaxed);
    write(&task, 2).await.unwrap();
    assert_eq!(stage.sessions(), 2, "renewed while the first still holds");

    // STS is away for a moment at the next renewal.
    stage.clock.0.store(0, Ordering::Relaxed);
    let task = stage.context(&lease.work, &lease);
    let away = Fault::Status { status: 503, body: String::new(), retry_after: None };
    let rule = stage.proxy.control().add(Rule::always(away).on_aws("AssumeRole").times(1));
    write(&task, 3).await.unwrap();
    assert_eq!(stage.proxy.control().hits(rule), 1);

    sqlx::query("UPDATE tasks SET lease_expires_at = clock_timestamp() WHERE state = 'Running'")
        .execute(&db)
        .await
        .unwrap();
    wait_for_count(&db, "SELECT count(*) FROM tasks WHERE state = 'Running'", 0).await;
    let sessions = stage.sessions();
    stage.clock.0.store(760, Ordering::Relaxed);
    let began = Instant::now();
    let error = write(&task, 4).await.unwrap_err();
    assert_eq!(error.reason, Reason::Storage, "{error}");
    assert!(error.message.contains("the lease of task") && error.message.contains("StaleLease"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "no use in waiting for rights to a lost lease");
    assert_eq!(stage.sessions(), sessions, "STS is not even asked");
}
