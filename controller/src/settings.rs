//! Flags of `dagwright-controller`.

use clap::{Args, Parser};
use dagwright_telemetry::CommonArgs;

use crate::roles::AllowedRole;

/// Reconciles Dagwright's resources into desired state and AWS resources.
///
/// Run two replicas: one leads, the other takes over when it is lost. The Kubernetes API is found by KUBECONFIG or, in a
/// cluster, by the service account; AWS by the SDK's ordinary environment.
#[derive(Parser, Clone, Debug)]
#[command(name = "dagwright-controller", version)]
pub struct Settings {
    /// Flags of every binary.
    #[command(flatten)]
    pub common: CommonArgs,

    /// URL of the Postgres database `state`, as a role that may write desired state.
    #[arg(long, env = "DAGWRIGHT_STATE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub state_database_url: String,

    /// Namespace of the Lease by which replicas choose their leader.
    #[arg(
        long,
        env = "DAGWRIGHT_LEASE_NAMESPACE",
        default_value = "dagwright-system",
        value_name = "NAMESPACE"
    )]
    pub lease_namespace: String,

    /// Name of this replica in the Lease and in Events. Left out, it is the host name and a random suffix.
    #[arg(long, env = "DAGWRIGHT_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// What workers are given.
    #[command(flatten)]
    pub workers: WorkerSettings,
}

/// What the controller fills in for WorkerPools.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Workers")]
pub struct WorkerSettings {
    /// ECS cluster in which workers run.
    #[arg(long, env = "DAGWRIGHT_ECS_CLUSTER", value_name = "NAME")]
    pub ecs_cluster: String,

    /// Subnets of WorkerPools that name none, comma-separated.
    #[arg(long, env = "DAGWRIGHT_DEFAULT_SUBNETS", value_delimiter = ',', value_name = "IDS")]
    pub default_subnets: Vec<String>,

    /// Security groups of WorkerPools that name none, comma-separated.
    #[arg(long, env = "DAGWRIGHT_DEFAULT_SECURITY_GROUPS", value_delimiter = ',', value_name = "IDS")]
    pub default_security_groups: Vec<String>,

    /// Task role of WorkerPools that name none.
    #[arg(long, env = "DAGWRIGHT_DEFAULT_TASK_ROLE_ARN", value_name = "ARN")]
    pub default_task_role_arn: Option<String>,

    /// Execution role of WorkerPools that name none.
    #[arg(long, env = "DAGWRIGHT_DEFAULT_EXECUTION_ROLE_ARN", value_name = "ARN")]
    pub default_execution_role_arn: Option<String>,

    /// Task roles that WorkerPools may name in `spec.roles.task`, as `namespace=arn` with `*` and `?` in both, comma-separated.
    /// The default task role needs no entry. Left out, no other role is allowed.
    #[arg(long, env = "DAGWRIGHT_ALLOWED_TASK_ROLES", value_delimiter = ',', value_name = "NAMESPACE=ARN")]
    pub allowed_task_roles: Vec<AllowedRole>,

    /// URL of the dispatcher, as workers reach it.
    #[arg(long, env = "DAGWRIGHT_DISPATCHER_URL", value_name = "URL")]
    pub dispatcher_url: String,

    /// URL of the RPC gateway, as workers reach it.
    #[arg(long, env = "DAGWRIGHT_RPC_URL", value_name = "URL")]
    pub rpc_url: String,

    /// CloudWatch log group of workers. Left out, their output is not kept.
    #[arg(long, env = "DAGWRIGHT_WORKER_LOG_GROUP", value_name = "NAME")]
    pub worker_log_group: Option<String>,
}
