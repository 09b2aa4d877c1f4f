//! `dagwright-worker`: runs in ECS, one process per task of a WorkerPool's service.

use clap::Parser as _;
use dagwright_telemetry::{Health, admin, shutdown};
use dagwright_worker::{args::Args, operators::Registry, worker};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let telemetry = dagwright_telemetry::init(&args.common, "dagwright-worker")?;
    let (health, stop) = (Health::new(), shutdown::token()?);
    admin::spawn(args.common.admin_listen, &telemetry, health.clone(), stop.clone()).await?;
    worker::run(&args, Registry::default(), &health, stop).await
}
