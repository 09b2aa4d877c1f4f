//! A private AWS endpoint with IAM enforced, and SDK configurations that reach it directly or through a fault proxy.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test part panics with what went wrong")]

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::wait::wait_for_within;

/// Where the endpoint's Python is; `./dev test` sets it.
const PYTHON: &str = "DAGWRIGHT_MINISTACK";

/// An endpoint that ends with the test.
pub struct AwsEndpoint {
    /// Its URL.
    pub url: String,
    dir: PathBuf,
    child: Child,
}

impl AwsEndpoint {
    /// Starts it on a free port, empty.
    pub async fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("dw-aws-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(dir.join("tmp")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoint = Self { url: format!("http://127.0.0.1:{port}"), child: spawn(&dir, port), dir };
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().unwrap();
        let ready = format!("{}/_ministack/ready", endpoint.url);
        wait_for_within(Duration::from_secs(60), "the AWS endpoint", async || {
            let answer = http.get(&ready).send().await;
            let up = answer.is_ok_and(|answer| answer.status().is_success());
            if up { Ok(()) } else { Err(format!("its log: {}", endpoint.log())) }
        })
        .await;
        endpoint
    }

    /// A configuration with all rights.
    #[must_use]
    pub fn root(&self) -> SdkConfig {
        root_at(&self.url)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("endpoint.log")).unwrap_or_default()
    }
}

/// A configuration with all rights that reaches the endpoint at another URL, such as a fault proxy's.
#[must_use]
pub fn root_at(url: &str) -> SdkConfig {
    // The endpoint knows no secret of root: the key alone is all-powerful.
    let root = Credentials::new("test", "test", None, None, "root of the test endpoint");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(root))
        .build()
}

fn spawn(dir: &Path, port: u16) -> Child {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| {
        panic!("{PYTHON} is not set: run the tests by `./dev test`, which installs the AWS endpoint")
    });
    let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cli/assets/ministack/launch.py");
    let log = std::fs::File::create(dir.join("endpoint.log")).unwrap();
    Command::new(python)
        .arg(launcher)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("HOME", dir)
        .env("TMPDIR", dir.join("tmp"))
        .env("HOSTNAME", "dagwright-test")
        .env("DOCKER_HOST", format!("unix://{}", dir.join("no-engine.sock").display()))
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

impl Drop for AwsEndpoint {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
