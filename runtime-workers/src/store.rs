//! Where an attempt writes: its own prefixes, with rights that it fetches when it first needs them.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use dagwright_aws::{
    AwsError, Class,
    object_write::{ObjectWriter, RenewError, Renewing, SessionCredentials, Written},
};
use dagwright_contracts::tasks::{Fence, Output, WrittenObject};
use dagwright_core::objects::object_key;
use sha2::{Digest as _, Sha256};

use crate::{
    backoff::Backoff,
    operators::{OperatorError, Reason},
    tasks_api::{ApiError, TasksApi},
};

/// How long trouble of the store is waited out before it costs an attempt: longer than a role's session takes to be renewed
/// after the identity service was away.
const PATIENCE: Duration = Duration::from_secs(90);

/// Writes one attempt's objects.
#[derive(Debug)]
pub struct TaskStore {
    config: aws_config::SdkConfig,
    api: TasksApi,
    fence: Fence,
    /// Made when an object is to be written: a client parses all root certificates, which costs more than a task that writes nothing.
    writer: OnceLock<ObjectWriter>,
}

impl TaskStore {
    /// The rights are those of `fence`; nothing is fetched yet.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, api: TasksApi, fence: Fence) -> Self {
        Self { config: config.clone(), api, fence, writer: OnceLock::new() }
    }

    fn writer(&self) -> &ObjectWriter {
        self.writer.get_or_init(|| {
            let (api, fence) = (self.api.clone(), self.fence);
            let credentials = Renewing::new(move || {
                let api = api.clone();
                async move {
                    let session = api.credentials(fence).await.map_err(unavailable)?;
                    Ok(SessionCredentials {
                        access_key_id: session.access_key_id,
                        secret_access_key: session.secret_access_key,
                        session_token: session.session_token,
                        expires_at: session.expires_at.into(),
                    })
                }
            });
            ObjectWriter::new(&self.config, credentials)
        })
    }

    /// Writes the `n`th object of an output.
    ///
    /// # Errors
    /// When the store does not take it, or holds other bytes at the key.
    pub async fn write(
        &self,
        output: &Output,
        n: usize,
        body: Bytes,
        rows: u64,
    ) -> Result<WrittenObject, OperatorError> {
        let key = object_key(&output.prefix, n);
        let (bytes, sha256) = (body.len() as u64, STANDARD.encode(Sha256::digest(&body)));
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.writer().create(&output.bucket, &key, body.clone(), &sha256).await {
                Ok(Written::Created | Written::AlreadyThere) => {
                    return Ok(WrittenObject { key, bytes, sha256, rows });
                }
                Err(error) if passes(error.class) && Instant::now() < give_up => {
                    tracing::warn!(%error, "object not written, trying again");
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(error) => return Err(refused(&error)),
            }
        }
    }
}

/// A lease that is not current any more gets no rights, and no waiting changes that.
fn unavailable(error: ApiError) -> RenewError {
    if error.is_retryable() { RenewError::Away(error.into()) } else { RenewError::Refused(error.into()) }
}

/// Trouble that goes by without another attempt: the store, or whoever hands out its credentials, is away.
fn passes(class: Class) -> bool {
    matches!(class, Class::Transient | Class::Throttled)
}

fn refused(error: &AwsError) -> OperatorError {
    // Another attempt writes under another prefix with other rights, so only what can never work is final.
    let retryable = error.class != Class::Permanent;
    OperatorError::new(Reason::Storage, error.to_string()).retryable(retryable)
}
