//! What Terraform makes in a real account, made again at every start because the endpoint may have forgotten it.

use std::collections::BTreeMap;

use anyhow::Context;
use aws_config::SdkConfig;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus,
    LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration, VersioningConfiguration,
};

use super::policy::{RoleSpec, Scope};

/// What to make, and where.
#[derive(Clone, Debug)]
pub struct BootstrapConfig {
    /// The AWS endpoint.
    pub endpoint: String,
    /// Region of all of it.
    pub region: String,
    /// Name of the stack: part of every role's name.
    pub stack: String,
    /// Bucket of the datasets.
    pub bucket: String,
    /// ECS cluster of the workers.
    pub cluster: String,
    /// Log group of the workers.
    pub log_group: String,
}

/// What now exists.
#[derive(Clone, Debug)]
pub struct Bootstrapped {
    /// By short name: `controller`, `dispatcher`, `query`, `rpc`, `worker-task`, `worker-execution`, `data`.
    pub role_arns: BTreeMap<&'static str, String>,
    /// Subnets of the default VPC.
    pub subnets: Vec<String>,
    /// Default security group of the default VPC.
    pub security_groups: Vec<String>,
    /// As configured.
    pub bucket: String,
    /// As configured.
    pub cluster: String,
}

/// Makes roles, bucket, cluster and log group; what exists already is brought to the same state.
pub async fn bootstrap(config: BootstrapConfig) -> anyhow::Result<Bootstrapped> {
    let aws = super::root_config(&config.endpoint, &config.region);
    let scope = Scope {
        region: &config.region,
        stack: &config.stack,
        bucket: &config.bucket,
        cluster: &config.cluster,
        log_group: &config.log_group,
    };
    let (role_arns, (), (), ()) = tokio::try_join!(
        Box::pin(roles(&aws, &scope)),
        Box::pin(bucket(&aws, &config.bucket)),
        Box::pin(cluster(&aws, &config.cluster)),
        Box::pin(log_group(&aws, &config.log_group)),
    )?;
    Ok(Bootstrapped {
        role_arns,
        subnets: DEFAULT_SUBNETS.map(str::to_owned).to_vec(),
        security_groups: vec![DEFAULT_SECURITY_GROUP.to_owned()],
        bucket: config.bucket,
        cluster: config.cluster,
    })
}

/// The default VPC of the pinned endpoint has fixed ids.
const DEFAULT_SUBNETS: [&str; 2] = ["subnet-00000001", "subnet-00000002"];
const DEFAULT_SECURITY_GROUP: &str = "sg-00000001";

async fn roles(aws: &SdkConfig, scope: &Scope<'_>) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let iam = aws_sdk_iam::Client::new(aws);
    let mut arns = BTreeMap::new();
    for spec in scope.roles() {
        let name = scope.role_name(spec.key);
        role(&iam, &name, &spec).await.with_context(|| format!("make role {name}"))?;
        arns.insert(spec.key, scope.role_arn(spec.key));
    }
    Ok(arns)
}

async fn role(iam: &aws_sdk_iam::Client, name: &str, spec: &RoleSpec) -> anyhow::Result<()> {
    let trust = spec.trust.to_string();
    let created = iam.create_role().role_name(name).assume_role_policy_document(&trust).send().await;
    if let Err(error) = created {
        let error = error.into_service_error();
        if !error.is_entity_already_exists_exception() {
            return Err(error).context("create it");
        }
        let update = iam.update_assume_role_policy().role_name(name).policy_document(&trust);
        update.send().await.context("update its trust policy")?;
    }
    let policy = iam
        .put_role_policy()
        .role_name(name)
        .policy_name("dagwright")
        .policy_document(spec.policy.to_string());
    policy.send().await.context("put its policy")?;
    Ok(())
}

async fn bucket(aws: &SdkConfig, name: &str) -> anyhow::Result<()> {
    let s3 = aws_sdk_s3::Client::new(aws);
    let made = async {
        if let Err(error) = s3.create_bucket().bucket(name).send().await {
            let error = error.into_service_error();
            if !error.is_bucket_already_owned_by_you() && !error.is_bucket_already_exists() {
                return Err(error).context("create it");
            }
        }
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let versioning = s3.put_bucket_versioning().bucket(name).versioning_configuration(enabled);
        versioning.send().await.context("enable versioning")?;
        let lifecycle =
            s3.put_bucket_lifecycle_configuration().bucket(name).lifecycle_configuration(lifecycle()?);
        lifecycle.send().await.context("put its lifecycle")?;
        anyhow::Ok(())
    };
    made.await.with_context(|| format!("make bucket {name}"))
}

/// Objects are written once and deleted by the sweeper alone: only what failed or was deleted expires by itself.
fn lifecycle() -> anyhow::Result<BucketLifecycleConfiguration> {
    let rule = LifecycleRule::builder()
        .id("leftovers")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("").build())
        .abort_incomplete_multipart_upload(
            AbortIncompleteMultipartUpload::builder().days_after_initiation(1).build(),
        )
        .noncurrent_version_expiration(NoncurrentVersionExpiration::builder().noncurrent_days(7).build())
        .build()
        .context("build the lifecycle rule")?;
    BucketLifecycleConfiguration::builder().rules(rule).build().context("build the lifecycle")
}

async fn cluster(aws: &SdkConfig, name: &str) -> anyhow::Result<()> {
    // Creating a cluster that exists returns it.
    let create =
        aws_sdk_ecs::Client::new(aws).create_cluster().cluster_name(name).capacity_providers("FARGATE");
    let create = create.capacity_providers("FARGATE_SPOT").send().await;
    create.with_context(|| format!("make ECS cluster {name}"))?;
    Ok(())
}

async fn log_group(aws: &SdkConfig, name: &str) -> anyhow::Result<()> {
    let logs = aws_sdk_cloudwatchlogs::Client::new(aws);
    let made = async {
        if let Err(error) = logs.create_log_group().log_group_name(name).send().await {
            let error = error.into_service_error();
            if !error.is_resource_already_exists_exception() {
                return Err(error).context("create it");
            }
        }
        let retention = logs.put_retention_policy().log_group_name(name).retention_in_days(30);
        retention.send().await.context("put its retention")?;
        anyhow::Ok(())
    };
    made.await.with_context(|| format!("make log group {name}"))
}
