//! Checks and generators of the repository: `cargo xtask <command>`.

mod crds;
mod layering;

use std::path::{Path, PathBuf};

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

/// The root of the checkout that cargo runs this for: a build cache may be shared by several, and hold the binary of another.
fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().expect("xtask lies one level below the root").to_owned()
}
