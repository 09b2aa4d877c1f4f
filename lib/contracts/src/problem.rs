//! Errors on the wire: RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, for people (`title`, `detail`) and for programs (`code`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `about:blank`-style URI of the problem's kind: `https://dagwright.dev/problems/{code}`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Stable, PascalCase: `StaleLease`, `WrongPool`, `ObjectMissing`.
    pub code: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// Short and the same for every occurrence.
    pub title: String,
    /// This occurrence: the object, what happened, what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Problem {
    /// A problem of a stable code.
    #[must_use]
    pub fn new(status: u16, code: &str, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("https://dagwright.dev/problems/{code}"),
            code: code.into(),
            status,
            title: title.into(),
            detail: detail.into(),
        }
    }
}
