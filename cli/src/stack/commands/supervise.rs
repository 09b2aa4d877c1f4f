//! The supervisor process: started by `up`, ended by SIGTERM.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::fargate::record;
use crate::paths;
use crate::stack::{Extent, Settings, Stack};

/// The record by which other commands find the supervisor.
pub(super) const RECORD: &str = "supervisor";

/// Kubernetes' client logs an error for every question to an API server that is still starting.
const LOGGED: &str = "info,kube_client=off,sqlx=warn";

/// Which stack to supervise.
#[derive(Args, Clone, Debug)]
pub struct SuperviseArgs {
    /// Folder of the stack, prepared by `up`.
    dir: PathBuf,
}

/// Runs a stack until it is told to stop.
pub async fn run(args: SuperviseArgs) -> anyhow::Result<ExitCode> {
    let filter = tracing_subscriber::EnvFilter::new(LOGGED);
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    // A session of its own: closing the terminal must not stop a detached stack. It fails only for a group leader,
    // which has what it needs already.
    let _ = nix::unistd::setsid();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    record::write(&args.dir, RECORD, std::process::id()).context("write the supervisor's pid record")?;
    let settings = Settings::load(&args.dir)?;
    let start = Stack::start(settings, paths::cache_dir()?, Extent::Whole);
    // A stack that is told to stop while it starts still has to end what it started: the start runs to its end.
    let stack = start.await;
    if let Ok(stack) = stack {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stack.stop().await;
        record::remove(&args.dir, RECORD);
        return Ok(ExitCode::SUCCESS);
    }
    record::remove(&args.dir, RECORD);
    stack.map(|_| ExitCode::FAILURE)
}
