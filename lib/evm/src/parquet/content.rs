//! The hash of what a file says, not of how it is written: column by column, so that row groups, compression and the
//! version of the writer do not matter.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Decimal128Type, Schema, UInt64Type},
    error::ArrowError,
};
use sha2::{Digest, Sha256};

pub(super) struct ContentHasher {
    head: Sha256,
    columns: Vec<Sha256>,
}

impl ContentHasher {
    pub(super) fn new(kind: &str, schema_version: u32, schema: &Schema) -> Self {
        let mut head = Sha256::new();
        feed(&mut head, b"dagwright content 1");
        feed(&mut head, kind.as_bytes());
        head.update(schema_version.to_le_bytes());
        for field in schema.fields() {
            feed(&mut head, field.name().as_bytes());
        }
        Self { head, columns: vec![Sha256::new(); schema.fields().len()] }
    }

    pub(super) fn update(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        for (hasher, array) in self.columns.iter_mut().zip(batch.columns()) {
            for row in 0..array.len() {
                value(hasher, array.as_ref(), row)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> [u8; 32] {
        for column in self.columns {
            self.head.update(column.finalize());
        }
        self.head.finalize().into()
    }
}

fn feed(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn value(hasher: &mut Sha256, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    if array.is_null(row) {
        hasher.update([0]);
        return Ok(());
    }
    hasher.update([1]);
    match array.data_type() {
        DataType::UInt64 => hasher.update(array.as_primitive::<UInt64Type>().value(row).to_le_bytes()),
        DataType::Decimal128(..) => {
            hasher.update(array.as_primitive::<Decimal128Type>().value(row).to_le_bytes());
        }
        DataType::Boolean => hasher.update([u8::from(array.as_boolean().value(row))]),
        DataType::Binary => feed(hasher, array.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => feed(hasher, array.as_fixed_size_binary().value(row)),
        DataType::Utf8 => feed(hasher, array.as_string::<i32>().value(row).as_bytes()),
        DataType::List(_) => elements(hasher, array.as_list::<i32>().value(row).as_ref())?,
        DataType::Map(..) => elements(hasher, &array.as_map().value(row))?,
        DataType::Struct(_) => {
            for column in array.as_struct().columns() {
                value(hasher, column.as_ref(), row)?;
            }
        }
        other => return Err(ArrowError::NotYetImplemented(format!("content hash of {other}"))),
    }
    Ok(())
}

fn elements(hasher: &mut Sha256, items: &dyn Array) -> Result<(), ArrowError> {
    hasher.update((items.len() as u64).to_le_bytes());
    (0..items.len()).try_for_each(|row| value(hasher, items, row))
}
