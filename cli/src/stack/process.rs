//! One supervised child process: started in a group of its own, restarted when it ends by itself, ended with its
//! whole group.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::status::{Board, Probe, Process};
use crate::fargate::record;

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// A process that lived this long did not fail at its start: its next failure waits the shortest time again.
const SETTLED: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const LOG_KEPT: u64 = 20 << 20;

/// Set for every process, so that nothing of a stack can hide from `down`.
pub(crate) const MARKER: &str = "DAGWRIGHT_STACK_DIR";

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// All of its environment but PATH, HOME and the marker.
    pub(crate) env: Vec<(String, String)>,
    /// User and group to run as, when not our own.
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) address: String,
    pub(crate) probe: Probe,
    pub(crate) stop: Signal,
    /// How long it may take to stop before it is killed.
    pub(crate) grace: Duration,
    pub(crate) layer: Layer,
}

/// Who needs whom: a stack stops from the last layer to the first, each layer at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    Store,
    Server,
    Cloud,
    Product,
}

/// Where a process keeps its log and pid record.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) stack: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) run: PathBuf,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) spec: Spec,
    log: PathBuf,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
    starts: watch::Receiver<u32>,
}

impl Supervised {
    pub(crate) fn start(spec: Spec, place: &Place, board: Arc<Board>) -> Self {
        let stop = CancellationToken::new();
        let (sender, starts) = watch::channel(0);
        board.add(Process {
            name: spec.name.clone(),
            pid: None,
            address: spec.address.clone(),
            probe: spec.probe.clone(),
            restarts: 0,
        });
        let log = place.logs.join(format!("{}.log", spec.name));
        let keeper =
            Keeper { spec: spec.clone(), place: place.clone(), log: log.clone(), board, starts: sender };
        let task = Mutex::new(Some(tokio::spawn(keeper.keep(stop.clone()))));
        Self { spec, log, stop, task, starts }
    }

    /// Waits until the probe passes; gives up when the process keeps ending or time is up.
    pub(crate) async fn healthy(&self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        let starts_before = *self.starts.borrow();
        let mut tick = tokio::time::interval(POLL);
        loop {
            tick.tick().await;
            if *self.starts.borrow() > 0 && self.spec.probe.passes().await {
                return Ok(());
            }
            let name = &self.spec.name;
            if *self.starts.borrow() > starts_before + 3 {
                bail!(
                    "{name} ends again and again; its log ({}) says:\n{}",
                    self.log.display(),
                    tail(&self.log)
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{name} is not ready after {} s; its log ({}) says:\n{}",
                    within.as_secs(),
                    self.log.display(),
                    tail(&self.log)
                );
            }
        }
    }

    /// How often it was started.
    pub(crate) fn starts(&self) -> watch::Receiver<u32> {
        self.starts.clone()
    }

    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().await.take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(process = self.spec.name, %error, "supervision ended badly");
        }
    }
}

struct Keeper {
    spec: Spec,
    place: Place,
    log: PathBuf,
    board: Arc<Board>,
    starts: watch::Sender<u32>,
}

impl Keeper {
    async fn keep(self, stop: CancellationToken) {
        let name = self.spec.name.clone();
        let mut backoff = BACKOFF_FIRST;
        loop {
            let started = Instant::now();
            match self.spawn() {
                Ok(mut child) => {
                    self.starts.send_modify(|starts| *starts += 1);
                    let leader = child.id();
                    tokio::select! {
                        status = child.wait() => {
                            self.ended(leader);
                            tracing::warn!(process = name, ?status, "ended by itself");
                        }
                        () = stop.cancelled() => return self.end(child).await,
                    }
                }
                Err(error) => tracing::error!(process = name, "failed to start: {error:#}"),
            }
            backoff =
                if started.elapsed() > SETTLED { BACKOFF_FIRST } else { (backoff * 2).min(BACKOFF_MOST) };
            tokio::select! {
                () = tokio::time::sleep(backoff) => self.board.update(&name, |process| process.restarts += 1),
                () = stop.cancelled() => return,
            }
        }
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let spec = &self.spec;
        let mut command = std::process::Command::new(&spec.program);
        command
            .args(&spec.args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.place.stack)
            .env(MARKER, &self.place.stack)
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.place.stack)
            .stdin(Stdio::null())
            .process_group(0);
        if let Some((uid, gid)) = spec.user {
            command.uid(uid).gid(gid);
        }
        let log = open_log(&self.log)?;
        command.stderr(log.try_clone().context("share the log")?).stdout(log);
        let child = Command::from(command)
            .spawn()
            .with_context(|| format!("start {} ({})", spec.name, spec.program.display()))?;
        if let Some(pid) = child.id() {
            record::write(&self.place.run, &spec.name, pid).context("write the pid record")?;
            self.board.update(&spec.name, |process| process.pid = Some(pid));
        }
        Ok(child)
    }

    /// The group may outlive its leader: whatever is left of it would keep the port.
    fn ended(&self, leader: Option<u32>) {
        if let Some(leader) = leader {
            record::kill_group(leader, Signal::SIGKILL);
        }
        record::remove(&self.place.run, &self.spec.name);
        self.board.update(&self.spec.name, |process| process.pid = None);
    }

    async fn end(&self, mut child: Child) {
        if let Some(pid) = child.id() {
            if let Ok(raw) = i32::try_from(pid) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(raw), self.spec.stop);
            }
            if tokio::time::timeout(self.spec.grace, child.wait()).await.is_err() {
                tracing::warn!(process = self.spec.name, "did not stop in time and is killed");
            }
            record::kill_group(pid, Signal::SIGKILL);
            let _ = child.wait().await;
        }
        record::remove(&self.place.run, &self.spec.name);
        self.board.update(&self.spec.name, |process| process.pid = None);
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    if fs::metadata(path).is_ok_and(|found| found.len() > LOG_KEPT) {
        let _ = fs::rename(path, path.with_extension("log.1"));
    }
    File::options().create(true).append(true).open(path).with_context(|| format!("open {}", path.display()))
}

