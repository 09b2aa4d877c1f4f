//! Everything that Dagwright's own processes depend on, and none of them: Kubernetes, Postgres and AWS of the local stack,
//! once per test process. Tests start the processes that they are about.
#![expect(clippy::expect_used, clippy::panic, reason = "a test part panics with what went wrong")]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use dagwright_cli::awslocal::{BootstrapConfig, Bootstrapped, CredentialsEndpoint, REGION, bootstrap};
use dagwright_cli::kubernetes;
use dagwright_cli::stack::{Extent, Stack};
use kube::Client;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use sqlx::PgPool;
use tokio::runtime::Runtime;

use crate::control_plane::supervised;

/// The parts of the local stack that are not ours.
#[derive(Debug)]
pub struct Infrastructure {
    pub stack: Stack,
    pub aws: Bootstrapped,
    credentials: CredentialsEndpoint,
    started: Mutex<BTreeMap<String, Child>>,
    _runtime: Runtime,
    _warden: Child,
}

impl Infrastructure {
    /// The infrastructure of this test process, started by whoever asks first.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Infrastructure> = OnceLock::new();
        SHARED.get_or_init(|| {
            // A thread of its own: whoever asks is inside a runtime, where another one cannot be waited for.
            let started = std::thread::spawn(Self::start).join();
            started.expect("starting does not panic").expect("the infrastructure of the tests")
        })
    }

    /// An infrastructure of the caller's own. Start and drop it outside of an async context: it brings a runtime.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> anyhow::Result<Self> {
        let (stack, runtime, warden) = supervised(Extent::Whole)?;
        let endpoint = stack.settings.url("ministack");
        let config = BootstrapConfig {
            endpoint: endpoint.clone(),
            region: REGION.to_owned(),
            stack: stack.settings.name.clone(),
            bucket: stack.settings.bucket(),
            cluster: "dagwright".to_owned(),
            log_group: "/dagwright/test/workers".to_owned(),
        };
        let aws = runtime.block_on(bootstrap(config)).context("make the roles")?;
        let credentials =
            runtime.block_on(CredentialsEndpoint::start(([127, 0, 0, 1], 0).into(), endpoint))?;
        Ok(Self { stack, aws, credentials, started: Mutex::default(), _runtime: runtime, _warden: warden })
    }

    /// A Kubernetes client that may do everything. It belongs to the runtime that it was made in.
    ///
    /// # Panics
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Client {
        kubernetes::client(&self.stack.settings.kubeconfig()).await.expect("a client of the administrator")
    }

    /// AWS as root: for what the world outside of Dagwright does.
    pub fn root(&self) -> SdkConfig {
        let root = aws_credential_types::Credentials::new("test", "test", None, None, "root of the tests");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(self.stack.settings.url("ministack"))
            .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(root))
            .build()
    }

    /// The state database, as the role that owns it.
    ///
    /// # Panics
    /// When the URL cannot be read.
    pub fn state(&self) -> PgPool {
        let url = self.stack.settings.database_url("dagwright_migrate", "state");
        dagwright_state::connect(&url, "tests").expect("a URL")
    }

    /// Starts one of our processes under an AWS role. It ends with the tests; its log is in the stack's folder.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, program: &Path, role: &str, env: &[(&str, String)]) -> Process {
        let settings = &self.stack.settings;
        let admin = free_address();
        let log = File::create(settings.logs().join(format!("{name}.log"))).expect("create a log");
        let arn = self.aws.role_arns.get(role).unwrap_or_else(|| panic!("no role {role}"));
        let child = Command::new(program)
            .env("AWS_ENDPOINT_URL", settings.url("ministack"))
            .env("AWS_REGION", REGION)
            .env("DAGWRIGHT_ADMIN_LISTEN", &admin)
            .envs(self.credentials.env_for(arn))
            .envs(env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", program.display()));
        // The warden ends whatever stands here when the tests end.
        let record = settings.run_dir().join(format!("{name}.pid"));
        std::fs::write(&record, format!("{{\"pid\":{}}}", child.id())).expect("write a pid file");
        let process = Process { name: name.to_owned(), admin, pid: child.id() };
        self.started.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), child);
        process
    }

    /// Whether a process that was started here has ended.
    pub fn ended(&self, process: &Process) -> bool {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started
            .get_mut(&process.name)
            .is_none_or(|c| c.id() != process.pid || matches!(c.try_wait(), Ok(Some(_))))
    }

    /// The end of a process's log, for messages.
    pub fn log(&self, name: &str) -> String {
        let text = self.whole_log(name);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// All that a process logged.
    pub fn whole_log(&self, name: &str) -> String {
        std::fs::read_to_string(self.stack.settings.logs().join(format!("{name}.log"))).unwrap_or_default()
    }
}

/// A process that was started by [`Infrastructure::spawn`].
#[derive(Clone, Debug)]
pub struct Process {
    pub name: String,
    /// Address of its admin server.
    pub admin: String,
    pid: u32,
}

impl Process {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to the process and its children.
    ///
    /// # Panics
    /// When the pid is none.
    pub fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(i32::try_from(self.pid).expect("a pid fits"));
        // A process that ended already needs no signal.
        let _ = killpg(group, signal);
    }

    /// The value of a metric, summed over all series whose line contains every part; nothing while it does not answer.
    pub async fn metric(&self, name: &str, parts: &[&str]) -> Option<f64> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().ok()?;
        let text =
            client.get(format!("http://{}/metrics", self.admin)).send().await.ok()?.text().await.ok()?;
        let lines = text.lines().filter(|l| l.starts_with(name) && parts.iter().all(|p| l.contains(p)));
        Some(lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}
