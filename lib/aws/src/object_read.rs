//! Reading objects by range, for the query service.

use std::ops::Range;

use aws_sdk_s3::{Client, primitives::ByteStream};

use crate::{AwsError, Class};

/// Reads objects of any bucket that the process's role may read.
#[derive(Clone, Debug)]
pub struct ObjectReader {
    client: Client,
}

/// Bytes of an object on their way.
#[derive(Debug)]
pub struct ObjectPart {
    /// The bytes asked for.
    pub body: ByteStream,
    /// Size of the whole object, when S3 said it.
    pub object_bytes: Option<u64>,
}

impl ObjectReader {
    /// A reader with the process's configuration.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        // Bucket names as host names do not resolve at a custom endpoint.
        let path_style = config.endpoint_url().is_some();
        let config = aws_sdk_s3::config::Builder::from(config).force_path_style(path_style).build();
        Self { client: Client::from_conf(config) }
    }

    /// Reads `range` of an object, or all of it.
    ///
    /// # Errors
    /// With [`Class::NotFound`] when there is no such object.
    pub async fn read(
        &self,
        bucket: &str,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<ObjectPart, AwsError> {
        let header = range.map(|r| format!("bytes={}-{}", r.start, r.end.saturating_sub(1)));
        let answer = self.client.get_object().bucket(bucket).key(key).set_range(header).send().await;
        let answer = answer.map_err(|error| {
            let mut failed = AwsError::new("read object", format!("s3://{bucket}/{key}"), &error);
            if error
                .as_service_error()
                .is_some_and(aws_sdk_s3::operation::get_object::GetObjectError::is_no_such_key)
            {
                failed.class = Class::NotFound;
            }
            failed
        })?;
        let whole = answer.content_range().and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let object_bytes = if answer.content_range().is_some() { whole } else { length };
        Ok(ObjectPart { body: answer.body, object_bytes })
    }
}
