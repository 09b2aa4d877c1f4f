//! What Fargate adds to a container of an ECS task.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_ecs::types::TaskDefinition;

use super::container::{Launch, Spec};
use super::{FargateConfig, ImageCommand};

/// What the task definition says about one container; `default()` is a container outside ECS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TaskTraits {
    pub(super) role_arn: Option<String>,
    pub(super) stop_timeout: Option<Duration>,
    pub(super) memory_limit_mib: Option<u64>,
}

const FAMILY: &str = "com.amazonaws.ecs.task-definition-family";
const REVISION: &str = "com.amazonaws.ecs.task-definition-version";
const CONTAINER: &str = "com.amazonaws.ecs.container-name";

/// Fargate's own default.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the task definition that the container's labels name. Neither role nor stop timeout reach the engine any other way.
pub(super) async fn traits(ecs: &aws_sdk_ecs::Client, spec: &Spec) -> anyhow::Result<TaskTraits> {
    let (Some(family), Some(revision)) = (spec.label(FAMILY), spec.label(REVISION)) else {
        return Ok(TaskTraits::default());
    };
    let name = format!("{family}:{revision}");
    let answer = ecs
        .describe_task_definition()
        .task_definition(&name)
        .send()
        .await
        .with_context(|| format!("describe task definition {name}"))?;
    let definition = answer.task_definition().with_context(|| format!("task definition {name} is empty"))?;
    traits_of(definition, spec.label(CONTAINER).unwrap_or_default())
}

fn traits_of(definition: &TaskDefinition, container: &str) -> anyhow::Result<TaskTraits> {
    let described = definition.container_definitions().iter().find(|c| c.name() == Some(container));
    if described.is_some_and(|c| !c.entry_point().is_empty()) {
        bail!(
            "container {container:?} sets entryPoint, which local Fargate does not run: set command instead"
        );
    }
    let seconds = described.and_then(aws_sdk_ecs::types::ContainerDefinition::stop_timeout);
    let own_memory = described.and_then(aws_sdk_ecs::types::ContainerDefinition::memory);
    let memory = own_memory
        .and_then(|mib| u64::try_from(mib).ok())
        .or_else(|| definition.memory().and_then(|mib| mib.parse().ok()));
    Ok(TaskTraits {
        role_arn: definition.task_role_arn().filter(|arn| !arn.is_empty()).map(str::to_owned),
        stop_timeout: seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs),
        memory_limit_mib: memory.filter(|mib| *mib > 0),
    })
}

/// Whether the container is part of an ECS task.
pub(super) fn is_task(spec: &Spec) -> bool {
    spec.label(FAMILY).is_some()
}

/// Program, arguments and the whole environment of a container.
pub(super) fn launch(
    config: &FargateConfig,
    image: &ImageCommand,
    spec: &Spec,
    identity: &Identity<'_>,
    traits: &TaskTraits,
) -> Launch {
    let mut env = base_env(identity);
    env.extend(image.env.clone());
    env.extend(spec.env.iter().flatten().filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        // The endpoint's name for "the machine that runs me".
        Some((key.to_owned(), value.replace("host.docker.internal", "127.0.0.1")))
    }));
    if is_task(spec) {
        // The endpoint's credentials belong to no role and are refused when IAM is enforced.
        env.remove("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        env.remove("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        if let Some(role) = &traits.role_arn {
            env.extend(config.credentials.env_for(role));
        }
        env.insert("AWS_ENDPOINT_URL".to_owned(), config.aws_endpoint.clone());
        env.insert("AWS_REGION".to_owned(), config.region.clone());
        env.insert("AWS_DEFAULT_REGION".to_owned(), config.region.clone());
        env.insert("AWS_EXECUTION_ENV".to_owned(), "AWS_ECS_FARGATE".to_owned());
    }
    Launch {
        program: image.program.clone(),
        args: spec.cmd.clone().filter(|cmd| !cmd.is_empty()).unwrap_or_else(|| image.args.clone()),
        env,
        memory_limit_mib: traits.memory_limit_mib,
        stop_timeout: traits.stop_timeout.unwrap_or(STOP_TIMEOUT),
    }
}

/// Who the container is.
pub(super) struct Identity<'a> {
    pub(super) id: &'a str,
    pub(super) home: &'a Path,
}

/// Nothing of the engine's own environment reaches a task, but the search path.
fn base_env(identity: &Identity<'_>) -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    BTreeMap::from([
        ("PATH".to_owned(), path),
        ("HOME".to_owned(), identity.home.display().to_string()),
        ("HOSTNAME".to_owned(), identity.id.chars().take(12).collect()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ecs::types::ContainerDefinition;

    #[test]
    fn traits_come_from_the_named_container() {
        let definition = TaskDefinition::builder()
            .task_role_arn("arn:aws:iam::000000000000:role/worker")
            .memory("1024")
            .container_definitions(ContainerDefinition::builder().name("sidecar").stop_timeout(2).build())
            .container_definitions(ContainerDefinition::builder().name("worker").stop_timeout(60).build())
            .build();
        let expected = TaskTraits {
            role_arn: Some("arn:aws:iam::000000000000:role/worker".into()),
            stop_timeout: Some(Duration::from_secs(60)),
            memory_limit_mib: Some(1024),
        };
        assert_eq!(traits_of(&definition, "worker").unwrap(), expected);
    }

    #[test]
    fn an_entry_point_is_refused_by_name() {
        let container = ContainerDefinition::builder().name("worker").entry_point("/bin/sh").build();
        let definition = TaskDefinition::builder().container_definitions(container).build();
        let error = traits_of(&definition, "worker").unwrap_err().to_string();
        assert!(error.contains("\"worker\"") && error.contains("entryPoint"), "{error}");
    }
}
