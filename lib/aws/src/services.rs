//! ECS services of WorkerPools. Their desired count belongs to the scaler: nothing here changes it after creation.

use std::collections::BTreeMap;

use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, CapacityProviderStrategyItem, DeploymentConfiguration,
    NetworkConfiguration, PropagateTags, ServiceField, Tag,
};

use crate::{AwsError, Class};

/// ECS services, as far as the controller calls them.
#[derive(Clone, Debug)]
pub struct Services {
    client: aws_sdk_ecs::Client,
}

/// A service as the controller wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Task definition with revision.
    pub task_definition_arn: String,
    /// Subnets and security groups.
    pub network: Network,
    /// Shares of capacity providers.
    pub capacity: Vec<Capacity>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// Where tasks are attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Subnets.
    pub subnets: Vec<String>,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// Whether tasks get a public address.
    pub assign_public_ip: bool,
}

/// A capacity provider's share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capacity {
    /// Name.
    pub provider: String,
    /// Share above the bases.
    pub weight: i32,
    /// Tasks placed first.
    pub base: i32,
}

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs tasks.
    Active,
    /// It was deleted and its last tasks stop.
    Draining,
}

/// A service as ECS describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceState {
    /// ARN.
    pub arn: String,
    /// Where it is in its life.
    pub life: Life,
    /// Task definition with revision.
    pub task_definition_arn: String,
    /// Subnets and security groups.
    pub network: Network,
    /// Shares of capacity providers.
    pub capacity: Vec<Capacity>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// What the scaler wants.
    pub desired: i32,
    /// What runs.
    pub running: i32,
}

impl Services {
    /// With the process's own role.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_ecs::Client::new(config) }
    }

    /// Whether an active cluster of that name exists. A local endpoint creates unknown clusters silently; AWS does not.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn cluster_exists(&self, cluster: &str) -> Result<bool, AwsError> {
        let answer = self.client.describe_clusters().clusters(cluster).send().await;
        let answer = answer.map_err(|e| AwsError::new("describe cluster", cluster, &e))?;
        Ok(answer.clusters().iter().any(|c| c.status() == Some("ACTIVE")))
    }

    /// The service of that name, unless it is gone.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn describe(&self, cluster: &str, name: &str) -> Result<Option<ServiceState>, AwsError> {
        let request =
            self.client.describe_services().cluster(cluster).services(name).include(ServiceField::Tags);
        let answer = match request.send().await.map_err(|e| AwsError::new("describe service", name, &e)) {
            Ok(answer) => answer,
            Err(e) if e.class == Class::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let service =
            answer.services.unwrap_or_default().into_iter().find(|s| s.service_name() == Some(name));
        Ok(service.and_then(state))
    }

    /// Creates a service with so many tasks to begin with.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn create(&self, cluster: &str, wanted: &Service, first_count: i32) -> Result<(), AwsError> {
        let failed = |m: String| permanent("create service", &wanted.name, m);
        let request = self
            .client
            .create_service()
            .cluster(cluster)
            .service_name(&wanted.name)
            .task_definition(&wanted.task_definition_arn)
            .desired_count(first_count)
            .set_capacity_provider_strategy(Some(strategy(&wanted.capacity).map_err(failed)?))
            .network_configuration(network(&wanted.network).map_err(failed)?)
            // Old workers may go before new ones come: leases are handed back, nothing is lost.
            .deployment_configuration(
                DeploymentConfiguration::builder().minimum_healthy_percent(0).maximum_percent(200).build(),
            )
            .propagate_tags(PropagateTags::Service)
            .set_tags(Some(
                wanted.tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect(),
            ));
        request.send().await.map(drop).map_err(|e| AwsError::new("create service", &wanted.name, &e))
    }

    /// Brings task definition, network and capacity up to date; the desired count stays the scaler's.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn update(&self, cluster: &str, wanted: &Service) -> Result<(), AwsError> {
        let failed = |m: String| permanent("update service", &wanted.name, m);
        let request = self
            .client
            .update_service()
            .cluster(cluster)
            .service(&wanted.name)
            .task_definition(&wanted.task_definition_arn)
            .set_capacity_provider_strategy(Some(strategy(&wanted.capacity).map_err(failed)?))
            .network_configuration(network(&wanted.network).map_err(failed)?);
        request.send().await.map(drop).map_err(|e| AwsError::new("update service", &wanted.name, &e))
    }

    /// Deletes a service and stops its tasks; one that is gone already is fine.
    ///
    /// # Errors
    /// When the call fails otherwise.
    pub async fn delete(&self, cluster: &str, name: &str) -> Result<(), AwsError> {
        let done = self.client.delete_service().cluster(cluster).service(name).force(true).send().await;
        match done.map_err(|e| AwsError::new("delete service", name, &e)) {
            Err(e) if e.class != Class::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

fn state(service: aws_sdk_ecs::types::Service) -> Option<ServiceState> {
    let life = match service.status() {
        Some("ACTIVE") | None => Life::Active,
        Some("DRAINING") => Life::Draining,
        Some(_) => return None,
    };
    let vpc = service.network_configuration.and_then(|n| n.awsvpc_configuration);
    let network = vpc.map(|v| Network {
        assign_public_ip: v.assign_public_ip == Some(AssignPublicIp::Enabled),
        subnets: v.subnets,
        security_groups: v.security_groups.unwrap_or_default(),
    });
    let capacity = service.capacity_provider_strategy.unwrap_or_default().into_iter();
    let capacity =
        capacity.map(|c| Capacity { provider: c.capacity_provider, weight: c.weight, base: c.base });
    let tags = service.tags.unwrap_or_default();
    Some(ServiceState {
        arn: service.service_arn.unwrap_or_default(),
        life,
        task_definition_arn: service.task_definition.unwrap_or_default(),
        network: network.unwrap_or_default(),
        capacity: capacity.collect(),
        tags: tags.into_iter().filter_map(|t| Some((t.key?, t.value.unwrap_or_default()))).collect(),
        desired: service.desired_count,
        running: service.running_count,
    })
}

pub(crate) fn strategy(capacity: &[Capacity]) -> Result<Vec<CapacityProviderStrategyItem>, String> {
    let item = |c: &Capacity| {
        let builder = CapacityProviderStrategyItem::builder();
        builder
            .capacity_provider(&c.provider)
            .weight(c.weight)
            .base(c.base)
            .build()
            .map_err(|e| e.to_string())
    };
    capacity.iter().map(item).collect()
}

pub(crate) fn network(wanted: &Network) -> Result<NetworkConfiguration, String> {
    let public = if wanted.assign_public_ip { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled };
    let vpc = AwsVpcConfiguration::builder()
        .set_subnets(Some(wanted.subnets.clone()))
        .set_security_groups(Some(wanted.security_groups.clone()))
        .assign_public_ip(public)
        .build()
        .map_err(|e| e.to_string())?;
    Ok(NetworkConfiguration::builder().awsvpc_configuration(vpc).build())
}

pub(crate) fn permanent(operation: &'static str, object: &str, message: String) -> AwsError {
    AwsError { operation, object: object.into(), class: Class::Permanent, message }
}
