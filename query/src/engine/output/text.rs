//! JSON with rows as arrays, so that columns of one name do not collide, and CSV.

use arrow::{array::ArrayRef, datatypes::SchemaRef, record_batch::RecordBatch};
use dagwright_contracts::query::Column;
use serde_json::{Value, json};

use super::{Encoder, Outcome, OutputError, cells};

#[derive(Default)]
pub(super) struct Json {
    any_row: bool,
}

impl Encoder for Json {
    fn begin(&mut self, schema: &SchemaRef, into: &mut Vec<u8>) -> Result<(), OutputError> {
        let fields = schema.fields().iter();
        let columns: Vec<Column> =
            fields.map(|f| Column { name: f.name().clone(), data_type: f.data_type().to_string() }).collect();
        into.extend_from_slice(b"{\"columns\":");
        into.extend_from_slice(json!(columns).to_string().as_bytes());
        into.extend_from_slice(b",\"rows\":[");
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch, into: &mut Vec<u8>) -> Result<(), OutputError> {
        rows(batch, |row| {
            if std::mem::replace(&mut self.any_row, true) {
                into.push(b',');
            }
            into.push(b'\n');
            serde_json::to_writer(&mut *into, &row).map_err(|e| OutputError::Write(e.into()))
        })
    }

    fn end(&mut self, outcome: Outcome, into: &mut Vec<u8>) -> Result<(), OutputError> {
        let Outcome { rows, truncated } = outcome;
        into.extend_from_slice(format!("],\"rowCount\":{rows},\"truncated\":{truncated}}}\n").as_bytes());
        Ok(())
    }
}

pub(super) struct Csv;

impl Encoder for Csv {
    fn begin(&mut self, schema: &SchemaRef, into: &mut Vec<u8>) -> Result<(), OutputError> {
        write_record(schema.fields().iter().map(|f| f.name().clone()), into)
    }

    fn batch(&mut self, batch: &RecordBatch, into: &mut Vec<u8>) -> Result<(), OutputError> {
        rows(batch, |row| {
            let fields = row.into_iter().map(|value| match value {
                Value::Null => String::new(),
                Value::String(text) => text,
                other => other.to_string(),
            });
            write_record(fields, into)
        })
    }

    fn end(&mut self, _: Outcome, _: &mut Vec<u8>) -> Result<(), OutputError> {
        Ok(())
    }
}

fn rows(
    batch: &RecordBatch,
    mut each: impl FnMut(Vec<Value>) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    let columns: Vec<&ArrayRef> = batch.columns().iter().collect();
    let columns = columns.into_iter().map(cells::cell).collect::<Result<Vec<_>, _>>()?;
    (0..batch.num_rows()).try_for_each(|row| each(columns.iter().map(|cell| cell(row)).collect()))
}

fn write_record(fields: impl Iterator<Item = String>, into: &mut Vec<u8>) -> Result<(), OutputError> {
    let mut writer = csv::Writer::from_writer(into);
    writer.write_record(fields.map(String::into_bytes)).map_err(|e| OutputError::Write(e.into()))?;
    writer.flush()?;
    Ok(())
}
