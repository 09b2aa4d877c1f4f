//! Flags.

use clap::Parser;
use dagwright_contracts::{endpoints::Endpoints, token::BearerToken};
use dagwright_telemetry::CommonArgs;

/// The worker: takes tasks of one WorkerPool, runs their operators, commits through the dispatcher.
///
/// It holds no state of its own: what it is killed with comes back to another worker when the lease ends.
#[derive(Parser, Clone, Debug)]
#[command(name = "dagwright-worker", version)]
pub struct Args {
    #[command(flatten)]
    pub common: CommonArgs,

    /// Base URL of the dispatcher; a comma-separated list when there are several replicas without a balancer.
    #[arg(long, env = "DAGWRIGHT_DISPATCHER_URL", value_name = "URL")]
    pub dispatcher_url: Endpoints,

    /// Base URL of the RPC gateway, the only way to a chain's nodes.
    #[arg(long, env = "DAGWRIGHT_RPC_URL", value_name = "URL")]
    pub rpc_url: Endpoints,

    /// URL of the pool's SQS queue.
    #[arg(long, env = "DAGWRIGHT_QUEUE_URL", value_name = "URL")]
    pub queue_url: String,

    /// Token of the pool, which opens this pool's tasks and its namespace's RPC pools.
    #[arg(long, env = "DAGWRIGHT_POOL_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub pool_token: BearerToken,

    /// How many tasks run at once.
    #[arg(long, env = "DAGWRIGHT_SLOTS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: u32,

    /// Namespace of the pool, for logs.
    #[arg(long, env = "DAGWRIGHT_NAMESPACE", default_value = "", value_name = "NAME")]
    pub namespace: String,

    /// Name of the pool, for logs.
    #[arg(long, env = "DAGWRIGHT_POOL", default_value = "", value_name = "NAME")]
    pub pool: String,

    /// How long handing leases back may take after SIGTERM, in seconds; keep it below the task's stop timeout.
    #[arg(long, env = "DAGWRIGHT_GRACE_SECONDS", default_value_t = 20, value_name = "SECONDS")]
    pub grace_seconds: u64,

    /// End when there was nothing to do for so long, in seconds; 0: stay. Set for workers that are started on demand.
    #[arg(long, env = "DAGWRIGHT_IDLE_EXIT_SECONDS", default_value_t = 0, value_name = "SECONDS")]
    pub idle_exit_seconds: u64,
}
