//! The `dagwright` command.

use std::process::ExitCode;

use clap::Parser;
use dagwright_cli::args::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(Cli::parse().run()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            // 1 is a verdict of some commands (`evm verify`, `ps`); 2 says that there is none.
            ExitCode::from(2)
        }
    }
}
