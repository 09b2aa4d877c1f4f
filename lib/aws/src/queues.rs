//! Queues as the controller owns them: created, described, corrected, deleted.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_sqs::types::QueueAttributeName;

use crate::{AwsError, Class};

/// SQS, as far as the controller calls it.
#[derive(Clone, Debug)]
pub struct Queues {
    client: aws_sdk_sqs::Client,
}

/// A queue as SQS describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// URL.
    pub url: String,
    /// ARN.
    pub arn: String,
    /// All attributes, by SQS's names.
    pub attributes: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

impl Queues {
    /// With the process's own role.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_sqs::Client::new(config) }
    }

    /// The queue of that name, if there is one.
    ///
    /// # Errors
    /// When a call fails otherwise than by the queue's absence.
    pub async fn describe(&self, name: &str) -> Result<Option<QueueState>, AwsError> {
        let found = self.client.get_queue_url().queue_name(name).send().await;
        let url = match found.map_err(|e| AwsError::new("find queue", name, &e)) {
            Ok(answer) => answer.queue_url.unwrap_or_default(),
            Err(e) if e.class == Class::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let request =
            self.client.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::All);
        let attributes: BTreeMap<String, String> =
            match request.send().await.map_err(|e| AwsError::new("describe queue", name, &e)) {
                Ok(answer) => {
                    let pairs = answer.attributes.unwrap_or_default();
                    pairs.into_iter().map(|(k, v)| (k.as_str().to_owned(), v)).collect()
                }
                Err(e) if e.class == Class::NotFound => return Ok(None),
                Err(e) => return Err(e),
            };
        let tags = self.client.list_queue_tags().queue_url(&url).send().await;
        let tags = tags.map_err(|e| AwsError::new("list tags of queue", name, &e))?.tags.unwrap_or_default();
        let arn = attributes.get("QueueArn").cloned().unwrap_or_default();
        Ok(Some(QueueState { url, arn, attributes, tags: tags.into_iter().collect() }))
    }

    /// Creates a queue.
    ///
    /// # Errors
    /// When the call fails; [`Class::Conflict`] when a queue of the name has other attributes.
    pub async fn create(
        &self,
        name: &str,
        attributes: &BTreeMap<String, String>,
        tags: &BTreeMap<String, String>,
    ) -> Result<String, AwsError> {
        let request = self.client.create_queue().queue_name(name);
        let request = request.set_attributes(Some(named(attributes))).set_tags(Some(map(tags)));
        let answer = request.send().await.map_err(|e| AwsError::new("create queue", name, &e))?;
        Ok(answer.queue_url.unwrap_or_default())
    }

    /// Sets attributes.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_attributes(
        &self,
        url: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), AwsError> {
        let request =
            self.client.set_queue_attributes().queue_url(url).set_attributes(Some(named(attributes)));
        request.send().await.map(drop).map_err(|e| AwsError::new("set attributes of queue", url, &e))
    }

    /// Sets tags.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn tag(&self, url: &str, tags: &BTreeMap<String, String>) -> Result<(), AwsError> {
        let request = self.client.tag_queue().queue_url(url).set_tags(Some(map(tags)));
        request.send().await.map(drop).map_err(|e| AwsError::new("tag queue", url, &e))
    }

    /// Deletes a queue; one that is gone already is fine.
    ///
    /// # Errors
    /// When the call fails otherwise.
    pub async fn delete(&self, url: &str) -> Result<(), AwsError> {
        let done = self.client.delete_queue().queue_url(url).send().await;
        match done.map_err(|e| AwsError::new("delete queue", url, &e)) {
            Err(e) if e.class != Class::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

fn named(attributes: &BTreeMap<String, String>) -> HashMap<QueueAttributeName, String> {
    attributes.iter().map(|(k, v)| (QueueAttributeName::from(k.as_str()), v.clone())).collect()
}

fn map(tags: &BTreeMap<String, String>) -> HashMap<String, String> {
    tags.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}
