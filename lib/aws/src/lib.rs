//! Adapters to AWS: one narrow struct per use, listing only the calls that we make.
//!
//! Nothing here knows which endpoint it talks to: `AWS_ENDPOINT_URL`, region and credentials come from the environment,
//! as the SDK's default chain reads them.
#![warn(missing_docs)]

pub mod error;
pub mod object_check;
pub mod object_read;
pub mod object_write;
pub mod queue_receive;
pub mod queue_send;
pub mod queues;
pub mod secret_read;
pub mod secrets;
pub mod service_scale;
pub mod services;
pub mod task_credentials;
pub mod task_definitions;
pub mod worker_tasks;

pub use aws_config::SdkConfig;
pub use error::{AwsError, Class};

/// The SDK configuration of this process, with timeouts: a call that hangs is a call that failed.
pub async fn config() -> aws_config::SdkConfig {
    let timeouts = aws_config::timeout::TimeoutConfig::builder()
        .connect_timeout(std::time::Duration::from_secs(3))
        // Longest call that we make on purpose: a 20 s SQS long poll.
        .operation_attempt_timeout(std::time::Duration::from_secs(30))
        .operation_timeout(std::time::Duration::from_secs(60))
        .build();
    aws_config::defaults(aws_config::BehaviorVersion::latest()).timeout_config(timeouts).load().await
}
