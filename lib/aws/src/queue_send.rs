//! The sending end of a pool's queue, and how deep a dead-letter queue is.

use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};

use crate::AwsError;

/// What SQS takes in one call.
pub const BATCH: usize = 10;

/// Sends to queues that it is given by URL.
#[derive(Clone, Debug)]
pub struct QueueSender {
    client: aws_sdk_sqs::Client,
}

/// A message that SQS did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Which of the bodies.
    pub index: usize,
    /// SQS's code and message.
    pub why: String,
}

impl QueueSender {
    /// A sender with the process's configuration.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_sqs::Client::new(config) }
    }

    /// Sends at most [`BATCH`] messages; the answer names those that were not taken, each for itself.
    ///
    /// # Errors
    /// When the call as a whole fails; then it is not known which were taken.
    pub async fn send(&self, url: &str, bodies: &[String]) -> Result<Vec<Unsent>, AwsError> {
        let mut call = self.client.send_message_batch().queue_url(url);
        for (n, body) in bodies.iter().take(BATCH).enumerate() {
            let entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body);
            call = call.entries(entry.build().expect("id and body are set"));
        }
        let answer = call.send().await.map_err(|error| AwsError::new("send to queue", url, &error))?;
        let unsent = answer.failed().iter().filter_map(|f| {
            let why = format!("{}: {}", f.code(), f.message().unwrap_or_default());
            Some(Unsent { index: f.id().parse().ok()?, why })
        });
        Ok(unsent.collect())
    }

    /// Messages in a queue, those in flight included. Approximate, as SQS counts.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn depth(&self, url: &str) -> Result<u64, AwsError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .set_attribute_names(Some(names.to_vec()))
            .send()
            .await
            .map_err(|error| AwsError::new("count messages of queue", url, &error))?;
        let attributes = answer.attributes.unwrap_or_default();
        Ok(names.iter().filter_map(|name| attributes.get(name)?.parse::<u64>().ok()).sum())
    }
}
