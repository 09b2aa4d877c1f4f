//! Doing to real processes what the schedule says.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use dagwright_cli::stack::Status;
use dagwright_e2e::{World, processes::workers_of};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};

use crate::{
    patience::until_ok,
    proxy::{self, Proxy},
    schedule::{Event, Fault, Target},
};

/// A fault that was injected, or why it could not be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Injected {
    #[serde(flatten)]
    pub event: Event,
    pub kind: String,
    /// What was hit.
    pub detail: String,
    pub done: bool,
    /// Requests that a rule of the proxy struck.
    pub requests: u64,
}

/// Hits one stack.
pub struct Injector<'a> {
    pub world: &'a World,
    pub proxy: Proxy,
    /// Whose workers are hit.
    pub namespace: String,
    frozen: Mutex<BTreeSet<i32>>,
}

/// How long a target may be missing because another fault has just ended it.
const FIND: Duration = Duration::from_secs(10);

impl<'a> Injector<'a> {
    #[must_use]
    pub fn new(world: &'a World, proxy: Proxy, namespace: &str) -> Self {
        Self { world, proxy, namespace: namespace.to_owned(), frozen: Mutex::default() }
    }

    /// Waits for the event's time, and returns once what it started is over.
    pub async fn inject(&self, event: Event) -> Injected {
        tokio::time::sleep(event.at).await;
        let kind = event.fault.kind();
        match self.strike(&event.fault).await {
            Ok((detail, requests)) => Injected { event, kind, detail, done: true, requests },
            Err(error) => Injected { event, kind, detail: format!("{error:#}"), done: false, requests: 0 },
        }
    }

    async fn strike(&self, fault: &Fault) -> anyhow::Result<(String, u64)> {
        match fault {
            Fault::End { target, gently } => {
                let pid = self.find(*target).await?;
                let signal = if *gently { Signal::SIGTERM } else { Signal::SIGKILL };
                kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to {pid}"))?;
                Ok((format!("{signal} to {target:?}, pid {pid}"), 0))
            }
            Fault::Freeze { target, lasting } => self.freeze(*target, *lasting).await,
            Fault::CrashBackend => self.crash_backend().await,
            Fault::CutConnections { sessions } => self.cut(*sessions).await,
            Fault::Aws { service, how, lasting } => {
                let mut ids = vec![];
                for rule in proxy::rules(*service, *how) {
                    ids.push(self.proxy.add(&rule).await?);
                }
                tokio::time::sleep(*lasting).await;
                let mut requests = 0;
                for id in ids {
                    requests += self.proxy.remove(id).await?;
                }
                Ok((format!("{how:?} of {service:?} for {:.1} s", lasting.as_secs_f64()), requests))
            }
            Fault::Clock { target, seconds } => {
                let pid = self.find(*target).await?;
                self.set_clock(pid, *seconds)?;
                Ok((format!("clock of {target:?}, pid {pid}, moved by {seconds} s"), 0))
            }
        }
    }

    async fn freeze(&self, target: Target, lasting: Duration) -> anyhow::Result<(String, u64)> {
        let pid = self.find(target).await?;
        // Postgres' sessions are processes in groups of their own.
        let pids: Vec<i32> = std::iter::once(pid).chain(children(pid)).collect();
        self.frozen().extend(&pids);
        for pid in &pids {
            signal_all(*pid, Signal::SIGSTOP);
        }
        tokio::time::sleep(lasting).await;
        for pid in pids.iter().rev() {
            signal_all(*pid, Signal::SIGCONT);
            self.frozen().remove(pid);
        }
        Ok((format!("SIGSTOP of {target:?}, pid {pid}, for {:.1} s", lasting.as_secs_f64()), 0))
    }

    async fn superuser(&self) -> anyhow::Result<PgConnection> {
        let connect = PgConnection::connect(self.world.url("POSTGRES_ADMIN_URL"));
        tokio::time::timeout(FIND, connect).await.context("reach Postgres in time")?.context("reach Postgres")
    }

