//! A real Kubernetes control plane for tests: the one of the local stack, with our resource types and the controller's
//! rights, and nothing else. One per test process, because a start takes seconds; tests keep apart by namespace.
#![expect(clippy::expect_used, reason = "a test part panics with what went wrong")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::Context;
use dagwright_cli::kubernetes;
use dagwright_cli::parts::{self, Cache, Progress};
use dagwright_cli::paths::cache_dir;
use dagwright_cli::stack::{Extent, Programs, Settings, Stack};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Waits until the test process is gone, however it went (its end of the pipe closes), then ends what that one started.
const WARDEN: &str = r#"read -r _
for record in "$1"/run/*.pid; do
  pid=$(sed -n 's/.*"pid":\([0-9][0-9]*\).*/\1/p' "$record") && [ -n "$pid" ] && kill -s KILL -- "-$pid"
done
rm -rf -- "$1""#;

/// etcd, kube-apiserver and kube-controller-manager on loopback.
#[derive(Debug)]
pub struct ControlPlane {
    stack: Stack,
    /// Supervises the processes, so it must live as long as they do.
    _runtime: Runtime,
    /// Its standard input is the pipe that closes with this process.
    _warden: Child,
}

/// What a program printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

impl ControlPlane {
    /// The control plane of this test process, started by whoever asks first.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(|| {
            // A thread of its own: whoever asks is inside a runtime, where another one cannot be waited for.
            let started = std::thread::spawn(Self::start).join();
            started.expect("starting a control plane does not panic").expect("a control plane for the tests")
        })
    }

    /// A control plane of the caller's own. Start and drop it outside of an async context: it brings a runtime.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> anyhow::Result<Self> {
        let (stack, runtime, warden) = supervised(Extent::Kubernetes)?;
        Ok(Self { stack, _runtime: runtime, _warden: warden })
    }

    /// A fresh namespace, and a client that may do everything.
    ///
    /// # Panics
    /// When the API server refuses.
    pub async fn namespace() -> (String, Client) {
        let client = Self::shared().client().await;
        let name = format!("test-{}", &Uuid::new_v4().simple().to_string()[..12]);
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .expect("create a namespace");
        (name, client)
    }

    /// A client that may do everything. It belongs to the runtime that it was made in.
    ///
    /// # Panics
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Client {
        kubernetes::client(&self.kubeconfig()).await.expect("a client of the administrator")
    }

    /// A client with the rights of the controller.
    ///
    /// # Panics
    /// When the kubeconfig cannot be read.
    pub async fn controller_client(&self) -> Client {
        kubernetes::client(&self.stack.settings.controller_kubeconfig())
            .await
            .expect("a client of the controller")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.stack.settings.kubeconfig()
    }

    /// Runs kubectl as the administrator, with `input` as its standard input.
    ///
    /// # Panics
    /// When kubectl cannot be run.
    pub async fn kubectl(&self, args: &[&str], input: &str) -> Printed {
        let settings = &self.stack.settings;
        let mut kubectl = tokio::process::Command::new(&settings.parts.kubectl);
        kubectl.args(args).env("KUBECONFIG", self.kubeconfig()).env("HOME", &settings.dir).kill_on_drop(true);
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = kubectl.spawn().expect("start kubectl");
        let mut stdin = running.stdin.take().expect("standard input is a pipe");
        let written = async move {
            // A kubectl that reads nothing closes the pipe early.
            let _ = stdin.write_all(input.as_bytes()).await;
        };
        let ((), output) = tokio::join!(written, running.wait_with_output());
        let output = output.expect("wait for kubectl");
        Printed {
            ok: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Starts a stack that ends with the test process: the stack, the runtime that supervises it, and its warden.
pub(crate) fn supervised(extent: Extent) -> anyhow::Result<(Stack, Runtime, Child)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("make a runtime for the supervisor")?;
    let cache = cache_dir()?;
    let parts = parts::install(&Cache::open(cache.clone())?, &Progress::to_stderr())?;
    let dir = std::env::temp_dir().join(format!("dagwright-test-{}", Uuid::new_v4().simple()));
    let settings = Settings::prepare("test", &dir, parts, Programs::default())?;
    let warden = warden(&dir)?;
    let stack = runtime.block_on(Stack::start(settings, cache, extent))?;
    Ok((stack, runtime, warden))
}

/// A group of its own keeps it alive when Ctrl-C ends the tests.
fn warden(dir: &Path) -> anyhow::Result<Child> {
    Command::new("sh")
        .args(["-c", WARDEN, "sh"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("start the warden of the control plane")
}
