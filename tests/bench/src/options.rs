//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures Dagwright on this machine: its own Postgres, its own SQS endpoint, the release binaries.
#[derive(Debug, Parser)]
#[command(name = "bench", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) worker: Option<Hidden>,

    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Hidden {
    /// The worker that benchmarks start: the product's, with the operator that does nothing.
    #[command(hide = true)]
    Worker(Box<dagwright_worker::args::Args>),
}

/// What is measured, and how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Benchmarks to run, or `all`.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// How the result is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,

    /// Runs, whose median is the result.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,

    /// How long one run of a rate is measured.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,

    /// How long a rate settles before it is measured.
    #[arg(long, default_value_t = 5)]
    pub(crate) warmup_seconds: u64,

    /// How long each limit of the machine is measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit_seconds: u64,

    /// Slots of the one worker process.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) slots: u32,

    /// Streams that the tasks belong to.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) streams: u32,

    /// Queued tasks that the feeder keeps ahead of the worker.
    #[arg(long, default_value_t = 4_000)]
    pub(crate) backlog: u64,

    /// B2: tasks of the chain.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) chain: u64,

    /// B3: finished tasks that are there before.
    #[arg(long, default_value_t = 10_000_000)]
    pub(crate) finished: u64,

    /// B3: queued tasks that are there before.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) queued: u64,

    /// B3: how long an idle transaction holds xmin back, while the rate is measured.
    #[arg(long, default_value_t = 600)]
    pub(crate) hold_seconds: u64,

    /// B4: ChainSyncs, and as many Datasets.
    #[arg(long, default_value_t = 2_500, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) objects: u64,

    /// Also print Postgres' dearest statements of each run to standard error (needs `pg_stat_statements`, and costs some).
    #[arg(long)]
    pub(crate) statements: bool,

    /// Keep the folder with the cluster and the logs, and say where it is.
    #[arg(long)]
    pub(crate) keep: bool,

    /// Folder of the binaries. Left out, the one that this program lies in.
    #[arg(long, value_name = "DIR")]
    pub(crate) binaries: Option<PathBuf>,
}

/// Shape of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table.
    Text,
    /// One JSON document.
    Json,
}
