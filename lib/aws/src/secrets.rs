//! Secrets as the controller owns them: written and deleted, never read.

use std::collections::BTreeMap;

use aws_sdk_secretsmanager::types::Tag;

use crate::{AwsError, Class};

/// Secrets Manager, as far as the controller calls it.
#[derive(Clone, Debug)]
pub struct Secrets {
    client: aws_sdk_secretsmanager::Client,
}

/// A secret without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretState {
    /// ARN.
    pub arn: String,
    /// The current version.
    pub version: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

impl Secrets {
    /// With the process's own role.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_secretsmanager::Client::new(config) }
    }

    /// The secret of that name, if there is one that is not being deleted.
    ///
    /// # Errors
    /// When the call fails otherwise than by absence.
    pub async fn describe(&self, name: &str) -> Result<Option<SecretState>, AwsError> {
        let found = self.client.describe_secret().secret_id(name).send().await;
        let answer = match found.map_err(|e| AwsError::new("describe secret", name, &e)) {
            Ok(answer) => answer,
            Err(e) if e.class == Class::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if answer.deleted_date.is_some() {
            return Ok(None);
        }
        let stages = answer.version_ids_to_stages.unwrap_or_default();
        let version = stages.into_iter().find(|(_, s)| s.iter().any(|s| s == "AWSCURRENT")).map(|(id, _)| id);
        let tags = answer.tags.unwrap_or_default();
        let tags = tags.into_iter().filter_map(|t| Some((t.key?, t.value.unwrap_or_default()))).collect();
        Ok(Some(SecretState { arn: answer.arn.unwrap_or_default(), version, tags }))
    }

    /// Creates a secret.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn create(
        &self,
        name: &str,
        value: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), AwsError> {
        let request = self.client.create_secret().name(name).secret_string(value).set_tags(Some(list(tags)));
        request.send().await.map(drop).map_err(|e| AwsError::new("create secret", name, &e))
    }

    /// Writes a new version and tags that tell where it came from.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn put(
        &self,
        name: &str,
        value: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), AwsError> {
        let put = self.client.put_secret_value().secret_id(name).secret_string(value).send().await;
        put.map_err(|e| AwsError::new("put secret value", name, &e))?;
        let tagged = self.client.tag_resource().secret_id(name).set_tags(Some(list(tags))).send().await;
        tagged.map(drop).map_err(|e| AwsError::new("tag secret", name, &e))
    }

    /// Deletes a secret at once; one that is gone already is fine.
    ///
    /// # Errors
    /// When the call fails otherwise.
    pub async fn delete(&self, name: &str) -> Result<(), AwsError> {
        let done =
            self.client.delete_secret().secret_id(name).force_delete_without_recovery(true).send().await;
        match done.map_err(|e| AwsError::new("delete secret", name, &e)) {
            Err(e) if e.class != Class::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Names of all secrets under a prefix.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn under(&self, prefix: &str) -> Result<Vec<String>, AwsError> {
        use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
        let filter = Filter::builder().key(FilterNameStringType::Name).values(prefix).build();
        let mut pages = self.client.list_secrets().filters(filter).into_paginator().send();
        let mut names = vec![];
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| AwsError::new("list secrets under", prefix, &e))?;
            let found = page.secret_list.unwrap_or_default().into_iter().filter_map(|s| s.name);
            names.extend(found.filter(|n| n.starts_with(prefix)));
        }
        Ok(names)
    }
}

fn list(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect()
}
