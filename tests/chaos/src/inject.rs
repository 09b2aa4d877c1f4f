//! Doing to real processes what the schedule says.

use std::{fs, io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use dagwright_cli::stack::Status;
use dagwright_e2e::{
    World,
    processes::{environment_of, workers_of},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    patience::until_ok,
    processes::{Frozen, Life, alive, family, signal_all},
    proxy::{self, Proxy},
    schedule::{AwsFault, Event, Fault, Service, Target},
    workload::ON_DEMAND,
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
    /// It was seen to have an effect: requests were struck, sessions ended, a process stood still for the whole time.
    pub done: bool,
    /// Requests that a rule of the proxy struck.
    pub requests: u64,
}

impl Injected {
    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        let vain = if self.done { "" } else { " (in vain)" };
        format!("  {:>5.1} s  {}: {}{vain}", self.event.at.as_secs_f64(), self.kind, self.detail)
    }
}

/// Hits one stack.
pub struct Injector<'a> {
    pub world: &'a World,
    pub proxy: Proxy,
    /// Whose workers are hit.
    pub namespace: String,
    frozen: Frozen,
}

/// What came of a fault.
struct Struck {
    detail: String,
    done: bool,
    requests: u64,
}

impl Struck {
    fn new(detail: String, done: bool) -> Self {
        Self { detail, done, requests: 0 }
    }
}

/// How long a target may be missing because another fault has just ended it.
const FIND: Duration = Duration::from_secs(10);

impl<'a> Injector<'a> {
    #[must_use]
    pub fn new(world: &'a World, proxy: Proxy, namespace: &str) -> Self {
        Self { world, proxy, namespace: namespace.to_owned(), frozen: Frozen::default() }
    }

    /// Waits for the event's time, and returns once what it started is over.
    pub async fn inject(&self, event: Event) -> Injected {
        tokio::time::sleep(event.at).await;
        let kind = event.fault.kind();
        let Struck { detail, done, requests } =
            self.strike(&event.fault).await.unwrap_or_else(|error| Struck::new(format!("{error:#}"), false));
        Injected { event, kind, detail, done, requests }
    }

    async fn strike(&self, fault: &Fault) -> anyhow::Result<Struck> {
        match fault {
            Fault::End { target, gently } => {
                let pid = self.find(*target).await?;
                let signal = if *gently { Signal::SIGTERM } else { Signal::SIGKILL };
                // All of Postgres at once, as a machine that fails: sessions alone would still end in order.
                let sessions = if *target == Target::Postgres { family(pid) } else { vec![] };
                kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to {pid}"))?;
                for session in sessions.into_iter().filter(|session| *session != pid) {
                    signal_all(session, signal);
                }
                Ok(Struck::new(format!("{signal} to {target:?}, pid {pid}"), true))
            }
            Fault::Freeze { target: Target::Worker(nth), lasting } if fault.is_past_lease() => {
                self.freeze_past_lease(*nth, *lasting).await
            }
            Fault::Freeze { target, lasting } => {
                self.freeze(self.find(*target).await?, *target, *lasting).await
            }
            Fault::CrashBackend => self.crash_backend().await,
            Fault::CutConnections { sessions } => self.cut(*sessions).await,
            Fault::Aws { service, how, lasting } => self.fail_aws(*service, *how, *lasting).await,
            Fault::Clock { target, seconds } => {
                let pid = self.find(*target).await?;
                self.set_clock(pid, *seconds)?;
                Ok(Struck::new(format!("clock of {target:?}, pid {pid}, moved by {seconds} s"), true))
            }
        }
    }

    async fn fail_aws(&self, service: Service, how: AwsFault, lasting: Duration) -> anyhow::Result<Struck> {
        // Nothing is asked to start while all run that are wanted: a worker is lost as capacity is.
        let taken = if how == AwsFault::NoCapacity { self.on_demand_worker().await } else { None };
        let mut ids = vec![];
        for rule in proxy::rules(service, how) {
            ids.push(self.proxy.add(&rule).await?);
        }
        if let Some(pid) = taken {
            signal_all(pid, Signal::SIGKILL);
        }
        tokio::time::sleep(lasting).await;
        let mut requests = 0;
        for id in ids {
            requests += self.proxy.remove(id).await?;
        }
        let took = taken.map(|pid| format!(", worker pid {pid} taken")).unwrap_or_default();
        let detail = format!(
            "{how:?} of {service:?} for {:.1} s{took}: {requests} requests struck",
            lasting.as_secs_f64()
        );
        Ok(Struck { detail, done: requests > 0, requests })
    }

    async fn on_demand_worker(&self) -> Option<i32> {
        let mark = format!("DAGWRIGHT_POOL={ON_DEMAND}");
        let found = until_ok(FIND, || async {
            let workers = workers_of(self.world, &self.namespace);
            let pid = workers.into_iter().find(|pid| environment_of(*pid).contains(&mark));
            pid.ok_or_else(|| "no worker runs on demand".to_owned())
        });
        found.await.ok()
    }

