//! Checks and generators of the repository: `cargo xtask <command>`.

mod crds;
mod layering;

use clap::{Parser, Subcommand};

/// Checks and generators of the repository.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the CustomResourceDefinitions to crds/yaml/ and the reference of condition reasons to docs/.
    Crds {
        /// Write nothing; fail when a file is stale.
        #[arg(long)]
        check: bool,
    },
    /// Checks that dependencies point inward and that every crate takes the workspace's lints.
    Layering,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Crds { check } => crds::run(check),
        Command::Layering => layering::run(),
    }
}

/// The root of the checkout.
fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one level below the root")
}
