//! `dagwright logs NAME [-f]`.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::StackArgs;
use crate::stack::Settings;

const POLL: Duration = Duration::from_millis(200);

/// Flags of `dagwright logs`.
#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    #[command(flatten)]
    stack: StackArgs,

    /// A process of `dagwright ps`, `supervisor`, or the start of a container's name such as `ministack-ecs`.
    name: String,

    /// Go on printing what is written.
    #[arg(short, long)]
    follow: bool,
}

/// Prints a log.
pub async fn run(args: LogsArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&args.stack.dir()?)?;
    let files = find(&settings, &args.name);
    if files.is_empty() {
        bail!(
            "stack \"{}\" has no log of \"{}\"\n  there are: {}",
            settings.name,
            args.name,
            names(&settings).join(", ")
        );
    }
    let mut positions = vec![0; files.len()];
    let mut tick = tokio::time::interval(POLL);
    loop {
        for (file, position) in files.iter().zip(&mut positions) {
            *position = print_from(file, *position)?;
        }
        if !args.follow {
            return Ok(ExitCode::SUCCESS);
        }
        tick.tick().await;
    }
}

fn find(settings: &Settings, name: &str) -> Vec<PathBuf> {
    let exact = settings.logs().join(format!("{name}.log"));
    if exact.is_file() {
        return vec![exact];
    }
    let containers = logs_in(&settings.dir.join("tasks"));
    containers
        .into_iter()
        .filter(|(container, _)| container.starts_with(name))
        .map(|(_, path)| path)
        .collect()
}

fn names(settings: &Settings) -> Vec<String> {
    let mut names: Vec<_> = [settings.logs(), settings.dir.join("tasks")]
        .iter()
        .flat_map(|dir| logs_in(dir))
        .map(|(name, _)| name)
        .collect();
    names.sort();
    names
}

fn logs_in(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let named = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".log")?.to_owned();
        Some((name, path))
    };
    entries.filter_map(|entry| named(entry.path())).collect()
}

/// A log that became shorter was replaced: it is printed from its beginning.
fn print_from(path: &Path, position: u64) -> anyhow::Result<u64> {
    let mut file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let length = file.metadata().with_context(|| format!("look at {}", path.display()))?.len();
    let from = if length < position { 0 } else { position };
    file.seek(SeekFrom::Start(from)).with_context(|| format!("read {}", path.display()))?;
    let mut out = io::stdout().lock();
    let copied = io::copy(&mut file.take(length - from), &mut out).context("print the log")?;
    out.flush().context("print the log")?;
    Ok(from + copied)
}
