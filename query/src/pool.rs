//! Engine processes: spawned ahead of need, used once, killed.

use std::{
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use dagwright_telemetry::Check;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex, mpsc},
};
use tokio_util::sync::CancellationToken;

use crate::engine::protocol::Frame;

/// How engine processes are started.
#[derive(Clone, Debug)]
pub struct EngineSpec {
    /// The service's own binary.
    pub program: PathBuf,
    pub extension_dir: PathBuf,
    pub memory_mib: u64,
    pub threads: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("start an engine process from {program}")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("talk to an engine process")]
    Talk(#[source] io::Error),
    #[error("an engine process ended ({0})")]
    Ended(String),
    #[error("an engine process sent a frame out of turn")]
    OutOfTurn,
    #[error("an engine process was not ready in {0:?}")]
    Slow(Duration),
    #[error("the service is shutting down")]
    Closed,
}

/// An engine takes half a second of CPU to start, most of it verifying the extension's signature.
const START: Duration = Duration::from_secs(30);

/// Pause after an engine that could not start, so that a broken installation does not spin.
const RETRY: Duration = Duration::from_secs(1);

/// One engine process. Dropping it kills its process group.
pub struct Engine {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Engine {
    /// Starts a process and waits until its extensions are loaded.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn start(spec: &EngineSpec) -> Result<Self, EngineError> {
        let failed = |source| EngineError::Spawn { program: spec.program.display().to_string(), source };
        let mut child = Command::new(&spec.program)
            .arg("engine")
            .arg("--extension-dir")
            .arg(&spec.extension_dir)
            .args(["--memory-mib", &spec.memory_mib.to_string(), "--threads", &spec.threads.to_string()])
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let missing = || failed(io::Error::other("the process has no pipes"));
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let mut engine = Self { child, stdin, stdout };
        match tokio::time::timeout(START, engine.next()).await {
            Ok(Ok(Frame::Ready)) => Ok(engine),
            Ok(Ok(_)) => Err(EngineError::OutOfTurn),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(EngineError::Slow(START)),
        }
    }

    /// Sends one line.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn send(&mut self, message: &impl serde::Serialize) -> Result<(), EngineError> {
        let mut line = serde_json::to_vec(message).map_err(|e| EngineError::Talk(e.into()))?;
        line.push(b'\n');
        self.stdin.write_all(&line).await.map_err(EngineError::Talk)?;
        self.stdin.flush().await.map_err(EngineError::Talk)
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the process is gone; then with how it ended.
    pub async fn next(&mut self) -> Result<Frame, EngineError> {
        match Frame::read(&mut self.stdout).await {
            Ok(frame) => Ok(frame),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let status = self.child.wait().await.map_err(EngineError::Talk)?;
                Err(EngineError::Ended(describe(status)))
            }
            Err(error) => Err(EngineError::Talk(error)),
        }
    }

    /// Id of the process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The group, in case a hole in the engine let it start something.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal().and_then(|signal| Signal::try_from(signal).ok())) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => signal.as_str().to_owned(),
        (None, None) => "unknown".to_owned(),
    }
}

/// Blank engines, ready to take a query.
pub struct EnginePool {
    ready: Mutex<mpsc::Receiver<Engine>>,
}

impl EnginePool {
    /// Keeps `spare` engines ready until `stop`. `check` follows whether engines start.
    #[must_use]
    pub fn spawn(spec: EngineSpec, spare: usize, check: Check, stop: CancellationToken) -> Self {
        // The filler holds one engine in hand while the channel is full.
        let (sender, receiver) = mpsc::channel(spare.saturating_sub(1).max(1));
        tokio::spawn(async move {
            let _ = stop.run_until_cancelled(fill(spec, sender, check)).await;
        });
        Self { ready: Mutex::new(receiver) }
    }

    /// A blank engine; waits for one to start when all are in use.
    ///
    /// # Errors
    /// When the service is shutting down.
    pub async fn take(&self) -> Result<Engine, EngineError> {
        loop {
            let mut engine = self.ready.lock().await.recv().await.ok_or(EngineError::Closed)?;
            if engine.alive() {
                return Ok(engine);
            }
        }
    }
}

async fn fill(spec: EngineSpec, sender: mpsc::Sender<Engine>, check: Check) {
    loop {
        match Engine::start(&spec).await {
            Ok(engine) => {
                check.ready();
                if sender.send(engine).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "engine could not be started");
                check.failing(error.to_string());
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
