//! S3 rights of one attempt: a session of the data role, narrowed to what the attempt writes and reads.

use dagwright_core::ids::{AttemptId, VersionId};
use serde_json::json;

use crate::{AwsError, Class};

/// Shortest session that STS gives.
const SESSION_SECONDS: i32 = 900;
/// Longest session policy that STS takes, in characters.
const MAX_POLICY: usize = 2048;

/// Assumes the data role on behalf of attempts.
#[derive(Clone, Debug)]
pub struct TaskCredentials {
    client: aws_sdk_sts::Client,
    role_arn: String,
}

/// What an attempt may do: write its outputs, read what it wrote and its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskAccess<'a> {
    /// Bucket.
    pub bucket: &'a str,
    /// Namespace of the outputs.
    pub namespace: &'a str,
    /// The attempt.
    pub attempt: AttemptId,
    /// One version per output.
    pub outputs: &'a [VersionId],
    /// Namespace and version of each dataset that is read.
    pub inputs: &'a [(&'a str, VersionId)],
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

    /// A session that may do what `access` says and nothing else.
    ///
    /// # Errors
    /// When the call fails, or the attempt has more outputs and inputs than a session policy can name.
    pub async fn session(&self, access: &TaskAccess<'_>) -> Result<Session, AwsError> {
        let policy = policy(access);
        if policy.len() > MAX_POLICY {
            let message = format!("its policy has {} characters, STS takes {MAX_POLICY}", policy.len());
            let object = format!("the session of attempt {}", access.attempt);
            return Err(AwsError { operation: "narrow", object, class: Class::Permanent, message });
        }
        let answer = self
            .client
            .assume_role()
            .role_arn(&self.role_arn)
            .role_session_name(format!("dw-{}", access.attempt))
            .duration_seconds(SESSION_SECONDS)
            .policy(policy)
            .send()
            .await
            .map_err(|error| AwsError::new("assume role", &self.role_arn, &error))?;
        if let Some(percent) = answer.session_token_utilization {
            // AWS limits the packed size as well, and only the answer says how near to it we are.
            metrics::histogram!("dagwright_session_token_utilization_percent").record(f64::from(percent));
        }
        let Some(keys) = answer.credentials else {
            let message = "the answer holds no credentials".into();
            let (operation, class) = ("assume role", Class::Transient);
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

/// The session policy. `GetObject` on the outputs is there for the attempt's own objects: a writer whose answer got lost looks at
/// what it wrote.
///
/// The range is left to a wildcard: with it spelled out, eight outputs at maximal names exceed the 2,048 characters that STS
/// takes. The attempt's id, drawn at random, makes the prefix as exact as the range would.
///
/// A write that does not ask for `If-None-Match` is denied, so that not even the attempt itself can overwrite what a pointer names
/// by then. The parts of a multipart upload cannot carry that header, hence they are denied as well.
fn policy(access: &TaskAccess<'_>) -> String {
    let TaskAccess { bucket, namespace, attempt, outputs, inputs } = access;
    let written = |version| format!("arn:aws:s3:::{bucket}/{namespace}/v/{version}/*/{attempt}/*");
    let read =
        |(namespace, version): &(&str, VersionId)| format!("arn:aws:s3:::{bucket}/{namespace}/v/{version}/*");
    let mut statements = Vec::new();
    if !outputs.is_empty() {
        let outputs: Vec<String> = outputs.iter().map(written).collect();
        statements.push(
            json!({"Effect": "Allow", "Action": ["s3:PutObject", "s3:GetObject"], "Resource": outputs}),
        );
    }
    if !inputs.is_empty() {
        let inputs: Vec<String> = inputs.iter().map(read).collect();
        statements.push(json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": inputs}));
    }
    let unconditional = json!({"Null": {"s3:if-none-match": "true"}});
    statements.push(
        json!({"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*", "Condition": unconditional}),
    );
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: &str = "ffffffff-ffff-ffff-ffff-ffffffffffff";

    #[test]
    fn eight_outputs_and_inputs_at_maximal_names_fit_a_session_policy() {
        let (bucket, namespace, input) = ("b".repeat(63), "n".repeat(63), "i".repeat(63));
        for outputs in 0..=8 {
            let (outputs, inputs) = (vec![max(); outputs], vec![(input.as_str(), max()); 8 - outputs]);
            let access = TaskAccess {
                bucket: &bucket,
                namespace: &namespace,
                attempt: max(),
                outputs: &outputs,
                inputs: &inputs,
            };
            let length = policy(&access).len();
            assert!(length <= MAX_POLICY, "{} outputs: {length} characters", outputs.len());
        }
    }

    #[test]
    fn a_policy_names_the_attempts_own_prefixes_and_its_inputs_versions() {
        let access = TaskAccess {
            bucket: "data",
            namespace: "demo",
            attempt: max(),
            outputs: &[max()],
            inputs: &[("shared", max())],
        };
        let policy: serde_json::Value = serde_json::from_str(&policy(&access)).expect("a policy is JSON");
        let statement = |n: usize| &policy["Statement"][n];
        assert_eq!(statement(0)["Resource"], json!([format!("arn:aws:s3:::data/demo/v/{MAX}/*/{MAX}/*")]));
        assert_eq!(statement(1)["Resource"], json!([format!("arn:aws:s3:::data/shared/v/{MAX}/*")]));
        assert_eq!(statement(1)["Action"], "s3:GetObject", "inputs are read, never written");
        assert_eq!(
            (&statement(2)["Effect"], &statement(2)["Action"]),
            (&json!("Deny"), &json!("s3:PutObject"))
        );
    }

    fn max<T: std::str::FromStr>() -> T
    where
        T::Err: std::fmt::Debug,
    {
        MAX.parse().expect("a uuid")
    }
}
