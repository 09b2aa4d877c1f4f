//! The result of a check.

use std::fmt;

use serde::Serialize;

use crate::{encode::Unencodable, profile::Proof};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Verified,
    Unverifiable { reason: String, doubt: Doubt },
    Failed { field: String, expected: String, got: String },
}

/// What keeps a check from deciding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// The chain: no answer of any provider could be proven.
    Chain,
    /// This answer, such as a type or a field that no rule knows: another provider's may be provable.
    Answer,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified => f.write_str("verified"),
            Self::Unverifiable { reason, .. } => write!(f, "unverifiable: {reason}"),
            Self::Failed { field, expected, got } => {
                write!(f, "failed: {field}: expected {expected}, got {got}")
            }
        }
    }
}

/// Why a check did not pass, before the profile has judged it.
#[derive(Debug)]
pub(super) enum Fault {
    Mismatch { field: String, expected: String, got: String },
    Unknown(String),
}

impl Fault {
    pub(super) fn mismatch(
        field: impl Into<String>,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        Self::Mismatch { field: field.into(), expected: format!("{expected}"), got: format!("{got}") }
    }

    pub(super) fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown(reason.into())
    }

    /// A part that cannot be encoded: unknown types are nobody's fault, contradictions are the provider's.
    pub(super) fn unencodable(path: &str, error: &Unencodable) -> Self {
        match error {
            Unencodable::UnknownType(kind) => {
                Self::unknown(format!("{path} has type {kind:#x}, which the profile does not know"))
            }
            Unencodable::Missing(field) => {
                Self::mismatch(format!("{path}.{field}"), "a value that its type needs", "nothing")
            }
            Unencodable::Contradiction { field, expected, got } => {
                Self::mismatch(format!("{path}.{field}"), expected, got)
            }
        }
    }
}

/// `Ok` when equal, else a mismatch on that field. The name is only built when needed.
pub(super) fn same<T: PartialEq + fmt::Debug>(
    expected: &T,
    got: &T,
    field: impl FnOnce() -> String,
) -> Result<(), Fault> {
    if expected == got {
        return Ok(());
    }
    Err(Fault::mismatch(field(), format!("{expected:?}"), format!("{got:?}")))
}

/// As [`same`], for a field that the provider may leave out.
pub(super) fn same_if_given<T: PartialEq + fmt::Debug>(
    expected: &T,
    got: Option<&T>,
    field: impl FnOnce() -> String,
) -> Result<(), Fault> {
    got.map_or(Ok(()), |got| same(expected, got, field))
}

/// What a fault means on a chain of which so much is known.
pub(super) fn judge(proof: Proof, result: Result<(), Fault>) -> Outcome {
    if let Proof::Impossible(reason) = proof {
        return Outcome::Unverifiable { reason: reason.to_owned(), doubt: Doubt::Chain };
    }
    match (result, proof) {
        (Ok(()), _) => Outcome::Verified,
        (Err(Fault::Unknown(reason)), _) => Outcome::Unverifiable { reason, doubt: Doubt::Answer },
        (Err(Fault::Mismatch { field, expected, got }), Proof::Tentative(reason)) => Outcome::Unverifiable {
            reason: format!("{reason} ({field}: computed {expected}, answered {got})"),
            // Rules that hold for most blocks: what breaks them may be the chain, or a lie.
            doubt: Doubt::Answer,
        },
        (Err(Fault::Mismatch { field, expected, got }), _) => Outcome::Failed { field, expected, got },
    }
}

impl fmt::Display for Unencodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(kind) => write!(f, "type {kind:#x} is not known"),
            Self::Missing(field) => write!(f, "{field} is missing"),
            Self::Contradiction { field, expected, got } => {
                write!(f, "{field}: expected {expected}, got {got}")
            }
        }
    }
}
