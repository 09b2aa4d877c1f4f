//! The command line.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::evm::EvmCommand;
use crate::parts::{self, Cache, Progress};
use crate::paths;
use crate::sql::{self, SqlArgs};
use crate::stack::commands::{self, DownArgs, EnvArgs, LogsArgs, PsArgs, SuperviseArgs, UpArgs};

/// Dagwright: chain-data pipelines declared as Kubernetes resources.
///
/// Runs the whole system on this machine, asks its query service, and checks chain data.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the whole system on loopback, apply the examples and show their progress.
    Up(UpArgs),
    /// Stop everything that `up` started; the data stays, unless --purge is given.
    Down(DownArgs),
    /// List the processes of the stack with pid, address and health.
    Ps(PsArgs),
    /// Print the variables that a shell needs: eval "$(dagwright env)".
    Env(EnvArgs),
    /// Print the log of a process.
    Logs(LogsArgs),
    /// Run a SELECT over the committed datasets.
    Sql(SqlArgs),
    /// Verify, record and replay EVM chain data.
    #[command(subcommand)]
    Evm(EvmCommand),
    /// Install what the stack is made of, and print where it is.
    Parts(PartsArgs),
    /// Own the processes of a stack.
    #[command(hide = true)]
    Supervise(SuperviseArgs),
}

#[derive(Args, Debug)]
struct PartsArgs {}

impl Cli {
    /// Runs the command.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Up(args) => commands::up(args).await,
            Command::Down(args) => commands::down(args).await,
            Command::Ps(args) => commands::ps(args).await,
            Command::Env(args) => commands::env(&args),
            Command::Logs(args) => commands::logs(args).await,
            Command::Sql(args) => sql::run(args).await,
            Command::Evm(command) => command.run().await,
            Command::Parts(PartsArgs {}) => print_parts(),
            Command::Supervise(args) => Box::pin(commands::supervise(args)).await,
        }
    }
}

fn print_parts() -> anyhow::Result<ExitCode> {
    let cache = Cache::open(paths::cache_dir()?)?;
    let parts = parts::install(&cache, &Progress::to_stderr())?;
    println!("{}", serde_json::to_string_pretty(&parts)?);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
