//! `dagwright-rpc`: the RPC gateway.

use clap::Parser as _;
use dagwright_egress::gateway::{Args, Gateway};
use dagwright_telemetry::{Health, admin, shutdown};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let telemetry = dagwright_telemetry::init(&args.common, "dagwright-rpc")?;
    let (health, stop) = (Health::new(), shutdown::token()?);
    let gateway = Gateway::start(&args, &health, stop.clone()).await?;
    admin::spawn(args.common.admin_listen, &telemetry, health, stop.clone()).await?;
    gateway.stopped(&stop).await
}
