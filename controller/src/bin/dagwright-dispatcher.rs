//! Thin main of the dispatcher.

use clap::Parser;
use dagwright_controller::dispatch::{Args, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let telemetry = dagwright_telemetry::init(&args.common, "dagwright-dispatcher")?;
    let stop = dagwright_telemetry::shutdown::token()?;
    run(args, telemetry, stop).await
}
