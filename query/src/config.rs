//! Flags of the service.

use std::{path::PathBuf, time::Duration};

use dagwright_telemetry::{CommonArgs, ListenArgs};

use crate::auth::KeySource;

/// Answers SQL over the committed data of Datasets: POST /v1/query with a bearer token.
///
/// Each query runs in an engine process of its own, without credentials, over exactly the objects of the versions that
/// were served when it began.
#[derive(Debug, clap::Parser)]
#[command(name = "dagwright-query", version)]
pub struct Config {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub listen: ListenArgs,

    /// URL of the state database, with a role that may read only.
    #[arg(long, env = "DAGWRIGHT_STATE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub state_database_url: String,

    /// File with the public keys (JWKS) of the identity provider. Read again when a token names a key that is not in it.
    #[arg(
        long,
        env = "DAGWRIGHT_JWKS_FILE",
        value_name = "PATH",
        required_unless_present = "jwks_url",
        conflicts_with = "jwks_url"
    )]
    pub jwks_file: Option<PathBuf>,

    /// URL of the public keys (JWKS) of the identity provider.
    #[arg(long, env = "DAGWRIGHT_JWKS_URL", value_name = "URL")]
    pub jwks_url: Option<String>,

    /// Issuer that tokens must name in `iss`.
    #[arg(long, env = "DAGWRIGHT_OIDC_ISSUER", value_name = "URL")]
    pub oidc_issuer: String,

    /// Audience that tokens must name in `aud`.
    #[arg(long, env = "DAGWRIGHT_OIDC_AUDIENCE", default_value = "dagwright-query", value_name = "NAME")]
    pub oidc_audience: String,

    /// Directory that holds `httpfs.duckdb_extension` of the engine's version. Its signature is verified.
    #[arg(long, env = "DAGWRIGHT_DUCKDB_EXTENSION_DIR", value_name = "DIR")]
    pub duckdb_extension_dir: PathBuf,

    #[command(flatten)]
    pub limits: LimitArgs,
}

/// What one query may use.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Memory of one query's engine in MiB. The process may take twice that and 500 MiB.
    #[arg(long, env = "DAGWRIGHT_QUERY_MEMORY_LIMIT", default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u64).range(64..=65_536))]
    pub query_memory_limit: u64,

    /// Threads of one query's engine.
    #[arg(long, env = "DAGWRIGHT_QUERY_THREADS", default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub query_threads: u32,

    /// Time limit of a query that asks for none, and the most that one may ask for.
    #[arg(long, env = "DAGWRIGHT_QUERY_TIMEOUT", default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub query_timeout: Duration,

    /// Rows of an answer that asks for no number, and the most that one may ask for.
    #[arg(long, env = "DAGWRIGHT_QUERY_MAX_ROWS", default_value_t = 100_000, value_name = "N")]
    pub query_max_rows: u64,

    /// Bytes of an answer; a longer one is cut and says so.
    #[arg(long, env = "DAGWRIGHT_QUERY_MAX_BYTES", default_value_t = 256 << 20, value_name = "BYTES")]
    pub query_max_bytes: u64,

    /// Queries at once; more wait for a few seconds and are then turned away.
    #[arg(long, env = "DAGWRIGHT_QUERY_CONCURRENCY", default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub query_concurrency: u32,

    /// Engine processes that wait for a query.
    #[arg(long, env = "DAGWRIGHT_QUERY_SPARE_ENGINES", default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub query_spare_engines: u32,
}

impl Config {
    /// Where the keys of tokens are. Clap has seen to it that one is given.
    #[must_use]
    pub fn key_source(&self) -> KeySource {
        match (&self.jwks_file, &self.jwks_url) {
            (Some(path), _) => KeySource::File(path.clone()),
            (None, url) => KeySource::Url(url.clone().unwrap_or_default()),
        }
    }
}
