use std::net::SocketAddr;

use clap::{Args, ValueEnum};

/// Flags of every Dagwright binary.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// Address of the admin server: /healthz, /readyz and /metrics.
    #[arg(long, env = "DAGWRIGHT_ADMIN_LISTEN", default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub admin_listen: SocketAddr,

    /// Shape of log lines on standard error: text for people, json for collectors.
    #[arg(long, env = "DAGWRIGHT_LOG_FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,

    /// What is logged, as comma-separated directives such as `info,dagwright_worker=debug`.
    #[arg(long = "log", env = "DAGWRIGHT_LOG", default_value = "info", value_name = "DIRECTIVES")]
    pub log_filter: String,

    /// Name of this installation; part of the names of all AWS resources.
    #[arg(long, env = "DAGWRIGHT_CLUSTER", default_value = "local", value_name = "NAME")]
    pub cluster: String,
}

/// The address of a binary that serves an API.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Common options")]
pub struct ListenArgs {
    /// Address of the API.
    #[arg(long, env = "DAGWRIGHT_LISTEN", default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
