//! S3 rights of one attempt: a session of the data role, narrowed to what the attempt writes.

use dagwright_core::ids::{AttemptId, VersionId};

use crate::AwsError;

/// Shortest session that STS gives.
const SESSION_SECONDS: i32 = 900;

/// Assumes the data role on behalf of attempts.
#[derive(Clone, Debug)]
pub struct TaskCredentials {
    client: aws_sdk_sts::Client,
    role_arn: String,
}

/// What an attempt may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteAccess<'a> {
    /// Bucket.
    pub bucket: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// The attempt.
    pub attempt: AttemptId,
    /// One version per output.
    pub versions: &'a [VersionId],
}

/// Keys of a session.
pub struct Session {
    /// Access key id.
    pub access_key_id: String,
    /// Secret.
    pub secret_access_key: String,
    /// Session token.
    pub session_token: String,
    /// End, in seconds since 1970.
    pub expires_at_unix: i64,
}

impl TaskCredentials {
    /// Assumes `role_arn` with the process's configuration.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, role_arn: impl Into<String>) -> Self {
        Self { client: aws_sdk_sts::Client::new(config), role_arn: role_arn.into() }
    }

    /// A session that may write what `access` says and nothing else.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn session(&self, access: &WriteAccess<'_>) -> Result<Session, AwsError> {
        let answer = self
            .client
            .assume_role()
            .role_arn(&self.role_arn)
            .role_session_name(format!("dw-{}", access.attempt))
            .duration_seconds(SESSION_SECONDS)
            .policy(policy(access))
            .send()
            .await
            .map_err(|error| AwsError::new("assume role", &self.role_arn, &error))?;
        let Some(keys) = answer.credentials else {
            let message = "the answer holds no credentials".into();
            let (operation, class) = ("assume role", crate::Class::Transient);
            return Err(AwsError { operation, object: self.role_arn.clone(), class, message });
        };
        Ok(Session {
            expires_at_unix: keys.expiration().secs(),
            access_key_id: keys.access_key_id,
            secret_access_key: keys.secret_access_key,
            session_token: keys.session_token,
        })
    }
}

/// The session policy. GetObject is there for the attempt's own objects: a writer whose answer got lost looks at what it wrote.
///
/// The range is left to a wildcard: with it spelled out, eight outputs at maximal names exceed the 2,048 characters that STS
/// takes. The attempt's id, drawn at random, makes the prefix as exact as the range would.
fn policy(access: &WriteAccess<'_>) -> String {
    let WriteAccess { bucket, namespace, attempt, versions } = access;
    let prefix = |version| format!("arn:aws:s3:::{bucket}/{namespace}/v/{version}/*/{attempt}/*");
    let resources: Vec<String> = versions.iter().map(prefix).collect();
    serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["s3:PutObject", "s3:GetObject"], "Resource": resources}],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_outputs_at_maximal_names_fit_a_session_policy() {
        let (bucket, namespace) = ("b".repeat(63), "n".repeat(63));
        let versions = [max::<VersionId>(); 8];
        let access = WriteAccess {
            bucket: &bucket,
            namespace: &namespace,
            attempt: max::<AttemptId>(),
            versions: &versions,
        };
        assert!(policy(&access).len() <= 2048, "{} characters", policy(&access).len());
    }

    #[test]
    fn a_policy_names_the_attempts_own_prefixes() {
        let versions = [max::<VersionId>()];
        let access = WriteAccess {
            bucket: "data",
            namespace: "demo",
            attempt: max::<AttemptId>(),
            versions: &versions,
        };
        let id = "ffffffff-ffff-ffff-ffff-ffffffffffff";
        assert!(policy(&access).contains(&format!("\"arn:aws:s3:::data/demo/v/{id}/*/{id}/*\"")));
    }

    fn max<T: std::str::FromStr>() -> T
    where
        T::Err: std::fmt::Debug,
    {
        "ffffffff-ffff-ffff-ffff-ffffffffffff".parse().expect("a uuid")
    }
}