    async fn freeze(&self, pid: i32, target: Target, lasting: Duration) -> anyhow::Result<Struck> {
        let pids = family(pid);
        let before = Life::of(pid).with_context(|| format!("{target:?}, pid {pid}, has ended"))?;
        self.frozen.hold(&pids);
        tokio::time::sleep(lasting).await;
        let stood = stood_still(pid, before);
        self.frozen.release(&pids);
        let detail = format!("SIGSTOP of {target:?}, pid {pid}, for {:.1} s", lasting.as_secs_f64());
        Ok(match stood {
            Ok(()) => Struck::new(detail, true),
            Err(why) => Struck::new(format!("{detail}, cut short: {why}"), false),
        })
    }

    /// Of a worker that holds leases; they must have expired before it goes on.
    async fn freeze_past_lease(&self, nth: u8, lasting: Duration) -> anyhow::Result<Struck> {
        let (pid, worker, held) = self.hold_leaseholder(nth).await?;
        let before = Life::of(pid);
        tokio::time::sleep(lasting).await;
        let expired = self.expired(worker, lasting + FIND).await;
        let stood =
            before.ok_or_else(|| "it was ended".to_owned()).and_then(|before| stood_still(pid, before));
        self.frozen.release(&[pid]);
        let expired = expired?;
        let detail = format!(
            "SIGSTOP of worker pid {pid} for {:.1} s: it held {held} leases, {expired} expired meanwhile",
            lasting.as_secs_f64()
        );
        Ok(match stood {
            Ok(()) => Struck::new(detail, expired > 0),
            Err(why) => Struck::new(format!("{detail}, cut short: {why}"), false),
        })
    }

    /// Stops a worker that has leases: pid, id, how many. One that turns out to have none goes on at once.
    async fn hold_leaseholder(&self, nth: u8) -> anyhow::Result<(i32, Uuid, i64)> {
        let found = until_ok(FIND * 3, || async {
            let mut workers = workers_of(self.world, &self.namespace);
            let first = usize::from(nth).checked_rem(workers.len()).unwrap_or(0);
            workers.rotate_left(first);
            for pid in workers {
                self.frozen.hold(&[pid]);
                match self.leases(pid).await {
                    Ok((worker, held)) if held > 0 => return Ok((pid, worker, held)),
                    _ => self.frozen.release(&[pid]),
                }
            }
            Err("no worker holds a lease".to_owned())
        });
        found.await.map_err(anyhow::Error::msg)
    }

    async fn leases(&self, pid: i32) -> anyhow::Result<(Uuid, i64)> {
        let base = environment_of(pid)
            .into_iter()
            .find_map(|variable| variable.strip_prefix("ECS_CONTAINER_METADATA_URI_V4=").map(str::to_owned))
            .with_context(|| format!("worker pid {pid} has no task metadata"))?;
        let task: Value = self.world.http.get(format!("{base}/task")).send().await?.json().await?;
        let held: (Uuid, i64) = sqlx::query_as(
            "SELECT w.worker_id, (SELECT count(*) FROM tasks t WHERE t.worker_id = w.worker_id AND t.state = 'Running')
             FROM workers w WHERE w.task_arn = $1",
        )
        .bind(task["TaskARN"].as_str())
        .fetch_one(&self.world.state)
        .await?;
        Ok(held)
    }

    /// How many of its attempts were ended for their lease.
    async fn expired(&self, worker: Uuid, within: Duration) -> anyhow::Result<i64> {
        let expired = sqlx::query_scalar(
            "SELECT count(*) FROM attempts
             WHERE worker_id = $1 AND state = 'Expired' AND finished_at > clock_timestamp() - make_interval(secs => $2)",
        );
        let expired = expired.bind(worker).bind(within.as_secs_f64()).fetch_one(&self.world.state);
        expired.await.context("count the leases that expired")
    }

    async fn superuser(&self) -> anyhow::Result<PgConnection> {
        let connect = PgConnection::connect(self.world.url("POSTGRES_ADMIN_URL"));
        tokio::time::timeout(FIND, connect).await.context("reach Postgres in time")?.context("reach Postgres")
    }

    async fn crash_backend(&self) -> anyhow::Result<Struck> {
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
        Ok(Struck::new(format!("SIGKILL to session {pid}"), true))
    }

    async fn cut(&self, sessions: u32) -> anyhow::Result<Struck> {
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
        Ok(Struck::new(format!("{} sessions ended: {}", states.len(), states.join(", ")), !states.is_empty()))
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
        self.frozen.release_all();
        for entry in fs::read_dir(clocks(self.world)).into_iter().flatten().flatten() {
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                self.set_clock(pid, 0)?;
            }
        }
        self.proxy.clear().await
    }
}

impl Drop for Injector<'_> {
    /// A run that is cut short leaves nothing frozen.
    fn drop(&mut self) {
        self.frozen.release_all();
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

fn stood_still(pid: i32, before: Life) -> Result<(), String> {
    match Life::of(pid) {
        Some(now) if now.began == before.began && now.stopped => Ok(()),
        Some(now) if now.began == before.began => Err("it was woken".to_owned()),
        _ => Err("it was ended".to_owned()),
    }
}