    async fn crash_backend(&self) -> anyhow::Result<(String, u64)> {
        let mut admin = self.superuser().await?;
        let pid: Option<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename LIKE 'dagwright%'
             ORDER BY state = 'active' DESC, state = 'idle in transaction' DESC, query_start DESC LIMIT 1",
        )
        .fetch_optional(&mut admin)
        .await
        .context("choose a session")?;
        let pid = pid.context("nobody is connected")?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)
            .with_context(|| format!("send SIGKILL to session {pid}"))?;
        Ok((format!("SIGKILL to session {pid}"), 0))
    }

    async fn cut(&self, sessions: u32) -> anyhow::Result<(String, u64)> {
        let mut admin = self.superuser().await?;
        // The order is the point: a transaction that is under way is worth more than an idle session.
        let cut: Vec<Option<String>> = sqlx::query_scalar(
            "SELECT state FROM (SELECT pid, state FROM pg_stat_activity
                 WHERE backend_type = 'client backend' AND usename LIKE 'dagwright%' AND usename <> 'dagwright_migrate'
                 ORDER BY state = 'idle in transaction' DESC, state = 'active' DESC, query_start DESC LIMIT $1) chosen
             WHERE pg_terminate_backend(pid)",
        )
        .bind(i64::from(sessions))
        .fetch_all(&mut admin)
        .await
        .context("terminate sessions")?;
        let states: Vec<String> = cut.into_iter().map(Option::unwrap_or_default).collect();
        Ok((format!("{} sessions ended: {}", states.len(), states.join(", ")), 0))
    }

    /// The pid of a target that lives.
    async fn find(&self, target: Target) -> anyhow::Result<i32> {
        let found = until_ok(FIND, || async {
            let pid = self.pid(target);
            pid.filter(|pid| alive(*pid)).ok_or_else(|| format!("{target:?} does not run"))
        });
        found.await.map_err(anyhow::Error::msg)
    }

    fn pid(&self, target: Target) -> Option<i32> {
        let name = match target {
            Target::Worker(n) => {
                let workers = workers_of(self.world, &self.namespace);
                return workers.get(usize::from(n) % workers.len().max(1)).copied();
            }
            Target::Dispatcher(n) => format!("dispatcher-{n}"),
            Target::Controller(n) => format!("controller-{n}"),
            Target::Postgres => "postgres".into(),
            Target::Etcd => "etcd".into(),
            Target::Apiserver => "kube-apiserver".into(),
            Target::Aws => "ministack".into(),
            Target::Gateway => "rpc".into(),
            Target::Node => "anvil".into(),
            Target::Query => "query".into(),
        };
        let processes = Status::load(&self.world.dir())?.processes;
        i32::try_from(processes.into_iter().find(|process| process.name == name)?.pid?).ok()
    }

    fn set_clock(&self, pid: i32, seconds: i64) -> anyhow::Result<()> {
        let path = clocks(self.world).join(pid.to_string());
        // Never created here: a process that does not listen to the file has no clock to set.
        let opened = fs::OpenOptions::new().write(true).open(&path);
        let mut file = opened.with_context(|| format!("open {}", path.display()))?;
        file.write_all(&seconds.to_ne_bytes()).context("set the clock")
    }

    /// Takes back everything that outlives its fault.
    ///
    /// # Errors
    /// When the proxy does not answer.
    pub async fn heal(&self) -> anyhow::Result<()> {
        for pid in std::mem::take(&mut *self.frozen()) {
            signal_all(pid, Signal::SIGCONT);
        }
        for entry in fs::read_dir(clocks(self.world)).into_iter().flatten().flatten() {
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                self.set_clock(pid, 0)?;
            }
        }
        self.proxy.clear().await
    }

    fn frozen(&self) -> std::sync::MutexGuard<'_, BTreeSet<i32>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Injector<'_> {
    /// A run that is cut short leaves nothing frozen.
    fn drop(&mut self) {
        for pid in std::mem::take(&mut *self.frozen()) {
            signal_all(pid, Signal::SIGCONT);
        }
    }
}

/// Where the preloaded clock looks for its offset.
#[must_use]
pub fn clocks(world: &World) -> PathBuf {
    world.dir().join("clocks")
}

/// Waits until every process of the stack runs and answers.
///
/// # Errors
/// Which do not.
pub async fn all_healthy(world: &World, limit: Duration) -> anyhow::Result<()> {
    let dir = world.dir();
    let look = || async {
        let status = Status::load(&dir).ok_or("the stack has no status")?;
        let probes = status.processes.iter().map(|process| async {
            let well = process.pid.is_some() && process.probe.passes().await;
            (!well).then(|| process.name.clone())
        });
        let unwell: Vec<String> = futures::future::join_all(probes).await.into_iter().flatten().collect();
        if unwell.is_empty() { Ok(()) } else { Err(format!("{} to answer", unwell.join(", "))) }
    };
    if let Err(missing) = until_ok(limit, look).await {
        bail!("the stack did not recover: {missing}");
    }
    Ok(())
}

fn alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

/// To the process and the rest of its group, where it leads one. Gone is as good as hit.
fn signal_all(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid);
    if killpg(pid, signal).is_err() {
        let _ = kill(pid, signal);
    }
}

fn children(parent: i32) -> Vec<i32> {
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    listed.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
