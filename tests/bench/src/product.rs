//! The product's processes: one dispatcher and, unless the benchmark is the worker itself, one worker.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::signal::Signal;

use crate::{
    process::{Process, Spec, free_port},
    rig::Rig,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Running processes.
#[derive(Debug)]
pub(crate) struct Product {
    /// Base URL of the task API.
    pub(crate) url: String,
    dispatcher: Process,
    worker: Option<Process>,
    metrics: String,
    http: reqwest::Client,
}

impl Product {
    /// Starts a dispatcher on the database `state`.
    pub(crate) async fn start(rig: &Rig) -> anyhow::Result<Self> {
        let (port, admin) = (free_port()?, free_port()?);
        let mut env = vec![
            ("DAGWRIGHT_LISTEN", format!("127.0.0.1:{port}")),
            ("DAGWRIGHT_ADMIN_LISTEN", format!("127.0.0.1:{admin}")),
            ("DAGWRIGHT_STATE_DATABASE_URL", rig.parts.postgres.url("dagwright_dispatcher", "state")),
            ("DAGWRIGHT_DATA_BUCKET", "dagwright-bench".into()),
            ("DAGWRIGHT_DATA_ROLE_ARN", "arn:aws:iam::000000000000:role/none".into()),
            // Nobody answers: no task of a benchmark reads a chain.
            ("DAGWRIGHT_RPC_URL", "http://127.0.0.1:9".into()),
            ("DAGWRIGHT_GATEWAY_TOKEN", "bench-gateway".into()),
            ("DAGWRIGHT_ECS_CLUSTER", "bench".into()),
        ];
        env.extend(rig.parts.sqs.env());
        let program = rig.binary("dagwright-dispatcher");
        let spec = Spec { name: "dispatcher", program: &program, args: vec![], env, user: None };
        let product = Self {
            url: format!("http://127.0.0.1:{port}"),
            dispatcher: Process::start(spec, &rig.parts.dir)?,
            worker: None,
            metrics: format!("http://127.0.0.1:{admin}/metrics"),
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?,
        };
        product.ready(format!("http://127.0.0.1:{admin}/readyz")).await
    }

    async fn ready(mut self, url: String) -> anyhow::Result<Self> {
        let end = Instant::now() + PATIENCE;
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while !self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            self.check()?;
            anyhow::ensure!(
                Instant::now() < end,
                "the dispatcher is not ready; its log says:\n{}",
                self.dispatcher.tail()
            );
            tick.tick().await;
        }
        Ok(self)
    }

    /// Starts the one worker.
    pub(crate) fn start_worker(
        &mut self,
        rig: &Rig,
        token: &str,
        queue_url: &str,
        slots: u32,
    ) -> anyhow::Result<()> {
        let mut env = vec![
            ("DAGWRIGHT_ADMIN_LISTEN", "127.0.0.1:0".into()),
            ("DAGWRIGHT_DISPATCHER_URL", self.url.clone()),
            ("DAGWRIGHT_RPC_URL", "http://127.0.0.1:9".into()),
            ("DAGWRIGHT_QUEUE_URL", queue_url.to_owned()),
            ("DAGWRIGHT_POOL_TOKEN", token.to_owned()),
            ("DAGWRIGHT_SLOTS", slots.to_string()),
        ];
        env.extend(rig.parts.sqs.env());
        let program: &Path = dagwright_cli::paths::program()?;
        let spec = Spec { name: "worker", program, args: vec!["worker".into()], env, user: None };
        self.worker = Some(Process::start(spec, &rig.parts.dir)?);
        Ok(())
    }

    /// Everything that a task costs CPU in, by name and pid.
    pub(crate) fn processes(&self, rig: &Rig) -> Vec<(&'static str, u32)> {
        let parts = [("postgres", rig.parts.postgres.pid()), ("sqs", rig.parts.sqs.pid())];
        let ours = [("dispatcher", self.dispatcher.pid), ("feeder", std::process::id())];
        let worker = self.worker.as_ref().map(|w| ("worker", w.pid));
        parts.into_iter().chain(ours).chain(worker).collect()
    }

    /// Fails when a process has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.dispatcher.check()?;
        self.worker.as_mut().map_or(Ok(()), Process::check)
    }

    /// The dispatcher's counters by name, each summed over its labels.
    pub(crate) async fn counters<const N: usize>(&self, names: [&str; N]) -> anyhow::Result<[f64; N]> {
        let text = self.http.get(&self.metrics).send().await.context("ask the dispatcher for its metrics")?;
        let text = text.text().await.context("read the dispatcher's metrics")?;
        Ok(names.map(|name| counter(&text, name)))
    }

    /// Ends both in order.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        if let Some(worker) = self.worker {
            worker.stop(Signal::SIGTERM, PATIENCE).await?;
        }
        self.dispatcher.stop(Signal::SIGTERM, PATIENCE).await.map(drop)
    }
}

fn counter(text: &str, name: &str) -> f64 {
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    };
    text.lines().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::counter;

    #[test]
    fn a_counter_is_summed_over_its_labels_and_not_confused_with_a_longer_name() {
        let text = "# TYPE done counter\ndone{kind=\"a b\"} 3\ndone{kind=\"c\"} 4\ndone_too 100\n";
        assert!((counter(text, "done") - 7.0).abs() < 1e-9);
        assert!(counter(text, "missing").abs() < 1e-9);
    }
}
