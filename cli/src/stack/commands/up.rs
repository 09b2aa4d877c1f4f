//! `dagwright up`: parts, build, supervisor, first light.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::supervise::RECORD;
use super::{StackArgs, down};
use crate::build;
use crate::fargate::record;
use crate::parts::{self, Cache, Line, Parts, Progress};
use crate::paths;
use crate::stack::{Phase, Programs, Settings, Status, first_light, sweep};

const POLL: Duration = Duration::from_millis(50);

/// Flags of `dagwright up`.
#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    #[command(flatten)]
    stack: StackArgs,

    /// Return once both example chains are synced, and leave the stack running.
    #[arg(long)]
    detach: bool,

    /// Start only what Dagwright depends on, for running its binaries by hand.
    #[arg(long)]
    infra_only: bool,

    /// Do not apply the examples and do not load the local chain.
    #[arg(long)]
    no_example: bool,

    /// Let Dagwright's processes and workers reach AWS through this program, started as
    /// `PROGRAM LISTEN CONTROL UPSTREAM`: a proxy that misbehaves on demand.
    #[arg(long, value_name = "PROGRAM")]
    aws_proxy: Option<PathBuf>,

    /// A further variable of Dagwright's processes and workers, such as one of their flags. May be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,

    /// The checkout: its binaries are built, its examples applied.
    #[arg(long, env = "DAGWRIGHT_WORKSPACE", value_name = "DIR")]
    workspace_dir: Option<PathBuf>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Brings a stack up.
pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    // Before a build replaces it.
    paths::program()?;
    let dir = args.stack.dir()?;
    let progress = Progress::to_stderr();
    let was_up = record::alive(&dir, RECORD).is_some();
    let settings = if was_up { Settings::load(&dir)? } else { prepare(&args, &dir, &progress).await? };
    let _ = link_kubectl_plugin(&settings.program);
    let worked = tokio::select! {
        worked = bring_up(&args, &settings, &progress) => worked,
        () = interrupted() => Err(anyhow!("interrupted")),
    };
    if was_up || (args.detach && worked.is_ok()) {
        return worked.map(|()| ExitCode::SUCCESS);
    }
    if let Err(error) = &worked {
        // A detached stack is of no use half up; an attached one stays for the user to look at.
        if args.detach || Status::load(&dir).is_none_or(|status| status.phase != Phase::Ready) {
            down::stop(&settings).await.context("stop what was started")?;
            return worked.map(|()| ExitCode::FAILURE);
        }
        eprintln!("error: {error:#}");
    }
    eprintln!("\nThe stack runs until you press Ctrl-C.");
    wait_until_told_or_dead(&settings).await?;
    down::stop(&settings).await?;
    eprintln!("The stack is down; its data stays in {}.", settings.dir.display());
    Ok(ExitCode::SUCCESS)
}

async fn bring_up(args: &UpArgs, settings: &Settings, progress: &Progress) -> anyhow::Result<()> {
    start(settings, progress).await?;
    if !args.infra_only && !args.no_example {
        let workspace = args.workspace_dir.as_deref().context(
            "the examples are part of the checkout: give it by --workspace-dir, or start with --no-example",
        )?;
        first_light::run(settings, workspace).await?;
    }
    first_light::print_how_to_go_on(settings);
    Ok(())
}

async fn prepare(args: &UpArgs, dir: &Path, progress: &Progress) -> anyhow::Result<Settings> {
    let workspace = args.workspace_dir.clone();
    let (parts, binaries) = install_and_build(workspace.clone(), args.infra_only, progress.clone()).await?;
    let replay = workspace.map(|dir| dir.join("tests/fixtures/evm/ethereum")).filter(|dir| dir.is_dir());
    let (aws_proxy, variables) = (args.aws_proxy.clone(), args.variables.iter().cloned().collect());
    let programs = Programs { binaries, replay, aws_proxy, variables };
    Settings::prepare(&args.stack.stack, dir, parts, programs)
}

/// Parts and binaries at once; only the library that the query service links to comes first.
async fn install_and_build(
    workspace: Option<PathBuf>,
    infra_only: bool,
    progress: Progress,
) -> anyhow::Result<(Parts, Option<PathBuf>)> {
    let cache = paths::cache_dir()?;
    let work = move || -> anyhow::Result<_> {
        let cache = Cache::open(cache)?;
        if infra_only {
            return Ok((parts::install(&cache, &progress)?, None));
        }
        let duckdb = parts::duckdb(&cache, &progress)?;
        std::thread::scope(|scope| {
            let building = scope.spawn(|| build::products(workspace.as_deref(), &duckdb, &progress));
            let parts = parts::install(&cache, &progress);
            let binaries = building.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((parts?, Some(binaries?)))
        })
    };
    tokio::task::spawn_blocking(work).await.context("install the parts")?
}

/// Starts the supervisor unless it runs, and waits until it says that everything works.
async fn start(settings: &Settings, progress: &Progress) -> anyhow::Result<()> {
    let line = progress.line("stack", "starting");
    let mut supervisor = None;
    if record::alive(&settings.dir, RECORD).is_none() {
        sweep::leftovers(settings)?;
        let _ = std::fs::remove_file(settings.dir.join("status.json"));
        supervisor = Some(spawn_supervisor(settings)?);
    }
    match ready(settings, &line, supervisor.as_mut()).await {
        Ok(()) => {
            line.done(&format!("up in {}", settings.dir.display()));
            Ok(())
        }
        Err(error) => {
            line.failed();
            Err(error)
        }
    }
}

fn spawn_supervisor(settings: &Settings) -> anyhow::Result<std::process::Child> {
    std::fs::create_dir_all(settings.logs()).context("create the folder of logs")?;
    let path = settings.logs().join("supervisor.log");
    let log = std::fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    Command::new(&settings.program)
        .arg("supervise")
        .arg(&settings.dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log)
        .spawn()
        .context("start the supervisor")
}

async fn ready(
    settings: &Settings,
    line: &Line,
    mut supervisor: Option<&mut std::process::Child>,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(POLL);
    let mut shown = String::new();
    loop {
        tick.tick().await;
        match Status::load(&settings.dir).map(|status| status.phase) {
            Some(Phase::Ready) => return Ok(()),
            Some(Phase::Failed(reason)) => bail!("{reason}"),
            Some(Phase::Starting(what)) if what != shown => {
                line.step(&format!("starting {what}"));
                shown = what;
            }
            _ => {}
        }
        if let Some(child) = supervisor.as_deref_mut()
            && let Some(status) = child.try_wait().context("look at the supervisor")?
        {
            let log = settings.logs().join("supervisor.log");
            bail!("the supervisor ended ({status}):\n{}", crate::stack::process::tail(&log));
        }
    }
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn wait_until_told_or_dead(settings: &Settings) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let died = async {
        while record::alive(&settings.dir, RECORD).is_some() {
            tick.tick().await;
        }
    };
    tokio::select! {
        () = interrupted() => Ok(()),
        () = died => { eprintln!("the supervisor ended; stopping what is left"); Ok(()) }
    }
}

/// kubectl finds plugins by the names of files on PATH.
fn link_kubectl_plugin(program: &Path) -> std::io::Result<()> {
    let Some(link) = program.parent().map(|dir| dir.join("kubectl-dagwright")) else { return Ok(()) };
    if link.exists() {
        return Ok(());
    }
    std::os::unix::fs::symlink(program, link)
}
