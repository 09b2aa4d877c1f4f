//! What the service and an engine process say to each other.
//!
//! To the engine: JSON lines on its stdin, [`Job`] then [`Run`]; end of file means "stop at once". From the engine: frames of
//! kind, length and payload on its stdout. The engine runs a stranger's SQL, so the service believes a frame no further than
//! its type: lengths are capped and datasets are looked up among the caller's own.

use std::{collections::BTreeSet, io};

use dagwright_contracts::query::Format;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::gate::DatasetName;

/// Payload bytes of a frame at most.
pub const MAX_FRAME: usize = 16 << 20;

/// First line: may this SQL run?
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    pub sql: String,
    /// What the caller may read.
    pub visible: Vec<DatasetName>,
}

/// Second line: run it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub datasets: Vec<Relation>,
    pub params: Vec<serde_json::Value>,
    pub format: Format,
    pub max_rows: u64,
    pub max_bytes: u64,
    pub deadline_ms: u64,
}

/// A dataset as the engine sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Relation {
    pub name: DatasetName,
    /// Where its objects are read: URLs of the service's object gateway.
    pub urls: Vec<String>,
    /// Name and engine type of each column, for a dataset without objects.
    pub columns: Vec<(String, String)>,
}

/// What an engine answers.
#[derive(Debug, PartialEq)]
pub enum Frame {
    /// Extensions are loaded; a [`Job`] may come.
    Ready,
    /// The SQL may run.
    Gated(Gated),
    /// The next bytes of the answer.
    Data(Vec<u8>),
    /// All bytes were sent.
    Done(Outcome),
    /// Nothing more will come.
    Failed(Failure),
}

/// The gate's yes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Gated {
    pub canonical: String,
    pub datasets: BTreeSet<DatasetName>,
    pub functions: BTreeSet<String>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub rows: u64,
    pub truncated: bool,
}

/// Why there is no answer, or no more of it. Never the engine's own text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: String,
    pub detail: String,
}

impl Failure {
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

impl Frame {
    fn parts(&self) -> serde_json::Result<(u8, std::borrow::Cow<'_, [u8]>)> {
        Ok(match self {
            Self::Ready => (b'R', (&[][..]).into()),
            Self::Gated(gated) => (b'G', serde_json::to_vec(gated)?.into()),
            Self::Data(bytes) => (b'D', bytes.as_slice().into()),
            Self::Done(outcome) => (b'E', serde_json::to_vec(outcome)?.into()),
            Self::Failed(failure) => (b'F', serde_json::to_vec(failure)?.into()),
        })
    }

    fn from_parts(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        Ok(match kind {
            b'R' => Self::Ready,
            b'G' => Self::Gated(serde_json::from_slice(&payload)?),
            b'D' => Self::Data(payload),
            b'E' => Self::Done(serde_json::from_slice(&payload)?),
            b'F' => Self::Failed(serde_json::from_slice(&payload)?),
            other => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of kind {other}")));
            }
        })
    }

    /// Writes the frame and flushes.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        let (kind, payload) = self.parts()?;
        let length =
            u32::try_from(payload.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        out.write_all(&[kind])?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&payload)?;
        out.flush()
    }

    /// Reads the next frame.
    ///
    /// # Errors
    /// When the engine is gone or says what no engine says.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let kind = from.read_u8().await?;
        let length = from.read_u32_le().await? as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of {length} bytes")));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        Self::from_parts(kind, payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_survive_the_pipe_and_oversize_is_refused() {
        let frames = [
            Frame::Ready,
            Frame::Data(vec![1, 2, 3]),
            Frame::Done(Outcome { rows: 3, truncated: true }),
            Frame::Failed(Failure::new("Timeout", "x")),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.write(&mut bytes).unwrap();
        }
        let mut from = bytes.as_slice();
        for frame in &frames {
            assert_eq!(&Frame::read(&mut from).await.unwrap(), frame);
        }
        assert!(Frame::read(&mut &[b'D', 255, 255, 255, 255][..]).await.is_err());
        assert!(Frame::read(&mut &[b'?', 0, 0, 0, 0][..]).await.is_err());
    }
}
