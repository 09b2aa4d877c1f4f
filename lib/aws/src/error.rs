//! SDK errors become meaning here, and only here.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

/// What a failed call means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// May go through when tried again: timeouts, connection errors, 5xx.
    Transient,
    /// Slow down.
    Throttled,
    /// The object is not there.
    NotFound,
    /// It is there already, or changed meanwhile.
    Conflict,
    /// Our role may not.
    Denied,
    /// AWS has no room now.
    Capacity,
    /// The same call can never succeed.
    Permanent,
}

impl Class {
    /// For metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Capacity => "capacity",
            Self::Permanent => "permanent",
        }
    }
}

/// A failed call: what we wanted of which object, what it means, AWS's own words.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {object}: {message}")]
pub struct AwsError {
    /// Bare verb phrase, such as `create queue`.
    pub operation: &'static str,
    /// Name, URL or ARN.
    pub object: String,
    /// What it means.
    pub class: Class,
    /// AWS's code and message.
    pub message: String,
}

impl AwsError {
    /// Classifies an SDK error.
    pub fn new<E, R>(operation: &'static str, object: impl Into<String>, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let (class, message) = match error {
            SdkError::ServiceError(service) => {
                let (code, text) =
                    (service.err().code().unwrap_or("Unknown"), service.err().message().unwrap_or(""));
                let class = match classify(code) {
                    // A gateway on the way answers without a code of AWS's.
                    Class::Permanent if code == "Unknown" => Class::Transient,
                    class => class,
                };
                (class, format!("{code}: {text}"))
            }
            SdkError::ConstructionFailure(_) => (Class::Permanent, "the request could not be built".into()),
            SdkError::TimeoutError(_) => (Class::Transient, "timed out".into()),
            SdkError::DispatchFailure(failure) => match refused_credentials(error) {
                Some(why) => (Class::Denied, why),
                None => (Class::Transient, format!("no connection: {failure:?}")),
            },
            _ => (Class::Transient, "no readable answer".into()),
        };
        Self { operation, object: object.into(), class, message }
    }

    /// One entry of a call for many that AWS refused while it took the others.
    #[must_use]
    pub fn refused(
        operation: &'static str,
        object: impl Into<String>,
        code: Option<&str>,
        message: Option<&str>,
    ) -> Self {
        let code = code.unwrap_or("Unknown");
        let message = format!("{code}: {}", message.unwrap_or_default());
        Self { operation, object: object.into(), class: classify(code), message }
    }
}

/// Why the source of credentials refuses for good, if that is why the call was not even sent.
fn refused_credentials(error: &(dyn Error + 'static)) -> Option<String> {
    let mut sources = std::iter::successors(Some(error), |&error: &&(dyn Error + 'static)| error.source());
    let credentials = sources.find_map(|source| source.downcast_ref::<CredentialsError>())?;
    let CredentialsError::InvalidConfiguration(_) = credentials else { return None };
    let reasons =
        std::iter::successors(credentials.source(), |&error: &&(dyn Error + 'static)| error.source());
    Some(reasons.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

fn classify(code: &str) -> Class {
    let code = code.rsplit(['.', '#']).next().unwrap_or(code);
    match code {
        "RequestThrottled" | "OverLimit" => Class::Throttled,
        c if c.contains("Throttl") || c.contains("TooManyRequests") || c == "SlowDown" => Class::Throttled,
        "RESOURCE_NOT_FOUND" | "NoSuchKey" | "NoSuchBucket" | "NoSuchEntity" | "NonExistentQueue"
        | "QueueDoesNotExist" => Class::NotFound,
        c if c.contains("NotFound") || c.ends_with("DoesNotExist") => Class::NotFound,
        "PreconditionFailed" | "ConditionalRequestConflict" | "QueueNameExists" | "QueueDeletedRecently" => {
            Class::Conflict
        }
        c if c.contains("AlreadyExists") || c.contains("ResourceExists") || c.contains("Conflict") => {
            Class::Conflict
        }
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "SignatureDoesNotMatch"
        | "ExpiredTokenException"
        | "InvalidAccessKeyId" => Class::Denied,
        c if c.contains("Capacity") || c.contains("LimitExceeded") => Class::Capacity,
        "InternalError" | "InternalFailure" | "ServiceUnavailable" | "ServerException" | "RequestTimeout" => {
            Class::Transient
        }
        _ => Class::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_protocols_mean_the_same() {
        assert_eq!(classify("AWS.SimpleQueueService.NonExistentQueue"), Class::NotFound);
        assert_eq!(classify("com.amazonaws.sqs#QueueDoesNotExist"), Class::NotFound);
        assert_eq!(classify("ThrottlingException"), Class::Throttled);
        assert_eq!(classify("PreconditionFailed"), Class::Conflict);
        assert_eq!(classify("AccessDenied"), Class::Denied);
        assert_eq!(classify("InvalidParameterException"), Class::Permanent);
    }
}
