use std::sync::Arc;

use dagwright_aws::{
    SdkConfig, object_check::ObjectChecker, queue_send::QueueSender, service_scale::ServiceScaler,
    task_credentials::TaskCredentials, worker_tasks::WorkerTasks,
};
use rand::Rng;
use sqlx::{PgPool, Postgres, Transaction};
use tokio_util::sync::CancellationToken;

use super::{Args, Wakes, hints::Hints, loops::Quarantine};

/// What the API and the loops share.
#[derive(Clone)]
pub struct Dispatcher {
    /// State database: the loops' connections, and in the API those of the call's lane.
    pub db: PgPool,
    lanes: LaneConnections,
    /// Notifications of it.
    pub wakes: Wakes,
    /// Cancelled when the process is to end.
    pub stop: CancellationToken,
    /// Flags.
    pub args: Arc<Args>,
    /// SDK configuration, for clients that are made per queue.
    pub aws: Arc<SdkConfig>,
    /// Looks at objects.
    pub objects: ObjectChecker,
    /// Sends messages.
    pub sender: QueueSender,
    /// Sizes services.
    pub scaler: ServiceScaler,
    /// Starts and stops single workers.
    pub worker_tasks: WorkerTasks,
    /// Narrows the data role.
    pub credentials: TaskCredentials,
    pub(crate) quarantines: Arc<Quarantines>,
    pub(crate) hints: Arc<Hints>,
}

/// Connections that the loops share.
const LOOP_CONNECTIONS: u32 = 16;

/// Connections of heartbeats and releases: enough for many workers, because these calls are short.
pub(crate) const VITAL_CONNECTIONS: u32 = 4;

/// Connections that no loop and no other lane can use up.
#[derive(Clone)]
struct LaneConnections {
    vital: PgPool,
    bulk: PgPool,
}

/// What is left alone for a while, per kind of work.
pub(crate) struct Quarantines {
    pub(crate) plan: Quarantine,
    pub(crate) cutover: Quarantine,
    pub(crate) publish: Quarantine,
    pub(crate) dead_letters: Quarantine,
    pub(crate) heads: Quarantine,
    pub(crate) scale: Quarantine,
}

impl Dispatcher {
    /// With connections to the database of `db`, and an SDK configuration.
    #[must_use]
    pub fn new(args: Args, db: &PgPool, aws: SdkConfig, stop: CancellationToken) -> Self {
        let lanes = LaneConnections {
            vital: dagwright_state::lane(db, VITAL_CONNECTIONS),
            bulk: dagwright_state::lane(db, args.bulk_connections),
        };
        Self {
            db: dagwright_state::lane(db, LOOP_CONNECTIONS),
            lanes,
            wakes: Wakes::default(),
            stop,
            objects: ObjectChecker::new(&aws),
            sender: QueueSender::new(&aws),
            scaler: ServiceScaler::new(&aws),
            worker_tasks: WorkerTasks::new(&aws),
            credentials: TaskCredentials::new(&aws, &args.data_role_arn),
            aws: Arc::new(aws),
            hints: Arc::default(),
            args: Arc::new(args),
            quarantines: Arc::new(Quarantines {
                plan: Quarantine::new("plan"),
                cutover: Quarantine::new("cutover"),
                publish: Quarantine::new("publish"),
                dead_letters: Quarantine::new("dead_letters"),
                heads: Quarantine::new("head"),
                scale: Quarantine::new("scale"),
            }),
        }
    }

    pub(crate) fn over_vital_connections(&self) -> Self {
        Self { db: self.lanes.vital.clone(), ..self.clone() }
    }

    pub(crate) fn over_bulk_connections(&self) -> Self {
        Self { db: self.lanes.bulk.clone(), ..self.clone() }
    }

    /// A transaction of the state database.
    pub(crate) async fn begin(&self) -> dagwright_state::Result<Transaction<'static, Postgres>> {
        dagwright_state::begin(&self.db).await
    }
}

/// The source of backoff jitter.
pub(crate) fn jitter() -> f64 {
    rand::rng().random_range(0.0..1.0)
}
