//! The SQS message: one per (task, attempt), ids only. Everything else is read from Postgres when the task is claimed.

use dagwright_core::ids::TaskId;
use serde::{Deserialize, Serialize};

/// Body of a message in a pool's queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskMessage {
    /// Version of this shape, now 1.
    pub v: u32,
    /// The task.
    pub task_id: TaskId,
    /// Ordinal of the attempt that this message offers. A message of an older attempt is stale and is deleted unread.
    pub attempt: u32,
}
