//! ECS tasks of workers: started singly, looked at, stopped.

use aws_sdk_ecs::{
    config::retry::RetryConfig,
    types::{DesiredStatus, PropagateTags, Task, TaskStopCode},
};
use time::OffsetDateTime;

use crate::{
    AwsError,
    services::{Capacity, Network, network, permanent, strategy},
};

/// What ECS describes in one call.
const BATCH: usize = 100;

/// ECS tasks, as far as the dispatcher calls them.
#[derive(Clone, Debug)]
pub struct WorkerTasks {
    client: aws_sdk_ecs::Client,
    once: aws_sdk_ecs::Client,
}

/// Tasks to start.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Name of the cluster.
    pub cluster: &'a str,
    /// Task definition with revision.
    pub task_definition_arn: &'a str,
    /// How many, at most ten.
    pub count: u32,
    /// Who starts them: `startedBy`, and the client token of the call.
    pub launch: &'a str,
    /// Subnets and security groups.
    pub network: &'a Network,
    /// Shares of capacity providers.
    pub capacity: &'a [Capacity],
}

/// What came of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Tasks.
    pub task_arns: Vec<String>,
    /// Why there are not as many as were asked for, in ECS's words.
    pub failures: Vec<String>,
}

/// A task as ECS describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskState {
    /// ARN.
    pub arn: String,
    /// What it runs, with revision.
    pub task_definition_arn: String,
    /// Who started it.
    pub started_by: String,
    /// Its end, when it has stopped.
    pub stopped: Option<Stopped>,
}

/// The end of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// When, by the clock of ECS.
    pub at: OffsetDateTime,
    /// Whether it ended by itself or could not start, as against being stopped by somebody.
    pub by_itself: bool,
    /// Why, in ECS's words.
    pub reason: String,
}

impl WorkerTasks {
    /// With the process's own role.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        // An endpoint that knows no client tokens starts as many again when the SDK repeats a call whose answer was lost.
        let once = aws_sdk_ecs::config::Builder::from(config).retry_config(RetryConfig::disabled()).build();
        Self { client: aws_sdk_ecs::Client::new(config), once: aws_sdk_ecs::Client::from_conf(once) }
    }

    /// Starts tasks, by exactly one request.
    ///
    /// # Errors
    /// When the call fails. Whether it was applied is not known then, unless ECS refused it.
    pub async fn start(&self, start: &Start<'_>) -> Result<Started, AwsError> {
        let failed = |m: String| permanent("run task", start.task_definition_arn, m);
        let request = self
            .once
            .run_task()
            .cluster(start.cluster)
            .task_definition(start.task_definition_arn)
            .count(i32::try_from(start.count).unwrap_or(1))
            .started_by(start.launch)
            .client_token(start.launch)
            .set_capacity_provider_strategy(Some(strategy(start.capacity).map_err(failed)?))
            .network_configuration(network(start.network).map_err(failed)?)
            .propagate_tags(PropagateTags::TaskDefinition);
        let answer =
            request.send().await.map_err(|e| AwsError::new("run task", start.task_definition_arn, &e))?;
        let words = |f: &aws_sdk_ecs::types::Failure| {
            let parts = [f.reason(), f.detail()];
            parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
        };
        Ok(Started {
            failures: answer.failures().iter().map(words).collect(),
            task_arns: answer.tasks.unwrap_or_default().into_iter().filter_map(|t| t.task_arn).collect(),
        })
    }

    /// The tasks of a family that have not stopped, or, of those that ECS still remembers, that have.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn of_family(
        &self,
        cluster: &str,
        family: &str,
        stopped: bool,
    ) -> Result<Vec<TaskState>, AwsError> {
        let status = if stopped { DesiredStatus::Stopped } else { DesiredStatus::Running };
        let pages = self.client.list_tasks().cluster(cluster).family(family).desired_status(status);
        let mut pages = pages.into_paginator().items().send();
        let mut arns = vec![];
        while let Some(arn) = pages.next().await {
            arns.push(arn.map_err(|e| AwsError::new("list tasks of family", family, &e))?);
        }
        let mut tasks = self.describe(cluster, &arns).await?;
        // A list is of what tasks are meant to be. One that its endpoint forgot to end is meant to run and has stopped.
        tasks.retain(|task| task.stopped.is_some() == stopped);
        Ok(tasks)
    }

    /// Tasks by ARN; those that ECS does not know are not in the answer.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn describe(&self, cluster: &str, arns: &[String]) -> Result<Vec<TaskState>, AwsError> {
        let mut tasks = vec![];
        for batch in arns.chunks(BATCH) {
            let request = self.client.describe_tasks().cluster(cluster).set_tasks(Some(batch.to_vec()));
            let answer =
                request.send().await.map_err(|e| AwsError::new("describe tasks of cluster", cluster, &e))?;
            tasks.extend(answer.tasks.unwrap_or_default().into_iter().filter_map(state));
        }
        Ok(tasks)
    }

    /// Stops a task: SIGTERM, and SIGKILL after its stop timeout.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn stop(&self, cluster: &str, arn: &str, reason: &str) -> Result<(), AwsError> {
        let done = self.client.stop_task().cluster(cluster).task(arn).reason(reason).send().await;
        done.map(drop).map_err(|e| AwsError::new("stop task", arn, &e))
    }
}

fn state(task: Task) -> Option<TaskState> {
    let stopped = (task.last_status() == Some("STOPPED")).then(|| Stopped {
        at: task.stopped_at().or(task.created_at()).map_or(OffsetDateTime::UNIX_EPOCH, instant),
        by_itself: matches!(
            task.stop_code(),
            Some(TaskStopCode::TaskFailedToStart | TaskStopCode::EssentialContainerExited)
        ),
        reason: reason(&task),
    });
    Some(TaskState {
        stopped,
        arn: task.task_arn?,
        task_definition_arn: task.task_definition_arn.unwrap_or_default(),
        started_by: task.started_by.unwrap_or_default(),
    })
}

fn reason(task: &Task) -> String {
    let container = task.containers().iter().find(|c| c.reason().is_some() || c.exit_code().is_some());
    let why = task.stopped_reason().unwrap_or("stopped").to_owned();
    match container {
        Some(c) if c.reason().is_some_and(|r| r != why) => {
            format!("{why}: {}", c.reason().unwrap_or_default())
        }
        Some(c) if c.exit_code().is_some() => {
            format!("{why} with code {}", c.exit_code().unwrap_or_default())
        }
        _ => why,
    }
}

/// A time of the SDK's.
pub(crate) fn instant(at: &aws_sdk_ecs::primitives::DateTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(at.as_nanos()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
