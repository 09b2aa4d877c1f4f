//! `dagwright-chaos`: as `./dev chaos` runs it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use dagwright_chaos::{
    report::Report,
    run::{Chaos, Config, down},
};
use dagwright_cli::paths;
use rand::Rng as _;

/// Runs the whole local stack under a schedule of faults, and checks after each round that nothing was lost and nothing done
/// twice.
#[derive(Parser, Debug)]
#[command(name = "dagwright-chaos", version)]
struct Args {
    /// No round begins after so many minutes.
    #[arg(long, default_value_t = 10, value_name = "N")]
    minutes: u64,

    /// What the schedule is made of. Default: drawn, and printed.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,

    /// At most so many rounds.
    #[arg(long, default_value_t = u32::MAX, hide_default_value = true, value_name = "N")]
    rounds: u32,

    /// The first round; with --rounds 1 it repeats one round alone.
    #[arg(long, default_value_t = 0, value_name = "N")]
    first_round: u32,

    /// Faults of a round.
    #[arg(long, default_value_t = 14, value_name = "N")]
    faults: usize,

    /// How long faults begin in a round.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    faults_for: Duration,

    /// A round in which nothing moves for so long is stuck.
    #[arg(long, default_value = "6m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    patience: Duration,

    /// Go on after a round that broke a promise; the exit code tells at the end.
    #[arg(long)]
    keep_going: bool,

    /// Name of the stack. One that is there is deleted first.
    #[arg(long, env = "DAGWRIGHT_CHAOS_STACK", default_value = "chaos", value_name = "NAME")]
    stack: String,

    /// Shape of the summary on standard output.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,

    /// Also writes the summary as JSON to this file.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| rand::rng().random_range(1..1_000_000));
    let proxy = paths::program()?.with_file_name("dagwright-fault-proxy");
    let config = Config {
        stack: args.stack.clone(),
        seed,
        first_round: args.first_round,
        rounds: args.rounds,
        length: Duration::from_secs(args.minutes * 60),
        faults: args.faults,
        faults_for: args.faults_for,
        patience: args.patience,
        keep_going: args.keep_going,
    };
    eprintln!("seed {seed}: stack {} starts", config.stack);
    let mut chaos = Chaos::start(&config.stack, &proxy).await?;
    let mut report = Report::new(&config);
    let whole = tokio::select! {
        () = chaos.run(&config, &mut report, |line| eprintln!("{line}")) => true,
        _ = tokio::signal::ctrl_c() => false,
    };
    if !whole {
        report.cut_short("interrupted");
    }
    drop(chaos);
    show(&args, &report)?;
    if report.holds {
        down(&config.stack, &["--purge"])?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}", report.failure());
    down(&config.stack, &[])?;
    Ok(ExitCode::FAILURE)
}

fn show(args: &Args, report: &Report) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(report).context("write the summary")?;
    if let Some(path) = &args.output {
        std::fs::write(path, &json).with_context(|| format!("write {}", path.display()))?;
    }
    match args.format {
        Format::Table => println!("{}", report.table()),
        Format::Json => println!("{json}"),
    }
    Ok(())
}
