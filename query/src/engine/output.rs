//! A result as JSON, CSV or Arrow IPC, batch by batch, under its caps.
//!
//! The engine process writes the answer's bytes itself: the service only passes them on, and no value of a stranger's query
//! is ever parsed where credentials are.

mod arrow_ipc;
mod cells;
mod text;

use std::io::Write;

use arrow::{datatypes::SchemaRef, error::ArrowError, record_batch::RecordBatch};
use dagwright_contracts::query::Format;

use super::{
    instance::InstanceError,
    protocol::{Frame, Outcome},
};

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Engine(#[from] duckdb::Error),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error(transparent)]
    Write(#[from] std::io::Error),
}

/// Where an answer is cut.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    pub rows: u64,
    /// Checked after each batch, so an answer may be longer by one.
    pub bytes: u64,
}

/// One shape of answer.
trait Encoder {
    fn begin(&mut self, schema: &SchemaRef, into: &mut Vec<u8>) -> Result<(), OutputError>;
    fn batch(&mut self, batch: &RecordBatch, into: &mut Vec<u8>) -> Result<(), OutputError>;
    fn end(&mut self, outcome: Outcome, into: &mut Vec<u8>) -> Result<(), OutputError>;
}

/// Bytes that are collected before they are sent.
const CHUNK: usize = 256 << 10;

/// Writes the result of an executed statement as data frames.
///
/// # Errors
/// When the engine fails half-way, a type cannot be written or nobody reads.
pub fn write(
    statement: &duckdb::Statement<'_>,
    format: Format,
    caps: Caps,
    out: &mut impl Write,
) -> Result<Outcome, OutputError> {
    let mut encoder: Box<dyn Encoder> = match format {
        Format::Json => Box::new(text::Json::default()),
        Format::Csv => Box::new(text::Csv),
        Format::Arrow => Box::new(arrow_ipc::Ipc::default()),
    };
    let (mut buffer, mut sent, mut outcome) = (Vec::new(), 0_u64, Outcome::default());
    encoder.begin(&statement.schema(), &mut buffer)?;
    while let Some(array) = statement.step()? {
        let batch = RecordBatch::from(&array);
        let left = caps.rows - outcome.rows;
        let rows = left.min(batch.num_rows() as u64);
        outcome.truncated = rows < batch.num_rows() as u64;
        if rows > 0 {
            let kept = usize::try_from(rows).unwrap_or(usize::MAX);
            encoder.batch(&batch.slice(0, kept), &mut buffer)?;
            outcome.rows += rows;
        }
        if buffer.len() >= CHUNK {
            sent += flush(&mut buffer, out)?;
        }
        outcome.truncated |= sent + buffer.len() as u64 > caps.bytes;
        if outcome.truncated {
            break;
        }
    }
    encoder.end(outcome, &mut buffer)?;
    flush(&mut buffer, out)?;
    Ok(outcome)
}

fn flush(buffer: &mut Vec<u8>, out: &mut impl Write) -> Result<u64, OutputError> {
    for chunk in buffer.chunks(1 << 20) {
        Frame::Data(chunk.to_vec()).write(out)?;
    }
    let sent = buffer.len() as u64;
    buffer.clear();
    Ok(sent)
}
