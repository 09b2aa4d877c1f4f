//! All containers of an engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;
use rand::Rng;

use super::container::{Container, Phase, Spec};
use super::image::Images;
use super::task::{self, Identity};
use super::{FargateConfig, record};

/// What AWS gives a Spot task.
const SPOT_WARNING: Duration = Duration::from_secs(120);

/// Why a call was refused, in Docker's terms.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no such image: {0}")]
    NoImage(String),
    #[error("no such container: {0}")]
    NoContainer(String),
    #[error("the name {0:?} is in use by another container")]
    NameTaken(String),
    #[error("container {0} is running: stop it first or remove it by force")]
    StillRunning(String),
    #[error("{0}")]
    Bad(String),
    #[error("start container {name}: {reason}")]
    Start { name: String, reason: String },
}

#[derive(Debug)]
pub(super) struct Registry {
    pub(super) config: FargateConfig,
    pub(super) images: Images,
    ecs: aws_sdk_ecs::Client,
    containers: Mutex<BTreeMap<String, Arc<Container>>>,
    next_address: AtomicU16,
}

impl Registry {
    pub(super) fn new(mut config: FargateConfig) -> anyhow::Result<Self> {
        // Processes are started in it: a relative path would change its meaning.
        config.run_dir = std::path::absolute(&config.run_dir).context("resolve the run directory")?;
        let images = Images::new(std::mem::take(&mut config.images));
        let ecs = aws_sdk_ecs::Client::new(&config.credentials.root_config());
        Ok(Self { config, images, ecs, containers: Mutex::default(), next_address: AtomicU16::new(2) })
    }

    pub(super) fn create(&self, name: Option<String>, spec: Spec) -> Result<Arc<Container>, Refusal> {
        if self.images.find(&spec.image).is_none() {
            return Err(Refusal::NoImage(spec.image));
        }
        let id = hex::encode(rand::rng().random::<[u8; 32]>());
        let name = name.unwrap_or_else(|| id[..12].to_owned());
        if !is_name(&name) {
            return Err(Refusal::Bad(format!(
                "{name:?} is no container name: use letters, digits, `_`, `.` and `-`"
            )));
        }
        let mut containers = self.lock();
        if containers.values().any(|c| c.name == name && !c.state().removed) {
            return Err(Refusal::NameTaken(name));
        }
        let container = Container::new(id.clone(), name, spec, self.address(), self.config.run_dir.clone());
        let container = Arc::new(container);
        containers.insert(id, Arc::clone(&container));
        Ok(container)
    }

    /// Finds by id, name or the beginning of an id.
    pub(super) fn find(&self, reference: &str) -> Result<Arc<Container>, Refusal> {
        let containers = self.lock();
        let visible = || containers.values().filter(|c| !c.state().removed);
        let found = visible()
            .find(|c| c.id == reference || c.name == reference)
            .or_else(|| visible().find(|c| !reference.is_empty() && c.id.starts_with(reference)));
        found.cloned().ok_or_else(|| Refusal::NoContainer(reference.to_owned()))
    }

    pub(super) fn list(&self, all: bool, labels: &[String]) -> Vec<Arc<Container>> {
        let containers = self.lock();
        let wanted = |c: &Arc<Container>| {
            let state = c.state();
            !state.removed && (all || state.is_running()) && c.spec.matches(labels)
        };
        containers.values().filter(|c| wanted(c)).cloned().collect()
    }

    pub(super) async fn start(&self, reference: &str) -> Result<(), Refusal> {
        let container = self.find(reference)?;
        if container.state().phase != Phase::Created {
            return Err(Refusal::Bad(format!("container {} was started before", container.name)));
        }
        let refuse = |reason: String| Refusal::Start { name: container.name.clone(), reason };
        let image = self.images.find(&container.spec.image);
        let image = image.ok_or_else(|| Refusal::NoImage(container.spec.image.clone()))?;
        let traits =
            task::traits(&self.ecs, &container.spec).await.map_err(|error| refuse(format!("{error:#}")))?;
        let identity = Identity { id: &container.id, home: &self.config.run_dir };
        let launch = task::launch(&self.config, image, &container.spec, &identity, &traits);
        container.start(&launch).map_err(|error| refuse(format!("run {}: {error}", launch.program.display())))
    }

    /// A container of a task ends on its own time, the task definition's `stopTimeout`, and the call returns at
    /// once as ECS's StopTask does: the endpoint gives every container five seconds, and waits for each in turn.
    pub(super) async fn stop(&self, reference: &str, grace: Duration) -> Result<(), Refusal> {
        let container = self.find(reference)?;
        if task::is_task(&container.spec) {
            container.begin_stop(container.state().stop_timeout);
        } else if container.state().is_running() {
            container.begin_stop(grace);
            container.wait_end().await;
        }
        Ok(())
    }

    /// As Fargate takes a Spot task back: SIGTERM, and SIGKILL after the task definition's `stopTimeout`, of which AWS lets no more than
    /// the two minutes of its warning pass. The endpoint is not told: it sees a container that exits.
    pub(super) fn interrupt(&self, reference: &str) -> Result<(), Refusal> {
        let container = self.find(reference)?;
        let state = container.state();
        if !state.is_running() {
            return Err(Refusal::Bad(format!(
                "container {} does not run: nothing to interrupt",
                container.name
            )));
        }
        container.begin_stop(state.stop_timeout.min(SPOT_WARNING));
        Ok(())
    }

    /// A container that was told to stop is removed when it has ended: removing it by force would cut its `stopTimeout` short.
    pub(super) fn remove(self: &Arc<Self>, reference: &str, force: bool) -> Result<(), Refusal> {
        let container = self.find(reference)?;
        match container.state().phase {
            Phase::Running if !force => return Err(Refusal::StillRunning(container.name.clone())),
            Phase::Running => container.begin_stop(Duration::ZERO),
            Phase::Created | Phase::Stopping | Phase::Exited => {}
        }
        container.mark_removed();
        if container.state().is_running() {
            let registry = Arc::clone(self);
            tokio::spawn(async move {
                container.wait_end().await;
                registry.lock().remove(&container.id);
            });
        } else {
            self.lock().remove(&container.id);
        }
        Ok(())
    }

    pub(super) fn processes(&self) -> BTreeMap<String, u32> {
        self.running().into_iter().map(|c| (c.name.clone(), c.state().pid)).collect()
    }

    pub(super) async fn stop_all(&self, grace: Duration) {
        let running = self.running();
        for container in &running {
            container.signal(Signal::SIGTERM);
        }
        let all = futures::future::join_all(running.iter().map(|c| c.wait_end()));
        if tokio::time::timeout(grace, all).await.is_err() {
            self.kill_all();
            futures::future::join_all(running.iter().map(|c| c.wait_end())).await;
        }
    }

    pub(super) fn kill_all(&self) {
        for container in self.running() {
            container.signal(Signal::SIGKILL);
            record::remove(&container.run_dir, &container.id);
        }
    }

    fn running(&self) -> Vec<Arc<Container>> {
        self.lock().values().filter(|c| c.state().is_running()).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Container>>> {
        // Every change under the lock is one map operation: a panic elsewhere leaves it whole.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A loopback address of its own per container, so that task attachments differ as they do in a VPC.
    fn address(&self) -> String {
        let [high, low] = self.next_address.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        format!("127.1.{high}.{low}")
    }
}

/// The name becomes a file name.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.len() <= 200 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(allowed)
}
