//! Whether an object is what somebody says it is, and which objects lie in a bucket.

use aws_sdk_s3::{
    Client,
    operation::head_object::HeadObjectError,
    types::{ChecksumMode, Delete, ObjectIdentifier},
};

use crate::{AwsError, Class};

/// Looks at objects without reading them.
#[derive(Clone, Debug)]
pub struct ObjectChecker {
    client: Client,
}

/// What the store says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Size.
    pub bytes: u64,
    /// SHA-256 in base64, if it was written with one.
    pub sha256: Option<String>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Key.
    pub key: String,
    /// When it was written, in seconds since 1970.
    pub written_unix: i64,
}

impl ObjectChecker {
    /// A checker with the process's configuration.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        // Bucket names as host names do not resolve at a custom endpoint.
        let path_style = config.endpoint_url().is_some();
        let config = aws_sdk_s3::config::Builder::from(config).force_path_style(path_style).build();
        Self { client: Client::from_conf(config) }
    }

    /// What lies at a key; none when nothing does. A role without the right to list a bucket is told `Denied` for a key
    /// that is not there: that is an error here, not an absence.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn look(&self, bucket: &str, key: &str) -> Result<Option<Stored>, AwsError> {
        let answer = self
            .client
            .head_object()
            .bucket(bucket)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        match answer {
            Ok(head) => {
                let bytes = head.content_length().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
                Ok(Some(Stored { bytes, sha256: head.checksum_sha256 }))
            }
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(None),
            Err(error) => {
                let error = AwsError::new("look at object", format!("s3://{bucket}/{key}"), &error);
                if error.class == Class::NotFound { Ok(None) } else { Err(error) }
            }
        }
    }

    /// A page of a bucket's objects behind `after`, in key order.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list(&self, bucket: &str, after: Option<&str>) -> Result<Vec<Listed>, AwsError> {
        let answer = self
            .client
            .list_objects_v2()
            .bucket(bucket)
            .set_start_after(after.map(str::to_owned))
            .send()
            .await
            .map_err(|error| AwsError::new("list bucket", bucket, &error))?;
        let listed = answer.contents.unwrap_or_default().into_iter().filter_map(|object| {
            let written_unix = object.last_modified()?.secs();
            Some(Listed { key: object.key?, written_unix })
        });
        Ok(listed.collect())
    }

    /// Deletes objects, at most 1,000.
    ///
    /// # Errors
    /// When the call fails, or the store refuses one of them: it names the first.
    pub async fn delete(&self, bucket: &str, keys: &[String]) -> Result<(), AwsError> {
        let mut delete = Delete::builder().quiet(true);
        for key in keys.iter().take(1000) {
            delete = delete.objects(ObjectIdentifier::builder().key(key).build().expect("the key is set"));
        }
        let delete = delete.build().expect("objects are set");
        let answer = self
            .client
            .delete_objects()
            .bucket(bucket)
            .delete(delete)
            .send()
            .await
            .map_err(|error| AwsError::new("delete objects of bucket", bucket, &error))?;
        match answer.errors.unwrap_or_default().into_iter().next() {
            None => Ok(()),
            Some(refused) => Err(AwsError::refused(
                "delete object",
                format!("s3://{bucket}/{}", refused.key.unwrap_or_default()),
                refused.code.as_deref(),
                refused.message.as_deref(),
            )),
        }
    }
}
