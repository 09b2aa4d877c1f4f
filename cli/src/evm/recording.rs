//! Recorded answers on disk: `{height}/block.json` and `{height}/receipts.json`, each the `result` as it was answered, and
//! `chain.json` with the chain id.

use std::{
    collections::BTreeMap,
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// The file that names the chain.
pub(super) const CHAIN_FILE: &str = "chain.json";

/// Recorded answers, ready to be replayed.
#[derive(Debug)]
pub struct Recording {
    pub chain_id: u64,
    blocks: BTreeMap<u64, RecordedBlock>,
    heights: HashMap<String, u64>,
}

/// What was answered about one block.
#[derive(Debug)]
pub(super) struct RecordedBlock {
    pub(super) full: Box<RawValue>,
    /// The block with transaction hashes in place of transactions.
    pub(super) slim: Box<RawValue>,
    pub(super) receipts: Box<RawValue>,
}

/// What `chain.json` says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chain {
    pub(super) chain_id: u64,
    /// The recorded heights, for the reader of the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) range: Option<[u64; 2]>,
}

/// A directory that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file or directory cannot be read.
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file is not the JSON it should be.
    #[error("parse {}", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// A block lacks what makes it one.
    #[error("{}: expected a block with number, hash and full transactions", path.display())]
    NotABlock { path: PathBuf },
    /// The directory is named after another height than its block has.
    #[error("{}: the directory's name says height {named}, the block says {number}", path.display())]
    WrongHeight { path: PathBuf, named: u64, number: u64 },
    /// Nothing to replay.
    #[error("{} holds no recorded blocks: expected directories named by height, as `dagwright evm record` writes them", path.display())]
    Empty { path: PathBuf },
    /// Nobody said which chain it is.
    #[error("{} holds no {CHAIN_FILE}: write {{\"chainId\": 1}} there, or pass --chain-id", path.display())]
    NoChainId { path: PathBuf },
}

impl Recording {
    /// Reads a whole directory into memory.
    ///
    /// # Errors
    /// When a file cannot be read, is not what it should be, or nobody says which chain it is.
    pub fn load(directory: &Path, chain_id: Option<u64>) -> Result<Self, RecordingError> {
        let chain_id = match chain_id {
            Some(id) => id,
            None => read_chain(directory)?,
        };
        let mut recording = Self { chain_id, blocks: BTreeMap::new(), heights: HashMap::new() };
        let listed = std::fs::read_dir(directory).map_err(|source| unreadable(directory, source))?;
        for entry in listed {
            let entry = entry.map_err(|source| unreadable(directory, source))?;
            if let Some(height) = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) {
                recording.add(height, &entry.path())?;
            }
        }
        if recording.blocks.is_empty() {
            return Err(RecordingError::Empty { path: directory.to_owned() });
        }
        Ok(recording)
    }

    fn add(&mut self, named: u64, directory: &Path) -> Result<(), RecordingError> {
        let path = directory.join("block.json");
        let full = read_result(&path)?;
        let receipts = read_result(&directory.join("receipts.json"))?;
        let parsed: Value = serde_json::from_str(full.get())
            .map_err(|source| RecordingError::Parse { path: path.clone(), source })?;
        let number = parsed["number"].as_str().and_then(hex_number);
        let (Some(number), Some(hash), Some(slim)) = (number, parsed["hash"].as_str(), slim(&parsed)) else {
            return Err(RecordingError::NotABlock { path });
        };
        if number != named {
            return Err(RecordingError::WrongHeight { path, named, number });
        }
        self.heights.insert(hash.to_ascii_lowercase(), number);
        self.blocks.insert(number, RecordedBlock { full, slim, receipts });
        Ok(())
    }

    /// The highest recorded height.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.blocks.keys().next_back().copied().unwrap_or(0)
    }

    /// How many blocks are recorded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether nothing is recorded; never true after loading.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn by_height(&self, height: u64) -> Option<&RecordedBlock> {
        self.blocks.get(&height)
    }

    pub(super) fn by_hash(&self, hash: &str) -> Option<&RecordedBlock> {
        self.by_height(*self.heights.get(&hash.to_ascii_lowercase())?)
    }
}

pub(super) fn hex_number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn slim(block: &Value) -> Option<Box<RawValue>> {
    let mut slim = block.clone();
    let transactions = slim.get_mut("transactions")?.as_array_mut()?;
    for tx in transactions.iter_mut() {
        *tx = tx.get_mut("hash")?.take();
    }
    serde_json::value::to_raw_value(&slim).ok()
}

fn read_chain(directory: &Path) -> Result<u64, RecordingError> {
    let path = directory.join(CHAIN_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(RecordingError::NoChainId { path: directory.to_owned() });
        }
        Err(source) => return Err(RecordingError::Read { path, source }),
    };
    let chain: Chain =
        serde_json::from_slice(&bytes).map_err(|source| RecordingError::Parse { path, source })?;
    Ok(chain.chain_id)
}

/// The bare result, whether the file holds it alone or inside a whole JSON-RPC answer.
fn read_result(path: &Path) -> Result<Box<RawValue>, RecordingError> {
    #[derive(Deserialize)]
    struct Answer {
        result: Box<RawValue>,
    }
    let parse = |source| RecordingError::Parse { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
    match serde_json::from_str::<Answer>(&text) {
        Ok(answer) => Ok(answer.result),
        Err(_) => serde_json::from_str(&text).map_err(parse),
    }
}

fn unreadable(path: &Path, source: io::Error) -> RecordingError {
    RecordingError::Read { path: path.to_owned(), source }
}
