//! Two libraries that run durable work on Postgres, each with a job that does nothing: what benchmark B5 compares with.
//!
//! A process of its own, so that its CPU time is the library's. It works until it is killed, and prints `NANOSECONDS COUNT`
//! every 50 ms: the time since 1970 and how many jobs are done.

#[cfg(feature = "libraries")]
mod dbos;
#[cfg(feature = "libraries")]
mod graphile_worker;

use clap::{Parser, ValueEnum};

#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// What to run.
    way: Way,
    /// An empty database.
    #[arg(long, env = "BESIDE_DATABASE_URL", hide_env_values = true)]
    database_url: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// Workflows of dbos, started in the process that runs them.
    DbosDirect,
    /// Workflows of dbos, enqueued in the database.
    DbosQueue,
    /// Jobs of graphile_worker.
    GraphileWorker,
}

#[cfg(not(feature = "libraries"))]
fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    anyhow::bail!(
        "{:?} on {} characters of URL: built without the libraries; `./dev bench B5` builds it with them",
        args.way,
        args.database_url.len()
    )
}

#[cfg(feature = "libraries")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let done = count::Counter::default();
    let work = async {
        match args.way {
            Way::DbosDirect => dbos::direct(&args.database_url, &done).await,
            Way::DbosQueue => dbos::queued(&args.database_url, &done).await,
            Way::GraphileWorker => graphile_worker::run(&args.database_url, &done).await,
        }
    };
    tokio::select! {
        ended = work => ended,
        told = count::tell(&done) => told,
    }
}

#[cfg(feature = "libraries")]
mod count {
    use std::{
        io::Write as _,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use anyhow::Context as _;

    /// How many jobs are done.
    pub(crate) type Counter = Arc<AtomicU64>;

    pub(crate) async fn tell(done: &Counter) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let mut out = std::io::stdout().lock();
            writeln!(out, "{} {}", now.as_nanos(), done.load(Ordering::Relaxed)).context("tell the count")?;
            out.flush().context("tell the count")?;
        }
    }
}
