//! `application/vnd.apache.arrow.stream`.

use arrow::{
    compute::concat_batches, datatypes::SchemaRef, ipc::writer::StreamWriter, record_batch::RecordBatch,
};

use super::{Encoder, Outcome, OutputError};

/// The engine hands out 2,048 rows at a time; readers and the wire like fewer, larger batches.
const ROWS: usize = 65_536;

/// Rows of wide columns are sent sooner.
const BYTES: usize = 4 << 20;

#[derive(Default)]
pub(super) struct Ipc {
    writer: Option<StreamWriter<Vec<u8>>>,
    pending: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Ipc {
    fn write_pending(&mut self, into: &mut Vec<u8>) -> Result<(), OutputError> {
        let (Some(writer), Some(first)) = (self.writer.as_mut(), self.pending.first()) else { return Ok(()) };
        writer.write(&concat_batches(&first.schema(), &self.pending)?)?;
        into.append(writer.get_mut());
        self.pending.clear();
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

impl Encoder for Ipc {
    fn begin(&mut self, schema: &SchemaRef, into: &mut Vec<u8>) -> Result<(), OutputError> {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        into.append(writer.get_mut());
        self.writer = Some(writer);
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch, into: &mut Vec<u8>) -> Result<(), OutputError> {
        self.rows += batch.num_rows();
        self.bytes += batch.get_array_memory_size();
        self.pending.push(batch.clone());
        if self.rows >= ROWS || self.bytes >= BYTES { self.write_pending(into) } else { Ok(()) }
    }

    fn end(&mut self, _: Outcome, into: &mut Vec<u8>) -> Result<(), OutputError> {
        self.write_pending(into)?;
        if let Some(mut writer) = self.writer.take() {
            writer.finish()?;
            into.append(writer.get_mut());
        }
        Ok(())
    }
}
