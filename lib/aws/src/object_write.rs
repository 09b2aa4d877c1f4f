//! Writing an object once, at its final key, with credentials that somebody else renews.

use std::{future::Future, sync::Arc, time::Duration};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use aws_sdk_s3::{
    config::IdentityCache,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, ChecksumMode},
};
use bytes::Bytes;

use crate::{AwsError, Class};

/// Sessions are renewed this long before they end, or up to half of it later, as the SDK jitters: neither a long upload nor a clock that is minutes off meets the end.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Of one renewal; the function that fetches has its own, shorter limits.
const RENEW_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes objects under the keys that its credentials allow.
#[derive(Clone, Debug)]
pub struct ObjectWriter {
    client: aws_sdk_s3::Client,
}

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The object is there now.
    Created,
    /// The same bytes were there already: an earlier try of ours got through though its answer did not.
    AlreadyThere,
}

impl ObjectWriter {
    /// Writes with `credentials`, everything else as `config` says.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, credentials: impl ProvideCredentials + 'static) -> Self {
        let cache = IdentityCache::lazy().buffer_time(RENEW_BEFORE).load_timeout(RENEW_TIMEOUT).build();
        let config = aws_sdk_s3::config::Builder::from(config)
            .credentials_provider(credentials)
            .identity_cache(cache)
            .build();
        Self { client: aws_sdk_s3::Client::from_conf(config) }
    }

    /// Creates the object if nothing is at `key`. `sha256` is the base64 digest of `body`; S3 refuses bytes that do not match.
    ///
    /// # Errors
    /// When the call fails, or other bytes are at the key ([`Class::Conflict`]).
    pub async fn create(
        &self,
        bucket: &str,
        key: &str,
        body: Bytes,
        sha256: &str,
    ) -> Result<Written, AwsError> {
        let object = format!("s3://{bucket}/{key}");
        let put = self
            .client
            .put_object()
            .bucket(bucket)
            .key(key)
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(sha256)
            .content_type("application/vnd.apache.parquet")
            .body(ByteStream::from(body))
            .send()
            .await;
        let Err(error) = put else { return Ok(Written::Created) };
        let error = AwsError::new("write", &object, &error);
        if error.class == Class::Conflict && self.checksum(bucket, key).await?.as_deref() == Some(sha256) {
            return Ok(Written::AlreadyThere);
        }
        Err(error)
    }

    async fn checksum(&self, bucket: &str, key: &str) -> Result<Option<String>, AwsError> {
        let head = self
            .client
            .head_object()
            .bucket(bucket)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|error| AwsError::new("look at", format!("s3://{bucket}/{key}"), &error))?;
        Ok(head.checksum_sha256)
    }
}

/// Why no session was to be had.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Nor ever will be: calls fail as [`Class::Denied`].
    #[error("credentials are refused")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// For now: calls fail as [`Class::Transient`].
    #[error("credentials cannot be had now")]
    Away(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A source of session credentials as a function that fetches them; the SDK caches what it returns until a while before
/// it expires.
pub struct Renewing<F>(Arc<F>);

impl<F> Renewing<F> {
    /// Credentials are fetched by `fetch`.
    pub fn new(fetch: F) -> Self {
        Self(Arc::new(fetch))
    }
}

impl<F> std::fmt::Debug for Renewing<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Renewing")
    }
}

impl<F, Fut> ProvideCredentials for Renewing<F>
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<SessionCredentials, RenewError>> + Send,
{
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let session = (self.0)().await.map_err(|error| match error {
                RenewError::Refused(_) => CredentialsError::invalid_configuration(error),
                RenewError::Away(_) => CredentialsError::provider_error(error),
            })?;
            Ok(Credentials::new(
                session.access_key_id,
                session.secret_access_key,
                Some(session.session_token),
                Some(session.expires_at),
                "dagwright-tasks-credentials",
            ))
        })
    }
}

/// Keys of one STS session.
pub struct SessionCredentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret.
    pub secret_access_key: String,
    /// Session token.
    pub session_token: String,
    /// When the session ends.
    pub expires_at: std::time::SystemTime,
}
