//! The one number of an ECS service that the scaler owns: its desired count.

use std::collections::HashMap;

use crate::AwsError;

/// What ECS takes in one DescribeServices.
const BATCH: usize = 10;

/// Sizes services.
#[derive(Clone, Debug)]
pub struct ServiceScaler {
    client: aws_sdk_ecs::Client,
}

/// Counts of an active service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceCounts {
    /// Desired.
    pub desired: u32,
    /// Running.
    pub running: u32,
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
                let found =
                    ServiceCounts { desired: count(s.desired_count()), running: count(s.running_count()) };
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
