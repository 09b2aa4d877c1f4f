//! What every reconcile pass has at hand.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use dagwright_aws::{
    queues::Queues, secrets::Secrets, services::Services, task_definitions::TaskDefinitions,
    worker_tasks::WorkerTasks,
};
use dagwright_core::ids::ClusterId;
use dagwright_crds::{ChainSync, Dag, Dataset, RpcPool, WorkerPool};
use dagwright_state::desired::{Fence, intents};
use futures::future::BoxFuture;
use kube::{
    Client,
    core::DeserializeGuard,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};
use sqlx::{PgPool, Postgres, Transaction, pool::PoolConnection};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::{
    engine::PassMemory, error::PassError, leader::LeaseClock, references::References,
    settings::WorkerSettings, watch::Change,
};

/// An object as it was read, or what is wrong with it.
pub type Guarded<K> = DeserializeGuard<K>;

/// The watched objects of each kind.
#[derive(Clone)]
pub struct Stores {
    /// RpcPools.
    pub rpc_pools: Store<Guarded<RpcPool>>,
    /// WorkerPools.
    pub worker_pools: Store<Guarded<WorkerPool>>,
    /// Datasets.
    pub datasets: Store<Guarded<Dataset>>,
    /// ChainSyncs.
    pub chain_syncs: Store<Guarded<ChainSync>>,
    /// Dags.
    pub dags: Store<Guarded<Dag>>,
}

/// AWS, as far as the controller owns resources there.
#[derive(Clone)]
pub struct Aws {
    /// SQS.
    pub queues: Queues,
    /// Secrets Manager.
    pub secrets: Secrets,
    /// ECS task definitions.
    pub task_definitions: TaskDefinitions,
    /// ECS services.
    pub services: Services,
    /// ECS tasks of no service.
    pub worker_tasks: WorkerTasks,
    /// Region, for log drivers.
    pub region: String,
}

/// What every reconcile pass has at hand.
pub struct Context {
    /// The Kubernetes API.
    pub client: Client,
    /// The state database.
    pub state: PgPool,
    /// The right to write to it.
    pub fence: Fence,
    /// How long the Lease still holds.
    pub lease: LeaseClock,
    /// Cancelled when this process must not act any more.
    pub deposed: CancellationToken,
    /// Cancelled when no new pass shall begin.
    pub stopping: CancellationToken,
    /// AWS.
    pub aws: Aws,
    /// Name of the installation, part of AWS names.
    pub cluster: String,
    /// Id of the installation, part of derived ids and owner tags.
    pub cluster_id: ClusterId,
    /// What workers are given.
    pub workers: WorkerSettings,
    /// Watched objects.
    pub stores: Stores,
    /// Events.
    pub recorder: Recorder,
    /// Identity changes of objects, to all controllers.
    pub changes: broadcast::Sender<Change>,
    /// Who refers to whom.
    pub references: Arc<References>,
    /// What passes remember of objects between them.
    pub memory: PassMemory,
}

/// Longest single call to the Kubernetes API.
pub const KUBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest single call to AWS within a pass.
pub const AWS_TIMEOUT: Duration = Duration::from_secs(20);

impl Context {
    /// A connection to read with.
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub async fn read(&self) -> Result<PoolConnection<Postgres>, PassError> {
        self.state.acquire().await.map_err(|source| {
            PassError::State(dagwright_state::Error::Query {
                operation: "connect to the state database",
                source,
            })
        })
    }

    /// A connection to read with, for a pass that says something without having written: a stale leader is refused.
    ///
    /// # Errors
    /// When Postgres cannot be reached or another leader took over.
    pub async fn read_as_leader(&self) -> Result<PoolConnection<Postgres>, PassError> {
        let mut conn = self.read().await?;
        self.fence.check(&mut conn).await?;
        Ok(conn)
    }

    /// A transaction that a later leader would make fail.
    ///
    /// # Errors
    /// When Postgres cannot be reached or another leader took over.
    pub async fn write(&self) -> Result<Transaction<'static, Postgres>, PassError> {
        Ok(self.fence.begin(&self.state).await?)
    }

    /// Commits a transaction of [`Self::write`].
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub async fn commit(&self, tx: Transaction<'static, Postgres>) -> Result<(), PassError> {
        tx.commit().await.map_err(|source| {
            PassError::State(dagwright_state::Error::Query { operation: "commit desired state", source })
        })
    }

    /// Runs a call that changes AWS: behind an intent row of our epoch, and no longer than the Lease surely holds.
    ///
    /// # Errors
    /// When the Lease is about to end, the intent cannot be written or the call fails.
    pub fn effect<'a, T: Send + 'a, E: Into<PassError>>(
        &'a self,
        object: &'a str,
        action: &'static str,
        call: impl Future<Output = Result<T, E>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, PassError>> {
        // Futures of the SDK are large; they live on the heap from here on.
        let call = Box::pin(call);
        Box::pin(async move {
            let mut tx = self.write().await?;
            let intent = intents::open(&mut tx, self.fence.epoch, object, action).await?;
            self.commit(tx).await?;
            let remaining = self.lease.remaining().ok_or(PassError::LeaseEnding)?;
            let outcome = match tokio::time::timeout(remaining.min(AWS_TIMEOUT), call).await {
                Ok(done) => done.map_err(Into::into),
                Err(_) => Err(PassError::Timeout { operation: action, object: object.to_owned() }),
            };
            let text = outcome.as_ref().map_or_else(PassError::category, |_| "done");
            intents::close(&mut *self.read().await?, intent, text).await?;
            tracing::info!(object, action, outcome = text, "aws call");
            outcome
        })
    }

    /// Runs a call that reads AWS.
    ///
    /// # Errors
    /// When the call fails or takes too long.
    pub fn ask<'a, T: Send + 'a, E: Into<PassError>>(
        &'a self,
        operation: &'static str,
        object: &'a str,
        call: impl Future<Output = Result<T, E>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, PassError>> {
        let call = Box::pin(call);
        Box::pin(async move {
            match tokio::time::timeout(AWS_TIMEOUT, call).await {
                Ok(done) => done.map_err(Into::into),
                Err(_) => Err(PassError::Timeout { operation, object: object.to_owned() }),
            }
        })
    }

    /// The tags by which we know our own AWS resources.
    #[must_use]
    pub fn owner_tags(&self, kind: &str, namespace: &str, name: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(OWNER_TAG.to_owned(), self.owner(kind, namespace, name))])
    }

    /// The value of [`OWNER_TAG`] for an object.
    #[must_use]
    pub fn owner(&self, kind: &str, namespace: &str, name: &str) -> String {
        format!("{}/{kind}/{namespace}/{name}", self.cluster_id)
    }
}

/// The tag that names the owner of an AWS resource: cluster id, kind, namespace, name. Not the uid: a pool that is created
/// again after `deletionPolicy: Retain` finds its resources.
pub const OWNER_TAG: &str = "dagwright.dev/owner";

/// The object `namespace/name` of a store, when it exists, is readable and is not being deleted.
#[must_use]
pub fn live<K>(store: &Store<Guarded<K>>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let found = store.get(&ObjectRef::new(name).within(namespace))?;
    let object = found.0.as_ref().ok()?;
    object.meta().deletion_timestamp.is_none().then(|| Arc::new(object.clone()))
}
