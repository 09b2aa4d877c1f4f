//! ECS task definitions of WorkerPools: one container, Fargate.

use std::collections::BTreeMap;

use aws_sdk_ecs::types::{
    Compatibility, ContainerDefinition, CpuArchitecture, EphemeralStorage, KeyValuePair, LogConfiguration,
    LogDriver, NetworkMode, OsFamily, RuntimePlatform, Secret, Tag, TaskDefinitionFamilyStatus,
    TaskDefinitionStatus,
};

use crate::{AwsError, Class};

/// ECS task definitions, as far as the controller calls them.
#[derive(Clone, Debug)]
pub struct TaskDefinitions {
    client: aws_sdk_ecs::Client,
}

/// A task definition as the controller wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDefinition {
    /// Family; revisions count up within it.
    pub family: String,
    /// Image.
    pub image: String,
    /// ECS units.
    pub cpu: i64,
    /// MiB.
    pub memory_mib: i64,
    /// GiB beyond Fargate's 20.
    pub ephemeral_storage_gib: Option<i64>,
    /// `X86_64` or `ARM64`.
    pub architecture: String,
    /// Seconds between SIGTERM and SIGKILL.
    pub stop_timeout_seconds: i32,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// Environment that ECS fills from secrets: name to ARN.
    pub secrets: BTreeMap<String, String>,
    /// Role of the worker.
    pub task_role_arn: String,
    /// Role of ECS.
    pub execution_role_arn: String,
    /// CloudWatch log group and its region; without one, nothing is kept.
    pub logs: Option<(String, String)>,
    /// Docker labels.
    pub labels: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// The newest revision of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDefinitionState {
    /// ARN with revision.
    pub arn: String,
    /// Docker labels of its container.
    pub labels: BTreeMap<String, String>,
}

impl TaskDefinitions {
    /// With the process's own role.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_ecs::Client::new(config) }
    }

    /// The newest active revision of a family.
    ///
    /// # Errors
    /// When a call fails otherwise than by absence.
    pub async fn latest(&self, family: &str) -> Result<Option<TaskDefinitionState>, AwsError> {
        // Asking for an unknown family is a plain client error on AWS, so its existence is asked first.
        let families = self.client.list_task_definition_families().family_prefix(family);
        let families = families.status(TaskDefinitionFamilyStatus::Active).send().await;
        let families = families.map_err(|e| AwsError::new("list task definition families", family, &e))?;
        if !families.families().iter().any(|f| f == family) {
            return Ok(None);
        }
        let found = self.client.describe_task_definition().task_definition(family).send().await;
        let answer = match found.map_err(|e| AwsError::new("describe task definition", family, &e)) {
            Ok(answer) => answer,
            Err(e) if e.class == Class::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(answer.task_definition.and_then(|definition| {
            let active = definition.status.is_none_or(|s| s == TaskDefinitionStatus::Active);
            let container = definition.container_definitions.unwrap_or_default().into_iter().next();
            let labels = container.and_then(|c| c.docker_labels).unwrap_or_default();
            active.then(|| TaskDefinitionState {
                arn: definition.task_definition_arn.unwrap_or_default(),
                labels: labels.into_iter().collect(),
            })
        }))
    }

    /// Registers a revision; returns its ARN.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn register(&self, wanted: &TaskDefinition) -> Result<String, AwsError> {
        let platform = RuntimePlatform::builder()
            .operating_system_family(OsFamily::Linux)
            .cpu_architecture(CpuArchitecture::from(wanted.architecture.as_str()))
            .build();
        let request = self
            .client
            .register_task_definition()
            .family(&wanted.family)
            .requires_compatibilities(Compatibility::Fargate)
            .network_mode(NetworkMode::Awsvpc)
            .cpu(wanted.cpu.to_string())
            .memory(wanted.memory_mib.to_string())
            .runtime_platform(platform)
            .task_role_arn(&wanted.task_role_arn)
            .execution_role_arn(&wanted.execution_role_arn)
            .set_ephemeral_storage(wanted.ephemeral_storage_gib.map(storage))
            .container_definitions(container(wanted)?)
            .set_tags(Some(
                wanted.tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect(),
            ));
        let answer = request
            .send()
            .await
            .map_err(|e| AwsError::new("register task definition", &wanted.family, &e))?;
        Ok(answer.task_definition.and_then(|d| d.task_definition_arn).unwrap_or_default())
    }

    /// Takes all active revisions of a family out of use.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn deregister_all(&self, family: &str) -> Result<(), AwsError> {
        let mut pages = self.client.list_task_definitions().family_prefix(family);
        pages = pages.status(TaskDefinitionStatus::Active);
        let mut arns = pages.into_paginator().items().send();
        while let Some(arn) = arns.next().await {
            let arn = arn.map_err(|e| AwsError::new("list task definitions", family, &e))?;
            // The prefix also matches longer families.
            let name = arn.rsplit('/').next().and_then(|n| n.rsplit_once(':')).map(|(f, _)| f);
            if name != Some(family) {
                continue;
            }
            let done = self.client.deregister_task_definition().task_definition(&arn).send().await;
            done.map_err(|e| AwsError::new("deregister task definition", &arn, &e))?;
        }
        Ok(())
    }
}

fn storage(gib: i64) -> EphemeralStorage {
    EphemeralStorage::builder().size_in_gib(i32::try_from(gib).unwrap_or(200)).build()
}

fn container(wanted: &TaskDefinition) -> Result<ContainerDefinition, AwsError> {
    let mut secrets = vec![];
    for (name, arn) in &wanted.secrets {
        secrets
            .push(Secret::builder().name(name).value_from(arn).build().map_err(|e| unbuildable(wanted, &e))?);
    }
    let logs = match &wanted.logs {
        None => None,
        Some((group, region)) => Some(
            LogConfiguration::builder()
                .log_driver(LogDriver::Awslogs)
                .options("awslogs-group", group)
                .options("awslogs-region", region)
                .options("awslogs-stream-prefix", &wanted.family)
                .build()
                .map_err(|e| unbuildable(wanted, &e))?,
        ),
    };
    let environment =
        wanted.environment.iter().map(|(k, v)| KeyValuePair::builder().name(k).value(v).build());
    Ok(ContainerDefinition::builder()
        .name("worker")
        .image(&wanted.image)
        .essential(true)
        .set_environment(Some(environment.collect()))
        .set_secrets(Some(secrets))
        .set_log_configuration(logs)
        .stop_timeout(wanted.stop_timeout_seconds)
        .set_docker_labels(Some(wanted.labels.clone().into_iter().collect()))
        .build())
}

fn unbuildable(wanted: &TaskDefinition, error: &impl std::fmt::Display) -> AwsError {
    AwsError {
        operation: "build task definition",
        object: wanted.family.clone(),
        class: Class::Permanent,
        message: error.to_string(),
    }
}
