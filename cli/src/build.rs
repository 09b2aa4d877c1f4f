//! Building our own binaries when the stack runs from a checkout.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::parts::Progress;
use crate::paths;

/// What a stack runs of ours.
const BINARIES: [&str; 5] =
    ["dagwright-controller", "dagwright-dispatcher", "dagwright-worker", "dagwright-query", "dagwright-rpc"];

/// Folder of our binaries: built in the checkout, or those installed beside this program.
pub fn products(workspace: Option<&Path>, duckdb: &Path, progress: &Progress) -> anyhow::Result<PathBuf> {
    let program = paths::program()?;
    let folder = program.parent().context("find this program's folder")?.to_owned();
    if let Some(workspace) = workspace {
        let line = progress.line("build", "cargo build");
        match cargo_build(workspace, duckdb, |text| line.detail(text)) {
            Ok(()) => line.done("Dagwright's binaries are built"),
            Err(error) => {
                line.failed();
                return Err(error);
            }
        }
    }
    for binary in BINARIES {
        if !folder.join(binary).is_file() {
            bail!("{binary} is not beside {}\n  in a checkout, use ./dev up", program.display());
        }
    }
    Ok(folder)
}

/// Same variables as `./dev` sets, so that cargo finds everything built already.
fn cargo_build(workspace: &Path, duckdb: &Path, mut progress: impl FnMut(&str)) -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace).args(["build", "--workspace", "--locked"]);
    cargo.args(BINARIES.iter().flat_map(|binary| ["--bin", *binary]));
    cargo.env("DUCKDB_LIB_DIR", duckdb).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = cargo.spawn().context("run cargo")?;
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        for text in BufReader::new(stderr).lines().map_while(Result::ok) {
            progress(text.trim());
            said.push(text);
        }
    }
    if child.wait().context("wait for cargo")?.success() {
        return Ok(());
    }
    bail!("cargo build failed:\n{}", said[said.len().saturating_sub(40)..].join("\n"))
}
