//! What the machine and the parts can do by themselves: the limits beside which a result is read.

use std::{
    fs::{File, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;

use crate::{options::Options, postgres, rig::Parts, sqs::Queue, stats};

/// The machine and the limits of its parts.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    pub(crate) postgres: String,
    /// What differs from Postgres' defaults.
    pub(crate) postgres_settings: Vec<String>,
    /// `pgbench -N` on the same cluster.
    pub(crate) pgbench_tps: f64,
    /// Writing 8 KiB and `fdatasync`, beside the cluster's data: half of them take less.
    pub(crate) fsync_p50_ms: f64,
    pub(crate) fsync_p99_ms: f64,
    /// Which SQS endpoint was used.
    pub(crate) sqs_endpoint: String,
    /// Send, receive and delete by a bare client, in batches of 10, 8 at once.
    pub(crate) sqs_messages_per_second: f64,
    /// Work of others on this machine while the limits were measured: the load of one minute before.
    pub(crate) load_average: f64,
}

impl Machine {
    /// Measures; takes some 30 s.
    pub(crate) async fn measure(parts: &Parts, options: &Options) -> anyhow::Result<Self> {
        let load_average = read("/proc/loadavg").split(' ').next().and_then(|n| n.parse().ok());
        let (fsync_p50_ms, fsync_p99_ms) = fsync(&parts.dir)?;
        let queue = Queue::create(&parts.sqs.client(), "limit").await?;
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: field("/proc/meminfo", "MemTotal")
                .and_then(|v| v.trim_end_matches(" kB").parse::<u64>().ok())
                .unwrap_or_default()
                * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            postgres: parts.postgres.version().await?,
            postgres_settings: postgres::SETTINGS.iter().map(|s| (*s).to_owned()).collect(),
            pgbench_tps: parts.postgres.pgbench(options.limit_seconds).await?,
            fsync_p50_ms,
            fsync_p99_ms,
            sqs_endpoint: parts.sqs.name(),
            sqs_messages_per_second: queue.rate(Duration::from_secs(options.limit_seconds)).await?,
            load_average: load_average.unwrap_or_default(),
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let memory = self.memory_bytes >> 20;
        format!(
            "machine   {} cores, {}, {memory} MiB, Linux {}, load {:.1}\n\
             postgres  {}; {}\n\
             limits    pgbench -N {:.0} tps; fdatasync p50 {:.2} ms, p99 {:.2} ms; {} {:.0} messages/s (send, receive, delete)\n",
            self.cores,
            self.cpu,
            self.kernel,
            self.load_average,
            self.postgres,
            self.postgres_settings.join(", "),
            self.pgbench_tps,
            self.fsync_p50_ms,
            self.fsync_p99_ms,
            self.sqs_endpoint,
            self.sqs_messages_per_second,
        )
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// p50 and p99 of a page's write to stable storage, in milliseconds.
fn fsync(dir: &Path) -> anyhow::Result<(f64, f64)> {
    let path = dir.join("fsync");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
    let file = file.as_mut().map_err(|e| anyhow::anyhow!("open {}: {e}", path.display()))?;
    let mut samples = Vec::new();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end && samples.len() < 2_000 {
        samples.push(one_write(file).with_context(|| format!("write {}", path.display()))?);
    }
    std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    let of = |share| stats::percentile(&samples, share).unwrap_or_default();
    Ok((of(0.5), of(0.99)))
}

fn one_write(file: &mut File) -> std::io::Result<f64> {
    let began = Instant::now();
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&[0x5a; 8192])?;
    file.sync_data()?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