/// The last lines of a log.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Scene {
        dir: tempfile::TempDir,
        place: Place,
        board: Arc<Board>,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let inside = |name: &str| {
                let path = dir.path().join(name);
                fs::create_dir_all(&path).unwrap();
                path
            };
            let place = Place { stack: dir.path().to_owned(), logs: inside("logs"), run: inside("run") };
            let board = Arc::new(Board::new(dir.path()));
            Self { dir, place, board }
        }

        fn start(&self, script: &str, probe: Probe) -> Supervised {
            let spec = Spec {
                name: "part".to_owned(),
                program: PathBuf::from("/bin/sh"),
                args: vec!["-c".to_owned(), script.to_owned()],
                env: vec![],
                user: None,
                address: String::new(),
                probe,
                stop: Signal::SIGTERM,
                grace: Duration::from_secs(5),
                layer: Layer::Server,
            };
            Supervised::start(spec, &self.place, Arc::clone(&self.board))
        }

        fn pid(&self) -> Option<u32> {
            record::alive(&self.place.run, "part")
        }
    }

    /// Something that always answers, so that only the process decides.
    fn listening() -> (TcpListener, Probe) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let probe = Probe::Tcp(listener.local_addr().unwrap().to_string());
        (listener, probe)
    }

    #[tokio::test]
    async fn a_killed_process_is_started_again_and_counted() {
        let scene = Scene::new();
        let (_listener, probe) = listening();
        let part = scene.start("exec sleep 600", probe);
        part.healthy(PATIENCE).await.unwrap();
        let first = scene.pid().unwrap();
        let mut starts = part.starts();
        starts.mark_unchanged();
        record::kill_group(first, Signal::SIGKILL);
        tokio::time::timeout(PATIENCE, starts.changed()).await.unwrap().unwrap();
        let second = scene.pid().unwrap();
        assert_ne!(first, second);
        let status = super::super::status::Status::load(scene.dir.path()).unwrap();
        assert_eq!(status.processes[0].restarts, 1);
        part.stop().await;
        assert_eq!(scene.pid(), None);
    }

    #[tokio::test]
    async fn stopping_ends_the_whole_group() {
        let scene = Scene::new();
        let (_listener, probe) = listening();
        let part = scene.start("sleep 600 & echo $! > child; exec sleep 600", probe);
        let child = scene.dir.path().join("child");
        let mut tick = tokio::time::interval(POLL);
        while fs::read_to_string(&child).unwrap_or_default().trim().is_empty() {
            tick.tick().await;
        }
        let pid: i32 = fs::read_to_string(&child).unwrap().trim().parse().unwrap();
        part.stop().await;
        // The signal was sent to all of the group; the kernel ends them in its own time.
        let runs =
            || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        let ended = tokio::time::timeout(PATIENCE, async {
            while runs() {
                tick.tick().await;
            }
        });
        assert!(ended.await.is_ok(), "the child {pid} outlived its group");
    }

    #[tokio::test]
    async fn a_process_that_cannot_start_is_reported_with_its_log() {
        let scene = Scene::new();
        let part = scene.start("echo no such port; exit 3", Probe::Tcp("127.0.0.1:1".to_owned()));
        let error = part.healthy(PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains("part ends again and again"), "{error}");
        assert!(error.contains("no such port"), "{error}");
        part.stop().await;
    }
}
