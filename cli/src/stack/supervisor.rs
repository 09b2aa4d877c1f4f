//! A running stack. One process owns it: `dagwright up` starts that process, the end-to-end tests are it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::join_all;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::process::{Layer, MARKER, Place, Spec, Supervised};
use super::settings::{REGION, Settings, write_private};
use super::status::{Board, Phase};
use super::{plan, postgres, sweep, token};
use crate::awslocal::{BootstrapConfig, Bootstrapped, CredentialsEndpoint, bootstrap};
use crate::fargate::{Engine, FargateConfig, ImageCommand};
use crate::kubernetes;

const LAUNCHER: &str = include_str!("../../assets/ministack/launch.py");
/// Two programs that build nothing need this long on a loaded machine at most.
const START: Duration = Duration::from_secs(60);
/// The kernel cuts off longer paths of unix sockets.
const SOCKET_PATH_LONGEST: usize = 100;

/// A stack that is up.
#[derive(Debug)]
pub struct Stack {
    pub settings: Settings,
    running: Arc<Running>,
    engine: Option<Engine>,
    _rebootstrap: Option<DropGuard>,
}

/// What is started; also while the start is under way.
#[derive(Debug)]
struct Running {
    place: Place,
    board: Arc<Board>,
    processes: Mutex<Vec<Arc<Supervised>>>,
}

/// Which parts of a stack are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything that the settings name.
    Whole,
    /// etcd and the API server with our resource types.
    Kubernetes,
    /// Postgres with both databases.
    Postgres,
}

impl Stack {
    /// Starts everything and waits until it works; on failure nothing is left running.
    pub async fn start(settings: Settings, cache: PathBuf, extent: Extent) -> anyhow::Result<Self> {
        sweep::leftovers(&settings)?;
        let place = Place { stack: settings.dir.clone(), logs: settings.logs(), run: settings.run_dir() };
        for dir in [&place.logs, &place.run] {
            std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        }
        let board = Arc::new(Board::new(&settings.dir));
        let running = Arc::new(Running { place, board, processes: Mutex::default() });
        let mut stack = Self { settings, running, engine: None, _rebootstrap: None };
        let started = match extent {
            Extent::Whole => stack.start_all(&cache).await,
            Extent::Kubernetes => start_kubernetes(&stack.settings, &stack.running).await,
            Extent::Postgres => start_postgres(&stack.settings, &stack.running, &cache).await,
        };
        if let Err(error) = started {
            let board = Arc::clone(&stack.running.board);
            stack.stop().await;
            board.phase(Phase::Failed(format!("{error:#}")));
            return Err(error);
        }
        stack.running.board.phase(Phase::Ready);
        Ok(stack)
    }

    async fn start_all(&mut self, cache: &std::path::Path) -> anyhow::Result<()> {
        let (settings, running) = (self.settings.clone(), Arc::clone(&self.running));
        running
            .board
            .phase(Phase::Starting("Kubernetes, Postgres, the AWS endpoint and the chain nodes".to_owned()));
        let credentials =
            CredentialsEndpoint::start(settings.address("credentials"), settings.url("ministack")).await?;
        self.engine = Some(start_engine(&settings, &credentials).await?);
        let (aws, (), (), ()) = tokio::try_join!(
            start_aws(&settings, &running),
            start_postgres(&settings, &running, cache),
            start_kubernetes(&settings, &running),
            start_nodes(&settings, &running),
        )?;
        self._rebootstrap = Some(bootstrap_after_restarts(&settings, &running));
        if settings.binaries.is_some() {
            running.board.phase(Phase::Starting("Dagwright's own processes".to_owned()));
            start_products(&settings, &running, &aws, &credentials).await?;
        }
        Ok(())
    }

    /// Stops everything, last layer first.
    pub async fn stop(mut self) {
        self.running.board.phase(Phase::Stopping);
        self._rebootstrap = None;
        for layer in [Layer::Product, Layer::Cloud] {
            self.running.stop(layer).await;
        }
        // After the ECS endpoint, which ends its own containers through the engine when it stops.
        if let Some(engine) = self.engine.take() {
            engine.shutdown().await;
        }
        for layer in [Layer::Server, Layer::Store] {
            self.running.stop(layer).await;
        }
    }
}

