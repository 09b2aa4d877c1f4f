//! How a worker reports itself to the dispatcher: `POST /v1/workers:checkin`, every few seconds, with the pool's token.

use dagwright_core::ids::WorkerId;
use serde::{Deserialize, Serialize};

/// A worker that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckInRequest {
    /// Who.
    pub worker_id: WorkerId,
    /// ARN of its ECS task; none outside of ECS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_arn: Option<String>,
    /// `family:revision` of the task definition that it was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_definition: Option<String>,
    /// It was told to drain, holds nothing and claims nothing.
    #[serde(default)]
    pub drained: bool,
    /// It ends now: what it may still hold without knowing it, by a claim whose answer it did not hear, goes back.
    #[serde(default)]
    pub leaving: bool,
}

/// Answer to a check-in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckInResponse {
    /// Claim nothing more, end what is held, and say so. False calls a draining worker back.
    #[serde(default)]
    pub draining: bool,
}
