//! A private AWS endpoint for the tests of this crate, with IAM enforced.

use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{BootstrapConfig, Bootstrapped, CredentialsEndpoint, bootstrap};

pub(crate) const HOSTNAME: &str = "dagwright-test";

/// Where the endpoint's Python is; `./dev test` sets it.
const PYTHON: &str = "DAGWRIGHT_MINISTACK";

/// An endpoint that ends with the test.
pub(crate) struct Ministack {
    pub(crate) endpoint: String,
    pub(crate) dir: PathBuf,
    port: u16,
    child: Child,
}

impl Ministack {
    pub(crate) async fn start() -> Self {
        let dir =
            std::env::temp_dir().join(format!("dw-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]));
        std::fs::create_dir_all(dir.join("tmp")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = spawn(&dir, port);
        let ministack = Self { endpoint: format!("http://127.0.0.1:{port}"), dir, port, child };
        ministack.ready().await;
        ministack
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("engine.sock")
    }

    /// As `kill -9` and a supervisor do: everything is forgotten, the address stays.
    pub(crate) async fn crash_and_restart(&mut self) {
        self.kill();
        self.child = spawn(&self.dir, self.port);
        self.ready().await;
    }

    pub(crate) async fn credentials(&self) -> CredentialsEndpoint {
        CredentialsEndpoint::start(([127, 0, 0, 1], 0).into(), self.endpoint.clone()).await.unwrap()
    }

    pub(crate) async fn bootstrap(&self) -> Bootstrapped {
        let config = BootstrapConfig {
            endpoint: self.endpoint.clone(),
            region: super::REGION.to_owned(),
            stack: "test".to_owned(),
            bucket: "dagwright-data-test".to_owned(),
            cluster: "dagwright".to_owned(),
            log_group: "/dagwright/test/workers".to_owned(),
        };
        bootstrap(config).await.unwrap()
    }

    async fn ready(&self) {
        let url = format!("{}/_ministack/ready", self.endpoint);
        let check = async || match reqwest::get(&url).await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("answered {}", answer.status())),
            Err(error) => Err(error.to_string()),
        };
        wait_for("the AWS endpoint", Duration::from_secs(60), check).await;
    }

    fn kill(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn spawn(dir: &Path, port: u16) -> Child {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| {
        panic!("{PYTHON} is not set: run the tests by `./dev test`, which installs the AWS endpoint")
    });
    let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/ministack/launch.py");
    let log = std::fs::File::create(dir.join("ministack.log")).unwrap();
    Command::new(python)
        .arg(launcher)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("HOME", dir)
        .env("TMPDIR", dir.join("tmp"))
        .env("HOSTNAME", HOSTNAME)
        .env("DOCKER_HOST", format!("unix://{}", dir.join("engine.sock").display()))
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("MINISTACK_HOST", "127.0.0.1")
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0")
        .env("AUTH", "true")
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap()
}

/// Polls until `check` is `Ok`; its error says what is missing.
pub(crate) async fn wait_for<T, F, Fut>(what: &str, limit: Duration, mut check: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let end = Instant::now() + limit;
    loop {
        match check().await {
            Ok(value) => return value,
            Err(missing) if Instant::now() > end => panic!("waited {limit:?} for {what}: {missing}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