impl Running {
    fn start(&self, spec: Spec) -> Arc<Supervised> {
        let supervised = Arc::new(Supervised::start(spec, &self.place, Arc::clone(&self.board)));
        self.list().push(Arc::clone(&supervised));
        supervised
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Supervised>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Option<Arc<Supervised>> {
        self.list().iter().find(|process| process.spec.name == name).cloned()
    }

    async fn stop(&self, layer: Layer) {
        let of_layer: Vec<_> = self.list().iter().filter(|p| p.spec.layer == layer).cloned().collect();
        join_all(of_layer.iter().map(|process| process.stop())).await;
    }
}

pub(super) fn socket(dir: &Path) -> PathBuf {
    dir.join("engine.sock")
}

async fn start_engine(settings: &Settings, credentials: &CredentialsEndpoint) -> anyhow::Result<Engine> {
    let socket = socket(&settings.dir);
    if socket.as_os_str().len() > SOCKET_PATH_LONGEST {
        bail!("{} is too long for a socket: set DAGWRIGHT_HOME to a shorter folder", socket.display());
    }
    let marker = (MARKER.to_owned(), settings.dir.display().to_string());
    let images = settings.binaries.iter().map(|binaries| {
        let program = binaries.join("dagwright-worker");
        let mut env = settings.variables.clone();
        env.extend([marker.clone()]);
        ("dagwright/worker:local".to_owned(), ImageCommand { program, args: vec![], env })
    });
    let config = FargateConfig {
        socket,
        run_dir: settings.dir.join("tasks"),
        images: images.collect(),
        aws_endpoint: settings.aws_url(),
        region: REGION.to_owned(),
        self_name: plan::SELF_NAME.to_owned(),
        credentials: credentials.clone(),
    };
    Engine::start(config).await.context("start the local container engine")
}

async fn start_aws(settings: &Settings, running: &Running) -> anyhow::Result<Bootstrapped> {
    let folder = settings.dir.join("aws");
    for name in ["tmp", "state", "s3"] {
        let dir = folder.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let launcher = folder.join("launch.py");
    write_private(&launcher, LAUNCHER.as_bytes())?;
    let ministack = running.start(plan::ministack(settings, &launcher, &socket(&settings.dir)));
    ministack.healthy(START).await?;
    if let Some(proxy) = plan::aws_proxy(settings) {
        running.start(proxy).healthy(START).await?;
    }
    bootstrap(bootstrap_config(settings)).await.context("make the roles and the bucket")
}

fn bootstrap_config(settings: &Settings) -> BootstrapConfig {
    BootstrapConfig {
        endpoint: settings.url("ministack"),
        region: REGION.to_owned(),
        stack: settings.name.clone(),
        bucket: settings.bucket(),
        cluster: plan::ECS_CLUSTER.to_owned(),
        log_group: plan::LOG_GROUP.to_owned(),
    }
}

/// A killed endpoint comes back without roles, bucket and cluster.
fn bootstrap_after_restarts(settings: &Settings, running: &Running) -> DropGuard {
    let stop = CancellationToken::new();
    if let Some(ministack) = running.find("ministack") {
        let (config, stopped) = (bootstrap_config(settings), stop.clone());
        let mut starts = ministack.starts();
        starts.mark_unchanged();
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            while starts.changed().await.is_ok() {
                let made = match ministack.healthy(START).await {
                    Ok(()) => bootstrap(config.clone()).await.map(|_| ()),
                    Err(error) => Err(error),
                };
                match made {
                    Ok(()) => tracing::info!("AWS resources made again after a restart of the endpoint"),
                    Err(error) => tracing::error!("AWS resources not made after a restart: {error:#}"),
                }
            }
        }));
    }
    stop.drop_guard()
}

async fn start_postgres(
    settings: &Settings,
    running: &Running,
    cache: &std::path::Path,
) -> anyhow::Result<()> {
    let (bin, folder, cache) =
        (settings.parts.postgres_bin.clone(), settings.dir.join("postgres"), cache.to_owned());
    let data = tokio::task::spawn_blocking(move || postgres::prepare(&bin, &folder, &cache))
        .await
        .context("prepare Postgres")?
        .context("prepare Postgres")?;
    let server = running.start(plan::postgres(settings, &data, postgres::server_user()?));
    server.healthy(START).await?;
    let superuser = settings.database_url("postgres", "postgres");
    postgres::adopt(&superuser, START).await?;
    postgres::provision(&superuser, &settings.kept.passwords).await?;
    let pool = dagwright_state::connect(&settings.database_url("dagwright_migrate", "state"), "dagwright-up")
        .context("open the state database")?;
    dagwright_state::migrate(&pool).await.context("migrate the state database")?;
    pool.close().await;
    Ok(())
}

async fn start_kubernetes(settings: &Settings, running: &Running) -> anyhow::Result<()> {
    let pki = settings.dir.join("kubernetes");
    kubernetes::ensure_pki(&pki).context("make the certificates of the control plane")?;
    let server = format!("https://{}", settings.address("kube-apiserver"));
    kubernetes::write_kubeconfig(&pki, "admin", &server, &settings.kubeconfig())?;
    kubernetes::write_kubeconfig(
        &pki,
        kubernetes::CONTROLLER_USER,
        &server,
        &settings.controller_kubeconfig(),
    )?;
    running.start(plan::etcd(settings)).healthy(START).await?;
    running.start(plan::apiserver(settings)).healthy(START).await?;
    if let Some(manager) = plan::controller_manager(settings) {
        running.start(manager);
    }
    let client = kubernetes::client(&settings.kubeconfig()).await?;
    let mut definitions = Vec::new();
    for (_, text) in dagwright_crds::yaml::files() {
        definitions.extend(kubernetes::parse(&text)?);
    }
    let applied = kubernetes::apply(&client, &definitions).await.context("install the resource types")?;
    let names: Vec<_> = applied.into_iter().map(|applied| applied.name).collect();
    kubernetes::wait_for_crds(&client, &names, START).await?;
    kubernetes::apply(&client, &kubernetes::parse(kubernetes::CONTROLLER_RBAC)?).await?;
    Ok(())
}

async fn start_nodes(settings: &Settings, running: &Running) -> anyhow::Result<()> {
    let nodes: Vec<_> = std::iter::once(plan::anvil(settings))
        .chain(plan::replay(settings))
        .map(|spec| running.start(spec))
        .collect();
    for node in nodes {
        node.healthy(START).await?;
    }
    Ok(())
}

async fn start_products(
    settings: &Settings,
    running: &Running,
    aws: &Bootstrapped,
    credentials: &CredentialsEndpoint,
) -> anyhow::Result<()> {
    write_private(&settings.dir.join("jwks.json"), token::jwks(&settings.kept.token_key)?.as_bytes())?;
    let started: Vec<_> =
        plan::products(settings, aws, credentials).into_iter().map(|spec| running.start(spec)).collect();
    for process in started {
        process.healthy(START).await?;
    }
    Ok(())
}
