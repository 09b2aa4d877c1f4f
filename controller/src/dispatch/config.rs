use std::time::Duration;

use clap::Parser;
use dagwright_contracts::endpoints::Endpoints;
use dagwright_telemetry::{CommonArgs, ListenArgs};

/// Plans tasks, hands them to workers, commits their results and keeps pools at the size that the backlog asks for.
///
/// Any number of replicas may run against one state database. Workers, the RPC gateway and nobody else call it.
#[derive(Parser, Clone, Debug)]
#[command(name = "dagwright-dispatcher", version)]
pub struct Args {
    /// Flags of every binary.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Where the API listens.
    #[command(flatten)]
    pub listen: ListenArgs,

    /// URL of the state database, with the dispatcher's role.
    #[arg(long, env = "DAGWRIGHT_STATE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub state_database_url: String,

    /// Bucket that datasets lie in.
    #[arg(long, env = "DAGWRIGHT_DATA_BUCKET", value_name = "BUCKET")]
    pub data_bucket: String,

    /// Role that is assumed for attempts, narrowed to what each may write.
    #[arg(long, env = "DAGWRIGHT_DATA_ROLE_ARN", value_name = "ARN")]
    pub data_role_arn: String,

    /// Base URL of the RPC gateway, or several, comma-separated: heads are asked for there.
    #[arg(long, env = "DAGWRIGHT_RPC_URL", value_name = "URL")]
    pub rpc_url: Endpoints,

    /// Secret shared with the RPC gateway: it reads its configuration with it, and the head follower calls it with it.
    #[arg(long, env = "DAGWRIGHT_GATEWAY_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub gateway_token: String,

    /// ECS cluster of services whose pool names none.
    #[arg(long, env = "DAGWRIGHT_ECS_CLUSTER", value_name = "NAME")]
    pub ecs_cluster: String,

    /// Postgres connections for claims, completions and failures. So many such calls run at once and four times as many wait;
    /// the rest gets 429 and comes back. Heartbeats and releases have connections of their own.
    #[arg(long, env = "DAGWRIGHT_BULK_CONNECTIONS", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=200), value_name = "N")]
    pub bulk_connections: u32,

    /// How long a committed object goes unchecked before somebody looks whether it is still there.
    #[arg(long, env = "DAGWRIGHT_OBJECT_CHECK_AGE", default_value = "30s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub object_check_age: Duration,

    /// Committed objects that are looked at per second, at most. Each costs one HEAD request.
    #[arg(long, env = "DAGWRIGHT_OBJECT_CHECKS_PER_SECOND", default_value_t = 5, value_name = "N")]
    pub object_checks_per_second: u32,

    /// How old an object must be that no pointer and no live attempt names before it is deleted.
    #[arg(long, env = "DAGWRIGHT_SWEEP_AGE", default_value = "24h", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub sweep_age: Duration,

    /// How long ended tasks, attempts and events are kept. They go by whole days.
    #[arg(long, env = "DAGWRIGHT_HISTORY_RETENTION", default_value = "14d", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub history_retention: Duration,
}
