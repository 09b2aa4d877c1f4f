//! `dagwright env`: what a shell needs to work with a stack.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use time::OffsetDateTime;

use super::StackArgs;
use crate::stack::{REGION, Settings, token};

/// Flags of `dagwright env`.
#[derive(Args, Clone, Debug)]
pub struct EnvArgs {
    #[command(flatten)]
    stack: StackArgs,

    /// Shape of the variables.
    #[arg(long, value_enum, default_value = "shell")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// `export NAME='value'` lines: `eval "$(dagwright env)"`.
    Shell,
    /// One object.
    Json,
}

/// Prints the variables of a stack.
pub fn run(args: &EnvArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&args.stack.dir()?)?;
    let mut variables = variables(&settings)?;
    variables.push(("PATH", path(&settings)?));
    match args.format {
        Format::Shell => {
            for (name, value) in variables {
                println!("export {name}='{}'", value.replace('\'', r"'\''"));
            }
        }
        Format::Json => {
            let object: serde_json::Map<_, _> =
                variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            println!("{}", serde_json::to_string_pretty(&object)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every variable but PATH.
pub fn variables(settings: &Settings) -> anyhow::Result<Vec<(&'static str, String)>> {
    let now = OffsetDateTime::now_utc();
    let token = token::sign(&settings.kept.token_key, "local-dev", &["analyst"], &["*"], now)?;
    let mut variables = vec![
        ("KUBECONFIG", settings.kubeconfig().display().to_string()),
        ("DAGWRIGHT_QUERY_URL", settings.url("query")),
        // One of the two replicas: either answers everything.
        ("DAGWRIGHT_DISPATCHER_URL", settings.url("dispatcher-0")),
        ("DAGWRIGHT_RPC_URL", settings.url("rpc")),
        ("DAGWRIGHT_TOKEN", token),
        ("DAGWRIGHT_DATA_BUCKET", settings.bucket()),
        // Local Fargate, for `POST /containers/{id}/interrupt`: Spot takes a worker back.
        ("DAGWRIGHT_FARGATE_SOCKET", super::super::supervisor::socket(&settings.dir).display().to_string()),
        ("AWS_ENDPOINT_URL", settings.url("ministack")),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("STATE_DATABASE_URL", settings.database_url("dagwright_migrate", "state")),
        ("DATA_DATABASE_URL", settings.database_url("dagwright_data_owner", "data")),
        ("POSTGRES_ADMIN_URL", settings.database_url("postgres", "postgres")),
        ("EVM_RPC_URL", settings.url("anvil")),
        ("MAINNET_RPC_URL", settings.url("mainnet-replay")),
    ];
    if settings.aws_proxy.is_some() {
        variables.push(("AWS_PROXY_CONTROL_URL", settings.url("aws-proxy-control")));
    }
    Ok(variables)
}

/// kubectl and our own programs first.
fn path(settings: &Settings) -> anyhow::Result<String> {
    let own = [settings.program.parent(), settings.parts.kubectl.parent()];
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let own = own.into_iter().flatten().map(Path::to_owned);
    let mut dirs: Vec<_> = own.collect();
    dirs.extend(std::env::split_paths(&inherited).filter(|dir| !dirs.contains(dir)).collect::<Vec<_>>());
    let joined = std::env::join_paths(dirs).context("join PATH")?;
    Ok(joined.to_string_lossy().into_owned())
}
