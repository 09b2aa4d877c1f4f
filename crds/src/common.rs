//! What several kinds share: references, durations, retries, priorities, the head of every status.

use std::{fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A DNS label: lower-case letters, digits and `-`, beginning and ending with a letter or digit.
pub const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// The name of an operator, an output or a column: snake_case.
pub const SNAKE: &str = "^[a-z][a-z0-9_]*$";
/// An ARN.
pub const ARN: &str = "^arn:[a-z0-9-]+:[a-z0-9-]+:[a-z0-9-]*:[0-9]{0,12}:.+$";
/// A role's ARN.
pub const ROLE_ARN: &str = "^arn:[a-z0-9-]+:iam::[0-9]{12}:role/.+$";
/// 32 bytes in hex.
pub const HASH32: &str = "^0x[0-9a-f]{64}$";

/// A reference to an object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object, in the same namespace. Example: `ingest`.
    #[schemars(regex(pattern = LABEL), length(max = 63))]
    pub name: String,
}

/// A key of a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, in the same namespace. It must carry the label that the field's description names. Example: `rpc-keys`.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"), length(max = 253))]
    pub name: String,
    /// Key inside the Secret's data. Example: `alchemy`.
    #[schemars(regex(pattern = r"^[-._a-zA-Z0-9]+$"), length(max = 253))]
    pub key: String,
}

/// An object without fields: the body of a union's key that needs no more to be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}

/// A duration as Go writes it, without days: `30s`, `5m`, `1h30m`. The text is kept as written.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GoDuration(pub String);

/// A duration that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write it like `30s`, `5m` or `168h`")]
pub struct NotADuration(pub String);

impl GoDuration {
    /// The pattern in the schema.
    pub const PATTERN: &'static str = "^([0-9]{1,9}(ms|s|m|h))+$";

    /// The duration.
    ///
    /// # Errors
    /// When the text does not match [`Self::PATTERN`]; an apiserver refuses such objects, a test might make one.
    pub fn parse(&self) -> Result<Duration, NotADuration> {
        let bad = || NotADuration(self.0.clone());
        let mut total = Duration::ZERO;
        let mut rest = self.0.as_str();
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let n: u64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let (ms_each, len) = match rest {
                r if r.starts_with("ms") => (1, 2),
                r if r.starts_with('s') => (1_000, 1),
                r if r.starts_with('m') => (60_000, 1),
                r if r.starts_with('h') => (3_600_000, 1),
                _ => return Err(bad()),
            };
            rest = &rest[len..];
            total = total.saturating_add(Duration::from_millis(n.saturating_mul(ms_each)));
        }
        Ok(total)
    }

    /// The duration, or `default` when the field was left out or cannot be read.
    #[must_use]
    pub fn or(this: Option<&Self>, default: Duration) -> Duration {
        this.and_then(|d| d.parse().ok()).unwrap_or(default)
    }
}

impl fmt::Debug for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GoDuration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": Self::PATTERN, "maxLength": 32 })
    }
}

/// What becomes of AWS resources or data when the object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They are removed with the object.
    Delete,
    /// They stay.
    Retain,
}

/// Which tasks go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Priority {
    /// Before all others.
    High,
    /// The default.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

impl Priority {
    /// The number under which the state stores it: smaller goes first.
    #[must_use]
    pub fn rank(self) -> i16 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}

/// How failed attempts are repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Attempts per task, the first one included. Default: 8. Example: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<u32>,
    /// Wait before the second attempt; doubles with each further one, with jitter. Default: `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<GoDuration>,
    /// Longest wait between attempts. Default: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<GoDuration>,
}

impl Retry {
    /// Attempts per task.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.max_attempts.unwrap_or(8)
    }
    /// Wait before the second attempt.
    #[must_use]
    pub fn first_wait(&self) -> Duration {
        GoDuration::or(self.backoff.as_ref(), Duration::from_secs(5))
    }
    /// Longest wait between attempts.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        GoDuration::or(self.max_backoff.as_ref(), Duration::from_secs(600))
    }
}

/// For `skip_serializing_if`: a false flag is not written.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, ms) in
            [("30s", 30_000), ("1h30m", 5_400_000), ("250ms", 250), ("168h", 604_800_000), ("1m1ms", 60_001)]
        {
            assert_eq!(GoDuration(text.into()).parse(), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "1d", "-1s", "1.5h", "s", "1s ", "5mm"] {
            assert!(GoDuration(text.into()).parse().is_err(), "{text}");
        }
    }
}
