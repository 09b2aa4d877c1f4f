//! Processes that a benchmark starts; each ends with its handle.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// What to start.
#[derive(Debug)]
pub(crate) struct Spec<'a> {
    pub(crate) name: &'static str,
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<String>,
    /// All of its environment but PATH and HOME.
    pub(crate) env: Vec<(&'static str, String)>,
    /// User and group to run as, when not our own.
    pub(crate) user: Option<(u32, u32)>,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts it; what it says goes to `NAME.log` in `dir`.
    pub(crate) fn start(spec: Spec<'_>, dir: &Path) -> anyhow::Result<Self> {
        let log = dir.join(format!("{}.log", spec.name));
        // Anew: what an earlier process of the name said is nothing that this one did.
        let out = File::create(&log);
        let out = out.with_context(|| format!("open {}", log.display()))?;
        let mut command = Command::new(spec.program);
        command
            .args(spec.args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", dir)
            .envs(spec.env)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stderr(out.try_clone().context("share the log")?)
            .stdout(out)
            // A signal of the terminal is for the benchmark, which ends its processes in order.
            .process_group(0)
            .kill_on_drop(true);
        if let Some((uid, gid)) = spec.user {
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().with_context(|| {
            format!("start {} ({}): `./dev bench` builds it", spec.name, spec.program.display())
        })?;
        let pid = child.id().context("a process that was just started has a pid")?;
        Ok(Self { name: spec.name, pid, log, child })
    }

    /// The exit status and the end of the log, when it has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait().with_context(|| format!("look after {}", self.name))? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status}); its log says:\n{}", self.name, self.tail()),
        }
    }

    /// Asks it to end and waits.
    pub(crate) async fn stop(mut self, signal: Signal, patience: Duration) -> anyhow::Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.pid).context("a pid fits")?);
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.name))?;
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(status) => status.with_context(|| format!("wait for {}", self.name)),
            Err(_) => {
                bail!(
                    "{} did not end within {} s; its log says:\n{}",
                    self.name,
                    patience.as_secs(),
                    self.tail()
                )
            }
        }
    }

    /// The end of its log.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr().context("read the port that was found")?.port())
}
