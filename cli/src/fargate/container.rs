//! One container: a process group, its state, its end.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::record;

/// The body of `POST /containers/create`, as far as it has an effect here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Spec {
    pub(super) image: String,
    #[serde(default)]
    pub(super) cmd: Option<Vec<String>>,
    #[serde(default)]
    pub(super) env: Option<Vec<String>>,
    #[serde(default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
}

impl Spec {
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Each wanted label is `key` or `key=value`; all must match.
    pub(super) fn matches(&self, wanted: &[String]) -> bool {
        wanted.iter().all(|label| match label.split_once('=') {
            Some((key, value)) => self.label(key) == Some(value),
            None => self.label(label).is_some(),
        })
    }
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Created,
    Running,
    /// Told to end; still running. Invisible once it was removed.
    Stopping,
    Exited,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) pid: u32,
    pub(super) exit_code: i32,
    pub(super) out_of_memory: bool,
    pub(super) started_at: Option<OffsetDateTime>,
    pub(super) finished_at: Option<OffsetDateTime>,
    pub(super) stop_timeout: Duration,
    pub(super) removed: bool,
}

impl State {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Stopping)
    }
}

/// What to start, decided from the image, the container and its task definition.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) memory_limit_mib: Option<u64>,
    pub(super) stop_timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) spec: Spec,
    pub(super) address: String,
    pub(super) created: OffsetDateTime,
    pub(super) run_dir: PathBuf,
    state: watch::Sender<State>,
}

impl Container {
    pub(super) fn new(id: String, name: String, spec: Spec, address: String, run_dir: PathBuf) -> Self {
        let state = State {
            phase: Phase::Created,
            pid: 0,
            exit_code: 0,
            out_of_memory: false,
            started_at: None,
            finished_at: None,
            stop_timeout: Duration::from_secs(30),
            removed: false,
        };
        Self {
            id,
            name,
            spec,
            address,
            created: OffsetDateTime::now_utc(),
            run_dir,
            state: watch::Sender::new(state),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.run_dir.join(format!("{}.log", self.name))
    }

    /// Starts the process in a group of its own: stop and kill reach its children too.
    pub(super) fn start(self: &Arc<Self>, launch: &Launch) -> std::io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let spawned = Command::new(&launch.program)
            .args(&launch.args)
            .env_clear()
            .envs(&launch.env)
            .current_dir(&self.run_dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                self.state.send_modify(|state| {
                    state.phase = Phase::Exited;
                    // What a shell and Docker answer for a program that cannot be run.
                    state.exit_code = 127;
                });
                return Err(error);
            }
        };
        let pid = child.id().unwrap_or_default();
        if let Err(error) = record::write(&self.run_dir, &self.id, pid) {
            tracing::warn!(container = %self.name, %error, "cannot record pid; a killed stack would leave it behind");
        }
        self.state.send_modify(|state| {
            state.phase = Phase::Running;
            state.pid = pid;
            state.started_at = Some(OffsetDateTime::now_utc());
            state.stop_timeout = launch.stop_timeout;
        });
        tokio::spawn(Arc::clone(self).watch_process(child, pid, launch.memory_limit_mib));
        Ok(())
    }

    /// Waits for the end; kills a process that outgrows its memory, as the kernel does in a real task.
    async fn watch_process(self: Arc<Self>, mut child: Child, pid: u32, memory_limit_mib: Option<u64>) {
        let mut tick = tokio::time::interval(MEMORY_LOOK_EVERY);
        let mut out_of_memory = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                _ = tick.tick(), if memory_limit_mib.is_some() => {
                    if !out_of_memory && exceeds(pid, memory_limit_mib) {
                        out_of_memory = true;
                        record::kill_group(pid, Signal::SIGKILL);
                    }
                }
            }
        };
        // A container ends with its first process: nothing of the group outlives it.
        record::kill_group(pid, Signal::SIGKILL);
        record::remove(&self.run_dir, &self.id);
        self.state.send_modify(|state| {
            state.phase = Phase::Exited;
            state.exit_code = status.map_or(137, exit_code);
            state.out_of_memory = out_of_memory;
            state.finished_at = Some(OffsetDateTime::now_utc());
        });
    }

    pub(super) fn signal(&self, signal: Signal) {
        let state = self.state();
        if state.is_running() {
            record::kill_group(state.pid, signal);
        }
    }

    /// SIGTERM now, SIGKILL after `grace`; returns at once.
    pub(super) fn begin_stop(self: &Arc<Self>, grace: Duration) {
        let began = self.state.send_if_modified(|state| {
            let running = state.phase == Phase::Running;
            if running {
                state.phase = Phase::Stopping;
            }
            running
        });
        if !began {
            return;
        }
        self.signal(Signal::SIGTERM);
        let container = Arc::clone(self);
        tokio::spawn(async move {
            if tokio::time::timeout(grace, container.wait_end()).await.is_err() {
                container.signal(Signal::SIGKILL);
            }
        });
    }

    /// Exit code, once there is one.
    pub(super) async fn wait_end(&self) -> i32 {
        let mut states = self.state.subscribe();
        match states.wait_for(|state| state.phase == Phase::Exited).await {
            Ok(state) => state.exit_code,
            Err(_) => self.state().exit_code,
        }
    }

    pub(super) fn mark_removed(&self) {
        self.state.send_modify(|state| state.removed = true);
    }
}

/// Often enough to catch a leak, rarely enough to cost nothing.
const MEMORY_LOOK_EVERY: Duration = Duration::from_secs(1);

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(9))
}

fn exceeds(pid: u32, limit_mib: Option<u64>) -> bool {
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    match (limit_mib, resident()) {
        (Some(limit), Some(resident_kib)) => resident_kib > limit * 1024,
        _ => false,
    }
}
