//! The independent checker: facts by own SQL, own S3 calls and the node's own answers, and a pure judgement of them. None of
//! the product's code takes part.

mod gather;
mod judge;
mod objects;
mod state;
mod watch;

use std::collections::BTreeMap;

use serde::Serialize;

pub use gather::{Asking, Gatherer, settled};
pub use judge::judge;
pub use watch::Watch;

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    /// Which sentence of `docs/protocol.md` it breaks, or which promise.
    pub rule: &'static str,
    pub detail: String,
    /// It was so, even if it is right later. Otherwise somebody may still put it right in the round's patience.
    pub lasting: bool,
}

/// Where a round's coverage is to end up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub sync: String,
    /// Output and Dataset.
    pub outputs: Vec<(String, String)>,
    pub range: (u64, u64),
}

/// All that was found.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Version that each Dataset serves.
    pub datasets: BTreeMap<String, String>,
    pub partitions: Vec<Partition>,
    /// Tasks that are not finished.
    pub live: Vec<Live>,
    pub finished: Vec<Finished>,
    pub attempts: Vec<Attempt>,
    /// Attempts whose task is in neither table, of any namespace.
    pub strays: Vec<Attempt>,
    /// Tasks and the attempts that are offered to workers.
    pub outbox: Vec<(String, i64)>,
    /// What lies under the namespace's prefix.
    pub stored: BTreeMap<String, i64>,
    /// What was read from each object.
    pub contents: BTreeMap<String, Content>,
    /// Keys that no pointer names, older than the sweep age allows.
    pub orphans: Vec<String>,
    /// How many objects no pointer names, of any age.
    pub unpointed: usize,
    pub chain: BTreeMap<u64, Block>,
    /// Status of each ChainSync and Dataset, `Kind/name`.
    pub statuses: BTreeMap<String, serde_json::Value>,
    /// Rows and different heights that the query service counts, by Dataset.
    pub queried: BTreeMap<String, (u64, u64)>,
}

/// A row of `partition_versions` with its pointers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    pub version: String,
    pub output: String,
    pub lower: u64,
    pub upper: u64,
    pub revision: i64,
    pub current: bool,
    pub missing: bool,
    pub rows: i64,
    pub task: String,
    pub attempt: String,
    pub objects: Vec<Pointer>,
}

/// A row of `partition_objects`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer {
    pub key: String,
    pub bytes: i64,
    pub sha256: String,
    pub rows: i64,
}

/// A row of `tasks`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    pub task: String,
    pub state: String,
    /// The one that runs, or is offered.
    pub attempt: i64,
    /// State, range, last error.
    pub what: String,
}

/// A row of `task_history`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    pub task: String,
    pub state: String,
    pub attempt: String,
    pub range: (u64, u64),
    pub outputs: Vec<String>,
    pub max_attempts: i64,
}

/// A row of `attempts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    pub task: String,
    pub id: String,
    pub number: i64,
    pub state: String,
}

/// What an object holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub sha256: String,
    pub bytes: i64,
    pub rows: i64,
    /// Rows of each height.
    pub heights: BTreeMap<u64, u64>,
    /// Hash of each block, where the object is of blocks.
    pub hashes: BTreeMap<u64, String>,
    /// How many versions the store has of the key.
    pub writes: usize,
}

/// What the node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub hash: String,
    pub transactions: u64,
    pub logs: u64,
}

impl Block {
    /// How many rows of an output the block has.
    #[must_use]
    pub fn rows(&self, output: &str) -> u64 {
        match output {
            "transactions" => self.transactions,
            "logs" => self.logs,
            _ => 1,
        }
    }
}
