//! Who this worker is to ECS, by the task metadata endpoint, version 4.

use std::time::Duration;

use serde::Deserialize;

/// Set by ECS for every container.
const METADATA: &str = "ECS_CONTAINER_METADATA_URI_V4";
const TIMEOUT: Duration = Duration::from_secs(2);

/// A worker's ECS task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// ARN of the task.
    pub task_arn: Option<String>,
    /// `family:revision`.
    pub task_definition: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Task {
    #[serde(rename = "TaskARN")]
    task_arn: String,
    family: String,
    revision: String,
}

/// Asks the endpoint that the environment names; outside of ECS there is none.
///
/// # Errors
/// When it does not answer as ECS does.
pub async fn ask(http: &reqwest::Client) -> Result<Identity, reqwest::Error> {
    let Ok(base) = std::env::var(METADATA) else { return Ok(Identity::default()) };
    let answer = http.get(format!("{base}/task")).timeout(TIMEOUT).send().await?.error_for_status()?;
    let task: Task = answer.json().await?;
    Ok(Identity {
        task_arn: Some(task.task_arn),
        task_definition: Some(format!("{}:{}", task.family, task.revision)),
    })
}
