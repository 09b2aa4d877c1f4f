//! The RPC gateway: what workers call, and the config that it long-polls from the dispatcher.
//!
//! * `POST /v1/{namespace}/{pool}`: JSON-RPC 2.0, single or batch. A batch is answered by **one** provider, named in
//!   [`PROVIDER_HEADER`]. [`AVOID_HEADER`] names providers that the caller does not want, comma-separated; when no other is
//!   left they are used all the same.
//! * `POST /v1/{namespace}/{pool}/verification-failures`: a [`VerificationFailure`]; the gateway cordons the provider as
//!   the pool's `failover` says.
//! * Bearer: a pool token of the same namespace, or the gateway token.
//!
//! The dispatcher serves `GET /v1/gateway/config?revision=N` (waits up to 20 s for a revision other than N, then answers the
//! current) and `POST /v1/gateway/health` to the gateway token alone.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Response header: the provider that answered.
pub const PROVIDER_HEADER: &str = "x-dagwright-provider";
/// Request header: providers to avoid.
pub const AVOID_HEADER: &str = "x-dagwright-avoid-providers";

/// All pools, and who may call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConfig {
    /// Changes whenever anything below changes.
    pub revision: i64,
    /// All RpcPools.
    pub pools: Vec<RpcPoolConfig>,
    /// SHA-256 of pool tokens in hex, with the namespace that each opens.
    pub callers: Vec<Caller>,
}

/// A token that may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// Hex SHA-256 of the token.
    pub token_sha256: String,
    /// The namespace whose pools it opens.
    pub namespace: String,
}

/// One RpcPool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcPoolConfig {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// EIP-155 chain id; a provider that answers another one is never used.
    pub chain_id: u64,
    /// In order of preference.
    pub providers: Vec<ProviderConfig>,
    /// Per upstream request, in milliseconds.
    pub timeout_ms: u64,
    /// Whether a provider whose answer failed verification is cordoned.
    pub cordon_on_verification_failure: bool,
    /// For how long, in seconds.
    pub cordon_seconds: u64,
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderConfig {
    /// Name within the pool.
    pub name: String,
    /// Where its URL is.
    pub url: ProviderUrl,
    /// Requests per second, JSON-RPC calls of a batch counted one by one. None: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests_per_second: Option<u32>,
    /// HTTP requests at once. None: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
}

/// Where a provider's URL is. A URL with a key in it never stands here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProviderUrl {
    /// A URL without a key.
    Value(String),
    /// A Secrets Manager secret and the version to read.
    Secret {
        /// ARN.
        arn: String,
        /// Version id; a new one makes the gateway read again.
        version: String,
    },
}

/// A provider fed data that a root disproves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationFailure {
    /// The provider, from [`PROVIDER_HEADER`].
    pub provider: String,
    /// Height.
    pub block: u64,
    /// The field or check at fault.
    pub field: String,
    /// What was expected and what came.
    pub detail: String,
}

/// What the gateway knows of its providers, reported every few seconds and on change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthReport {
    /// One per provider.
    pub providers: Vec<ProviderHealth>,
}

/// One provider's health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderHealth {
    /// Namespace of the pool.
    pub namespace: String,
    /// Pool.
    pub pool: String,
    /// Provider.
    pub provider: String,
    /// State.
    pub state: ProviderState,
    /// Head height that it last told.
    pub head: Option<u64>,
    /// Errors per hundred requests over the last minutes.
    pub error_rate_percent: f64,
    /// Why it is not healthy, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When the state began.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// State of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderState {
    /// In use.
    Healthy,
    /// Errors; tried last.
    Degraded,
    /// Fed wrong data; not used until its time is over.
    Cordoned,
    /// Another chain, or its URL could not be read.
    Refused,
    /// Not asked yet.
    Unknown,
}
