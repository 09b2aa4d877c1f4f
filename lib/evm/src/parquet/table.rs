//! Columns declared once: the schema and the arrays both come from the same list.

use std::{borrow::Cow, sync::Arc};

use ::parquet::file::metadata::SortingColumn;
use alloy_primitives::U256;
use arrow::{
    array::{
        ArrayRef, BinaryBuilder, BooleanArray, Decimal128Array, FixedSizeBinaryBuilder, StringArray,
        UInt64Array,
    },
    datatypes::{DataType, Field, Schema},
};

/// Decimal digits of a fee column: every fee that ether's supply could pay has fewer.
const FEE_DIGITS: u8 = 38;
/// Bytes of a 256-bit word.
const WORD: i32 = 32;

/// A value that its column cannot hold exactly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}, row {row}: {value} has more than {FEE_DIGITS} decimal digits")]
pub struct OutOfRange {
    column: &'static str,
    row: usize,
    value: u128,
}

/// How a cell is read from a row.
pub(super) enum Cell<T> {
    U64(fn(&T) -> Option<u64>),
    Bool(fn(&T) -> Option<bool>),
    Bytes(for<'r> fn(&'r T) -> Option<Cow<'r, [u8]>>),
    /// 32 bytes, big-endian: sorts as the number does.
    Word(fn(&T) -> Option<U256>),
    /// Wei per gas: exact and ready for arithmetic.
    Fee(fn(&T) -> Option<u128>),
    Text(fn(&T) -> Option<String>),
    Nested(fn() -> DataType, fn(&[T]) -> ArrayRef),
}

pub(super) struct Column<T> {
    name: &'static str,
    nullable: bool,
    cell: Cell<T>,
}

impl<T> Column<T> {
    pub(super) fn new(name: &'static str, cell: Cell<T>) -> Self {
        Self { name, nullable: false, cell }
    }

    pub(super) fn nullable(name: &'static str, cell: Cell<T>) -> Self {
        Self { nullable: true, ..Self::new(name, cell) }
    }

    fn data_type(&self) -> DataType {
        match &self.cell {
            Cell::U64(_) => DataType::UInt64,
            Cell::Bool(_) => DataType::Boolean,
            Cell::Bytes(_) => DataType::Binary,
            Cell::Word(_) => DataType::FixedSizeBinary(WORD),
            Cell::Fee(_) => DataType::Decimal128(FEE_DIGITS, 0),
            Cell::Text(_) => DataType::Utf8,
            Cell::Nested(data_type, _) => data_type(),
        }
    }

    fn array(&self, rows: &[T]) -> Result<ArrayRef, OutOfRange> {
        Ok(match &self.cell {
            Cell::U64(read) => Arc::new(rows.iter().map(read).collect::<UInt64Array>()),
            Cell::Bool(read) => Arc::new(rows.iter().map(read).collect::<BooleanArray>()),
            Cell::Bytes(read) => {
                let mut out = BinaryBuilder::new();
                rows.iter().for_each(|row| out.append_option(read(row)));
                Arc::new(out.finish())
            }
            Cell::Word(read) => Arc::new(words(rows.iter().map(read))),
            Cell::Fee(read) => self.fees(rows.iter().map(read))?,
            Cell::Text(read) => Arc::new(rows.iter().map(read).collect::<StringArray>()),
            Cell::Nested(_, build) => build(rows),
        })
    }

    fn fees(&self, values: impl Iterator<Item = Option<u128>>) -> Result<ArrayRef, OutOfRange> {
        let limit = 10_u128.pow(u32::from(FEE_DIGITS));
        let fits = |(row, value): (usize, Option<u128>)| match value {
            None => Ok(None),
            Some(value) if value < limit => Ok(i128::try_from(value).ok()),
            Some(value) => Err(OutOfRange { column: self.name, row, value }),
        };
        let values = values.enumerate().map(fits).collect::<Result<Vec<_>, _>>()?;
        let array = Decimal128Array::from(values).with_precision_and_scale(FEE_DIGITS, 0);
        Ok(Arc::new(array.expect("38 digits without a fraction is a decimal type")))
    }
}

fn words(values: impl Iterator<Item = Option<U256>>) -> arrow::array::FixedSizeBinaryArray {
    let mut out = FixedSizeBinaryBuilder::new(WORD);
    for value in values {
        match value {
            Some(value) => out.append_value(value.to_be_bytes::<32>()).expect("a word has 32 bytes"),
            None => out.append_null(),
        }
    }
    out.finish()
}

/// All columns of a kind, and which of them order the rows.
pub(super) struct Columns<T> {
    pub(super) list: Vec<Column<T>>,
    pub(super) sorted_by: &'static [&'static str],
}

impl<T> Columns<T> {
    pub(super) fn schema(&self) -> Schema {
        let field = |column: &Column<T>| Field::new(column.name, column.data_type(), column.nullable);
        Schema::new(self.list.iter().map(field).collect::<Vec<_>>())
    }

    pub(super) fn arrays(&self, rows: &[T]) -> Result<Vec<ArrayRef>, OutOfRange> {
        self.list.iter().map(|column| column.array(rows)).collect()
    }

    /// Positions are counted over leaves; the sorting columns come before any nested one.
    pub(super) fn sorting(&self) -> Vec<SortingColumn> {
        let position = |name: &&str| self.list.iter().position(|column| column.name == *name);
        let sorting = |index: usize| SortingColumn {
            column_idx: i32::try_from(index).unwrap_or(i32::MAX),
            descending: false,
            nulls_first: false,
        };
        self.sorted_by.iter().filter_map(position).map(sorting).collect()
    }
}
