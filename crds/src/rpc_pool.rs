//! `RpcPool`: JSON-RPC providers of one chain, as one named endpoint behind the gateway.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{GoDuration, LABEL, SecretKeyRef};

/// An http or https URL without user name and password.
pub(crate) const PLAIN_URL: &str = r"^https?://[^\s@]+$";

/// JSON-RPC providers of one chain, used in order of preference by the RPC gateway.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "dagwright.dev",
    version = "v1alpha1",
    kind = "RpcPool",
    namespaced,
    plural = "rpcpools",
    shortname = "rpc",
    category = "dagwright",
    status = "RpcPoolStatus",
    derive = "PartialEq",
    doc = "RpcPool names the JSON-RPC providers of one chain. Workers reach them through the RPC gateway alone.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Healthy",
        type_ = "string",
        json_path = ".status.healthy",
        description = "healthy providers of all"
    ),
    printcolumn(
        name = "Head",
        type_ = "integer",
        json_path = ".status.head",
        description = "highest block a provider told"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Chain", type_ = "integer", json_path = ".spec.chain.id", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct RpcPoolSpec {
    /// The chain that all providers serve. It cannot be changed.
    pub chain: RpcChain,
    /// The providers; order is preference. At least 1, at most 16, with unique names.
    #[schemars(length(min = 1, max = 16))]
    pub providers: Vec<Provider>,
    /// Longest wait for one upstream request. Default: `10s`. From `100ms` to `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// What happens to a provider whose answer is disproven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
}

/// The chain of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RpcChain {
    /// EIP-155 chain id. A provider that answers another id is never used. Example: 1.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub id: i64,
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Name within the pool, shown in status, logs and metrics. Example: `alchemy`.
    #[schemars(regex(pattern = LABEL), length(max = 40))]
    pub name: String,
    /// Where its URL is: exactly one of `secretKeyRef` and `value`.
    pub url: UrlSource,
    /// JSON-RPC calls per second; calls of a batch count one by one. Default: no limit. Example: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests_per_second: Option<u32>,
    /// HTTP requests at once. Default: 16. Example: 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_concurrent: Option<u32>,
}

/// Where a URL is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UrlSource {
    /// A key of a Secret that carries the label `dagwright.dev/rpc-key`; for URLs that hold a key.
    SecretKeyRef(SecretKeyRef),
    /// The URL itself, for an endpoint without a key; it can hold no user name or password. Example: `http://node.internal:8545`.
    Value(#[schemars(regex(pattern = PLAIN_URL), length(max = 2048))] String),
}

/// What happens to a provider whose answer is disproven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// After a block failed verification: `Cordon` leaves the provider unused for `cordonFor`, `Continue` only avoids it
    /// for the task that failed. Default: `Cordon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_verification_failure: Option<OnVerificationFailure>,
    /// How long a cordon lasts. Default: `10m`. From `1s` to `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon_for: Option<GoDuration>,
}

/// What happens to a provider after a block failed verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnVerificationFailure {
    /// It is not used for a while.
    Cordon,
    /// Only the task that failed avoids it.
    Continue,
}

impl RpcPoolSpec {
    /// Longest wait for one upstream request.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        GoDuration::or(self.timeout.as_ref(), Duration::from_secs(10))
    }
    /// Whether a disproven provider is cordoned.
    #[must_use]
    pub fn cordons(&self) -> bool {
        let policy = self.failover.as_ref().and_then(|f| f.on_verification_failure);
        policy.unwrap_or(OnVerificationFailure::Cordon) == OnVerificationFailure::Cordon
    }
    /// How long a cordon lasts.
    #[must_use]
    pub fn cordon_for(&self) -> Duration {
        GoDuration::or(self.failover.as_ref().and_then(|f| f.cordon_for.as_ref()), Duration::from_secs(600))
    }
}

/// What the gateway and the controller know of the pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RpcPoolStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready, Reconciling, Stalled, Healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The last value of the annotation `reconcile.fluxcd.io/requestedAt` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Healthy providers of all. Example: `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<String>,
    /// Highest block that a provider told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<i64>,
    /// One per provider of the spec, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub providers: Vec<ProviderStatus>,
}

/// What the gateway last reported of one provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// Name within the pool.
    #[schemars(length(max = 40))]
    pub name: String,
    /// Healthy, Degraded, Cordoned, Refused or Unknown.
    #[schemars(length(max = 32))]
    pub state: String,
    /// Block that it last told as its head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<i64>,
    /// Errors per hundred requests over the last minutes, rounded.
    pub error_rate_percent: i64,
    /// Why it is not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When the state began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}
