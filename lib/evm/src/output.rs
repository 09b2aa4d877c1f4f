//! The datasets that one block bundle feeds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What kind of rows an output of a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// One row per block: the full header.
    Blocks,
    /// One row per transaction, with the fields of its receipt.
    Transactions,
    /// One row per log.
    Logs,
    /// One row per call frame. Named in the API; encoding it is refused until traces are fetched.
    Traces,
}

/// A name that is none of the output kinds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown output kind {0:?}: expected one of blocks, transactions, logs, traces")]
pub struct UnknownOutputKind(String);

impl OutputKind {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Blocks, Self::Transactions, Self::Logs, Self::Traces];

    /// The snake_case name used in specs, metadata and paths.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Transactions => "transactions",
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }
}

impl fmt::Display for OutputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OutputKind {
    type Err = UnknownOutputKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| UnknownOutputKind(name.to_owned()))
    }
}
