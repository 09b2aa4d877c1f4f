//! The one number of an ECS service that the scaler owns: its desired count; and what ECS says of it.

use std::collections::HashMap;

use aws_sdk_ecs::types::ServiceEvent;
use time::OffsetDateTime;

use crate::{AwsError, worker_tasks::instant};

/// What ECS takes in one DescribeServices.
const BATCH: usize = 10;

/// Sizes services.
#[derive(Clone, Debug)]
pub struct ServiceScaler {
    client: aws_sdk_ecs::Client,
}

/// Counts of an active service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCounts {
    /// Desired.
    pub desired: u32,
    /// Running.
    pub running: u32,
    /// The newest event by which ECS says that it cannot run what is desired.
    pub trouble: Option<(OffsetDateTime, String)>,
}

impl ServiceScaler {
    /// A scaler with the process's configuration.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_ecs::Client::new(config) }
    }

    /// Counts per service ARN. A service that is not there, or is being deleted, is not in the answer.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn counts(
        &self,
        cluster: &str,
        arns: &[String],
    ) -> Result<HashMap<String, ServiceCounts>, AwsError> {
        let mut counts = HashMap::new();
        for batch in arns.chunks(BATCH) {
            let answer = self
                .client
                .describe_services()
                .cluster(cluster)
                .set_services(Some(batch.to_vec()))
                .send()
                .await
                .map_err(|error| AwsError::new("describe services of cluster", cluster, &error))?;
            let active = answer.services().iter().filter(|s| s.status() == Some("ACTIVE"));
            counts.extend(active.filter_map(|s| {
                let count = |n: i32| u32::try_from(n).unwrap_or(0);
                let found = ServiceCounts {
                    desired: count(s.desired_count()),
                    running: count(s.running_count()),
                    trouble: s.events().iter().filter_map(trouble).max(),
                };
                Some((s.service_arn()?.to_owned(), found))
            }));
        }
        Ok(counts)
    }

    /// Sets the desired count, and nothing else.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_desired(&self, cluster: &str, arn: &str, desired: u32) -> Result<(), AwsError> {
        self.client
            .update_service()
            .cluster(cluster)
            .service(arn)
            .desired_count(i32::try_from(desired).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| AwsError::new("scale service", arn, &error))?;
        Ok(())
    }
}

/// ECS words all of these alike: "unable to place a task", "unable to assume the role", "unable to consistently start tasks".
fn trouble(event: &ServiceEvent) -> Option<(OffsetDateTime, String)> {
    let (at, message) = (instant(event.created_at()?), event.message()?);
    (message.contains("unable to") || message.contains("failed to")).then(|| (at, message.to_owned()))
}
