//! `dagwright ps`: what runs, where, and whether it works.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use futures::future::join_all;
use serde::Serialize;

use super::StackArgs;
use super::supervise::RECORD;
use crate::fargate::record;
use crate::stack::{Process, Settings, Status};

/// Flags of `dagwright ps`.
#[derive(Args, Clone, Debug)]
pub struct PsArgs {
    #[command(flatten)]
    stack: StackArgs,

    /// Shape of the list.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For scripts: a list of objects.
    Json,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    pid: Option<u32>,
    address: String,
    health: &'static str,
    restarts: u32,
}

/// Lists the processes of a stack; exits with 1 when one of them does not work.
pub async fn run(args: PsArgs) -> anyhow::Result<ExitCode> {
    let dir = args.stack.dir()?;
    let Some(supervisor) = record::alive(&dir, RECORD) else {
        bail!("stack \"{}\" is not up\n  try: dagwright up", args.stack.stack);
    };
    let status = Status::load(&dir);
    let mut rows = vec![Row {
        name: "supervisor".to_owned(),
        pid: Some(supervisor),
        address: Settings::load(&dir)
            .map_or_else(|_| String::new(), |settings| settings.address("credentials").to_string()),
        health: "healthy",
        restarts: 0,
    }];
    rows.extend(join_all(status.into_iter().flat_map(|status| status.processes).map(row)).await);
    let well = rows.iter().all(|row| row.health == "healthy");
    print(&rows, args.format)?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn row(process: Process) -> Row {
    let health = match process.pid {
        None => "stopped",
        Some(_) if process.probe.passes().await => "healthy",
        Some(_) => "unhealthy",
    };
    Row { name: process.name, pid: process.pid, address: process.address, health, restarts: process.restarts }
}

fn print(rows: &[Row], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(rows)?),
        Format::Table => {
            let mut table = Table::new();
            table.load_preset(presets::NOTHING).set_header(["NAME", "PID", "ADDRESS", "HEALTH", "RESTARTS"]);
            for row in rows {
                let pid = row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
                table.add_row([&row.name, &pid, &row.address, row.health, &row.restarts.to_string()]);
            }
            println!("{table}");
        }
    }
    Ok(())
}
