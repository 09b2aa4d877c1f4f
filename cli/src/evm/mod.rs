//! Chain tools: verify blocks with the code that ingests them, record a provider's answers, replay them as a provider.

mod client;
mod record;
mod recording;
mod serve;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

pub use recording::{Recording, RecordingError};
pub use serve::{ServeArgs, router, serve};

/// The commands of `dagwright evm`.
#[derive(Debug, Subcommand)]
pub enum EvmCommand {
    /// Check blocks against their own hashes, roots and signatures.
    ///
    /// Prints one line per block and check. Exit status: 0 everything verified, 1 something failed, 3 nothing failed but
    /// something cannot be verified, 2 could not run.
    Verify(verify::VerifyArgs),
    /// Record a provider's answers about a range of blocks, to replay them with `serve`.
    Record(record::RecordArgs),
    /// Replay recorded answers as a JSON-RPC provider over HTTP.
    Serve(ServeArgs),
}

/// Exit status of a command that could not do its work, apart from any verdict.
const COULD_NOT_RUN: u8 = 2;

impl EvmCommand {
    /// Runs the command. Errors are printed here, because their exit status must differ from "something failed".
    ///
    /// # Errors
    /// None: the signature is that of all commands.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let result = match self {
            Self::Verify(args) => verify::run(args).await,
            Self::Record(args) => record::run(args).await,
            Self::Serve(args) => serve::run(args).await,
        };
        Ok(result.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::from(COULD_NOT_RUN)
        }))
    }
}

/// A half-open range of heights, written `A:B`.
fn parse_range(text: &str) -> Result<dagwright_core::range::BlockRange, String> {
    let (start, end) =
        text.split_once(':').ok_or("expected A:B, first height and the height behind the last")?;
    let height = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?} is no height: {error}"));
    dagwright_core::range::BlockRange::try_new(height(start)?, height(end)?)
        .map_err(|error| error.to_string())
}
