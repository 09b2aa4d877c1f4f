//! `dagwright down`: ask the supervisor, wait, and make sure.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::StackArgs;
use super::supervise::RECORD;
use crate::fargate::record;
use crate::stack::{Settings, sweep};

const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);

/// Flags of `dagwright down`.
#[derive(Args, Clone, Debug)]
pub struct DownArgs {
    #[command(flatten)]
    stack: StackArgs,

    /// Delete the stack's data too: the next start is a first one.
    #[arg(long)]
    purge: bool,
}

/// Stops a stack; its data stays unless it is to be purged.
pub async fn run(args: DownArgs) -> anyhow::Result<ExitCode> {
    let name = &args.stack.stack;
    let dir = args.stack.dir()?;
    let Ok(settings) = Settings::load(&dir) else {
        eprintln!("stack \"{name}\" was never started");
        return Ok(ExitCode::SUCCESS);
    };
    stop(&settings).await?;
    if args.purge {
        std::fs::remove_dir_all(&dir).with_context(|| format!("delete {}", dir.display()))?;
        eprintln!("stack \"{name}\" is down and its data deleted");
    } else {
        eprintln!("stack \"{name}\" is down; its data stays in {}", dir.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops a stack and asserts that nothing of it is left.
pub(super) async fn stop(settings: &Settings) -> anyhow::Result<()> {
    if let Some(supervisor) = record::alive(&settings.dir, RECORD) {
        let pid = Pid::from_raw(i32::try_from(supervisor).context("read the supervisor's pid")?);
        kill(pid, Signal::SIGTERM).with_context(|| format!("signal the supervisor {supervisor}"))?;
        let mut tick = tokio::time::interval(POLL);
        let gone = async {
            while record::alive(&settings.dir, RECORD).is_some() {
                tick.tick().await;
            }
        };
        if tokio::time::timeout(PATIENCE, gone).await.is_err() {
            let _ = kill(pid, Signal::SIGKILL);
            sweep::leftovers(settings)?;
            bail!("the supervisor {supervisor} did not stop in {} s and was killed", PATIENCE.as_secs());
        }
    }
    sweep::leftovers(settings)?;
    let mut tick = tokio::time::interval(POLL);
    // A killed process stays in the list until its parent has looked.
    for _ in 0..40 {
        if sweep::assert_clean(settings).is_ok() {
            break;
        }
        tick.tick().await;
    }
    sweep::assert_clean(settings)
}
