//! Local Fargate: the part of the Docker Engine API that an ECS endpoint calls, on a unix socket, with processes
//! as containers.
//!
//! The ECS endpoint of the local stack drives a container engine. Requiring Docker for that would put a virtual
//! machine or a root daemon between a newcomer and the first run, so the engine here starts each container as a
//! process group: real pids, real SIGTERM, real exit codes, real logs. What Fargate adds to a container (region,
//! credentials of the task role, the task definition's `stopTimeout` and memory limit) is added here.
//!
//! **Invariant:** only programs of the image table are ever started; a task definition chooses arguments and
//! environment, never a program. The socket is mode 0600 all the same.

mod container;
mod image;
mod logs;
pub(crate) mod record;
mod registry;
mod route;
mod server;
mod task;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::awslocal::CredentialsEndpoint;
use registry::Registry;

/// What the engine needs to know.
#[derive(Clone, Debug)]
pub struct FargateConfig {
    /// The unix socket to listen on; a stale one is replaced.
    pub socket: PathBuf,
    /// Holds one log file and one pid record per container.
    pub run_dir: PathBuf,
    /// The programs that tasks may run, by image reference.
    pub images: BTreeMap<String, ImageCommand>,
    /// `AWS_ENDPOINT_URL` of every task: the AWS endpoint, or a fault proxy before it.
    pub aws_endpoint: String,
    /// `AWS_REGION` of every task.
    pub region: String,
    /// The `HOSTNAME` that the ECS endpoint runs with. It inspects a container of that name to find its own network.
    pub self_name: String,
    /// Where tasks get the credentials of their role.
    pub credentials: CredentialsEndpoint,
}

/// What an image stands for.
#[derive(Clone, Debug)]
pub struct ImageCommand {
    /// The image's ENTRYPOINT: an absolute path.
    pub program: PathBuf,
    /// The image's CMD: used when the container brings no command.
    pub args: Vec<String>,
    /// The image's ENV.
    pub env: BTreeMap<String, String>,
}

/// A running engine. Dropping it kills its containers; [`Engine::shutdown`] lets them finish first.
#[derive(Debug)]
pub struct Engine {
    registry: Arc<Registry>,
    server: JoinHandle<()>,
    socket: PathBuf,
}

impl Engine {
    /// Sweeps what an earlier engine left behind, then listens.
    pub async fn start(config: FargateConfig) -> anyhow::Result<Self> {
        let socket = config.socket.clone();
        record::sweep(&config.run_dir)
            .with_context(|| format!("sweep containers of {}", config.run_dir.display()))?;
        logs::prune(&config.run_dir)
            .with_context(|| format!("remove old logs of {}", config.run_dir.display()))?;
        let listener = listen(&socket)?;
        let registry = Arc::new(Registry::new(config)?);
        let app = server::router(Arc::clone(&registry));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "container engine stopped serving");
            }
        });
        Ok(Self { registry, server, socket })
    }

    /// Pids of the running containers, by container name.
    #[must_use]
    pub fn processes(&self) -> BTreeMap<String, u32> {
        self.registry.processes()
    }

    /// Asks every container to end, gives them five seconds, kills the rest with their process groups.
    pub async fn shutdown(self) {
        self.registry.stop_all(SHUTDOWN_GRACE).await;
    }
}

/// The dispatcher reaps leases of workers that needed longer, so `down` does not wait for a full `stopTimeout`.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

impl Drop for Engine {
    fn drop(&mut self) {
        self.server.abort();
        self.registry.kill_all();
        // A missing socket is what we want; any other failure shows at the next start.
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn listen(socket: &std::path::Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove stale socket {}", socket.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).with_context(|| format!("listen on {}", socket.display()))?;
    // The directory is private too: between bind and chmod nobody else can reach the socket.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("restrict {}", socket.display()))?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
