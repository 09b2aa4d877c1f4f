//! The receiving end of a pool's queue: receive, extend, delete, in batches of at most ten.

use std::time::Duration;

use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, MessageSystemAttributeName,
};
use futures::{StreamExt as _, stream};

use crate::AwsError;

/// What SQS takes in one call.
pub const BATCH: usize = 10;

/// Calls of one kind that are under way at once.
const AT_ONCE: usize = 4;

/// SQS ends the visibility of a message 12 h after it was received, whatever is asked.
const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 3600);

/// Receives from one queue.
#[derive(Clone, Debug)]
pub struct QueueReceiver {
    client: aws_sdk_sqs::Client,
    url: String,
}

/// A message as received.
#[derive(Clone, Debug)]
pub struct ReceivedMessage {
    /// SQS's id of the message.
    pub id: String,
    /// Opens this delivery of it.
    pub handle: ReceiptHandle,
    /// The text.
    pub body: String,
    /// How often it was received, this time included.
    pub receive_count: u32,
}

/// Opens one delivery of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReceiptHandle(pub String);

impl QueueReceiver {
    /// Receives from the queue at `url`.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, url: impl Into<String>) -> Self {
        Self { client: aws_sdk_sqs::Client::new(config), url: url.into() }
    }

    /// Waits for messages and takes at most `max` (1 to 10) of them.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<ReceivedMessage>, AwsError> {
        let max = i32::try_from(max.clamp(1, BATCH)).expect("clamped to 10");
        let wait = i32::try_from(wait.as_secs().min(20)).expect("at most 20");
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(max)
            .wait_time_seconds(wait)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .map_err(|error| AwsError::new("receive from queue", &self.url, &error))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(received).collect())
    }

    /// Deletes messages. What could not be deleted comes again, and is then stale.
    ///
    /// # Errors
    /// When a call fails; the others are made nevertheless.
    pub async fn delete(&self, handles: &[ReceiptHandle]) -> Result<(), AwsError> {
        let mut calls = Vec::with_capacity(handles.len().div_ceil(BATCH));
        for batch in handles.chunks(BATCH) {
            calls.push(self.delete_batch(batch));
        }
        side_by_side(calls).await
    }

    async fn delete_batch(&self, handles: &[ReceiptHandle]) -> Result<(), AwsError> {
        let mut call = self.client.delete_message_batch().queue_url(&self.url);
        for (n, handle) in handles.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(n.to_string()).receipt_handle(&handle.0);
            call = call.entries(entry.build().expect("id and handle are set"));
        }
        call.send().await.map_err(|error| AwsError::new("delete from queue", &self.url, &error))?;
        Ok(())
    }

    /// Hides messages for `visibility` from now; zero shows them at once. A handle that is no longer valid is no error:
    /// its message is deleted or with somebody else.
    ///
    /// # Errors
    /// When a call fails; the others are made nevertheless.
    pub async fn hide(&self, handles: &[ReceiptHandle], visibility: Duration) -> Result<(), AwsError> {
        let seconds = i32::try_from(visibility.min(MAX_VISIBILITY).as_secs()).expect("at most 12 h");
        let mut calls = Vec::with_capacity(handles.len().div_ceil(BATCH));
        for batch in handles.chunks(BATCH) {
            calls.push(self.hide_batch(batch, seconds));
        }
        side_by_side(calls).await
    }

    async fn hide_batch(&self, handles: &[ReceiptHandle], seconds: i32) -> Result<(), AwsError> {
        let mut call = self.client.change_message_visibility_batch().queue_url(&self.url);
        for (n, handle) in handles.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(n.to_string())
                .receipt_handle(&handle.0)
                .visibility_timeout(seconds);
            call = call.entries(entry.build().expect("id and handle are set"));
        }
        call.send().await.map_err(|error| AwsError::new("extend messages of queue", &self.url, &error))?;
        Ok(())
    }
}

/// Makes calls, some at a time; the first error of them all.
async fn side_by_side<F: Future<Output = Result<(), AwsError>>>(calls: Vec<F>) -> Result<(), AwsError> {
    let outcomes: Vec<_> = stream::iter(calls).buffer_unordered(AT_ONCE).collect().await;
    outcomes.into_iter().collect()
}

fn received(message: aws_sdk_sqs::types::Message) -> Option<ReceivedMessage> {
    let receive_count = message
        .attributes
        .as_ref()
        .and_then(|all| all.get(&MessageSystemAttributeName::ApproximateReceiveCount))
        .and_then(|count| count.parse().ok())
        .unwrap_or(1);
    Some(ReceivedMessage {
        id: message.message_id.unwrap_or_default(),
        handle: ReceiptHandle(message.receipt_handle?),
        body: message.body.unwrap_or_default(),
        receive_count,
    })
}
