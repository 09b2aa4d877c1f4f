//! Reading one version of a secret: what the RPC gateway does with provider URLs.

use std::fmt;

use crate::{AwsError, Class};

/// Reads secrets by ARN.
#[derive(Clone, Debug)]
pub struct SecretReader {
    client: aws_sdk_secretsmanager::Client,
}

/// A secret's value. It is never printed.
pub struct SecretValue(String);

impl SecretValue {
    /// The value.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

impl SecretReader {
    /// With the process's own role.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_secretsmanager::Client::new(config) }
    }

    /// Reads a version of a secret.
    ///
    /// # Errors
    /// When the call fails, or the secret holds bytes instead of text.
    pub async fn read(&self, arn: &str, version: &str) -> Result<SecretValue, AwsError> {
        const OPERATION: &str = "read secret";
        let answer = self
            .client
            .get_secret_value()
            .secret_id(arn)
            .version_id(version)
            .send()
            .await
            .map_err(|error| AwsError::new(OPERATION, arn, &error))?;
        answer.secret_string.map(SecretValue).ok_or_else(|| AwsError {
            operation: OPERATION,
            object: arn.into(),
            class: Class::Permanent,
            message: "it holds no text".into(),
        })
    }
}
