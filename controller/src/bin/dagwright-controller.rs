//! `dagwright-controller`: see [`dagwright_controller::run`].

use clap::Parser;
use dagwright_controller::{run, settings::Settings};
use dagwright_telemetry::{Health, admin, shutdown};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let telemetry = dagwright_telemetry::init(&settings.common, "dagwright-controller")?;
    let (health, stop) = (Health::new(), shutdown::token()?);
    admin::spawn(settings.common.admin_listen, &telemetry, health.clone(), stop.child_token()).await?;
    run::run(settings, health, stop).await
}
