//! Benchmarks: `./dev bench NAME`. See docs/benchmarks.md.

mod b1;
mod b2;
mod b3;
mod b4;
mod b5;
mod benchmarks;
mod install;
mod load;
mod machine;
mod noop;
mod options;
mod postgres;
mod process;
mod product;
mod report;
mod rig;
mod seed;
mod sqs;
mod stats;
mod usage;

use anyhow::Context as _;
use clap::Parser as _;
use tokio_util::sync::CancellationToken;

use crate::{
    options::{Cli, Format, Hidden, Options},
    report::Report,
    rig::Rig,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(Hidden::Worker(args)) = cli.worker {
        return noop::worker(&args).await;
    }
    let stop: CancellationToken = dagwright_telemetry::shutdown::token()?;
    tokio::select! {
        result = bench(cli.options) => result,
        // Everything that was started ends with its handle.
        () = stop.cancelled() => anyhow::bail!("interrupted"),
    }
}

async fn bench(options: Options) -> anyhow::Result<()> {
    let selected = benchmarks::select(&options.names)?;
    let format = options.format;
    let rig = Rig::start(options).await?;
    let mut results = Vec::new();
    for benchmark in selected {
        eprintln!("{}: {}", benchmark.name, benchmark.about);
        results.extend((benchmark.run)(&rig).await.with_context(|| benchmark.name)?);
    }
    let report = Report { machine: rig.machine.clone(), results };
    match format {
        Format::Json => println!("{}", report.json()?),
        Format::Text => print!("{}", report.text()),
    }
    Ok(())
}
