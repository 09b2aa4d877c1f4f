//! Where objects lie: `{namespace}/v/{version}/{range}/{attempt}/{n}.parquet`, final from the first byte.

use crate::{
    ids::{AttemptId, VersionId},
    range::BlockRange,
};

/// The prefix under which one attempt may write one output's objects. Ends with `/`.
#[must_use]
pub fn attempt_prefix(namespace: &str, version: VersionId, range: BlockRange, attempt: AttemptId) -> String {
    format!("{namespace}/v/{version}/{}/{attempt}/", range.object_name())
}

/// The key of the `n`th object of an attempt's output.
#[must_use]
pub fn object_key(prefix: &str, n: usize) -> String {
    format!("{prefix}{n}.parquet")
}
