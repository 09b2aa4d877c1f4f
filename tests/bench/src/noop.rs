//! The worker of benchmarks: the product's own, with an operator that does nothing.

use std::{
    net::UdpSocket,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use async_trait::async_trait;
use dagwright_contracts::tasks::{CommittedPartition, Output, Work};
use dagwright_telemetry::{Health, admin, shutdown};
use dagwright_worker::{
    args::Args,
    operators::{Operator, OperatorError, Registry, TaskContext},
};

/// Its id.
pub(crate) const OPERATOR: &str = "noop";
/// In a job's config: the UDP address that hears of each start, as `HEIGHT NANOSECONDS` since 1970.
pub(crate) const STARTS_TO: &str = "startsTo";

/// Writes nothing, and commits as though it had: hashes of neighbours link, so that every check of a commit passes.
struct Noop {
    starts: UdpSocket,
}

#[async_trait]
impl Operator for Noop {
    fn id(&self) -> &'static str {
        OPERATOR
    }

    fn semantics(&self) -> RangeInclusive<u32> {
        1..=1
    }

    async fn run(&self, task: &TaskContext) -> Result<Vec<CommittedPartition>, OperatorError> {
        if let Some(address) = task.work.config.get(STARTS_TO).and_then(serde_json::Value::as_str) {
            let start = format!("{} {}", task.work.range.start(), since_1970().as_nanos());
            // A start that nobody hears of fails the benchmark at its other end.
            let _ = self.starts.send_to(start.as_bytes(), address);
        }
        Ok(partitions(&task.work))
    }
}

/// What a task of nothing commits.
pub(crate) fn partitions(work: &Work) -> Vec<CommittedPartition> {
    let hash = |height: u64| format!("0x{height:064x}");
    let (start, end) = (work.range.start(), work.range.end());
    let partition = |output: &Output| CommittedPartition {
        output: output.name.clone(),
        content_hash: hash(start),
        first_parent_hash: hash(start),
        last_hash: hash(end),
        rows: work.range.len(),
        verification: "verified".into(),
        objects: vec![],
    };
    work.outputs.iter().map(partition).collect()
}

/// This machine's clock, which all processes of a benchmark share.
#[expect(clippy::disallowed_methods, reason = "what is measured is the time between processes")]
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The worker's main.
pub(crate) async fn worker(args: &Args) -> anyhow::Result<()> {
    let telemetry = dagwright_telemetry::init(&args.common, "dagwright-worker")?;
    let (health, stop) = (Health::new(), shutdown::token()?);
    admin::spawn(args.common.admin_listen, &telemetry, health.clone(), stop.clone()).await?;
    let starts = UdpSocket::bind(("127.0.0.1", 0)).context("open a socket to tell of starts")?;
    let registry = Registry::new(vec![Arc::new(Noop { starts })]);
    dagwright_worker::worker::run(args, registry, &health, stop).await
}
