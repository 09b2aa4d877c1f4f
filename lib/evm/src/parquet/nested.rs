//! Columns that hold lists of structures. A list is built from its flattened items and one length per row.

use std::sync::Arc;

use alloy_eips::{eip2930::AccessListItem, eip4895::Withdrawal};
use alloy_primitives::{B256, U256};
use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, FixedSizeBinaryArray, ListArray, MapBuilder, StringBuilder,
        StructArray, UInt64Array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, FieldRef, Fields},
};
use serde_json::{Map, Value};

use crate::json::Authorization;

fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("item", data_type, false))
}

fn record(fields: &[(&str, DataType)]) -> Fields {
    fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect()
}

/// `None` rows are null; items of all rows follow each other in `values`.
fn list(lengths: impl Iterator<Item = Option<usize>>, values: ArrayRef) -> ArrayRef {
    let lengths: Vec<Option<usize>> = lengths.collect();
    let nulls: NullBuffer = lengths.iter().map(Option::is_some).collect();
    let offsets = OffsetBuffer::from_lengths(lengths.iter().map(|length| length.unwrap_or(0)));
    Arc::new(ListArray::new(item(values.data_type().clone()), offsets, values, Some(nulls)))
}

fn structs(fields: Fields, columns: Vec<ArrayRef>) -> ArrayRef {
    Arc::new(StructArray::new(fields, columns, None))
}

fn binary<'a>(values: impl Iterator<Item = &'a [u8]>) -> ArrayRef {
    Arc::new(BinaryArray::from_vec(values.collect()))
}

fn words(values: impl ExactSizeIterator<Item = U256>) -> ArrayRef {
    let mut out = arrow::array::FixedSizeBinaryBuilder::with_capacity(values.len(), 32);
    for value in values {
        out.append_value(value.to_be_bytes::<32>()).expect("a word has 32 bytes");
    }
    let array: FixedSizeBinaryArray = out.finish();
    Arc::new(array)
}

fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

pub(super) fn hashes_type() -> DataType {
    DataType::List(item(DataType::Binary))
}

pub(super) fn hashes<'a>(rows: impl Iterator<Item = Option<&'a [B256]>>) -> ArrayRef {
    let rows: Vec<_> = rows.collect();
    let flat = rows.iter().flatten().flat_map(|row| row.iter()).map(B256::as_slice);
    list(rows.iter().map(|row| row.map(<[_]>::len)), binary(flat))
}

fn access_list_fields() -> Fields {
    record(&[("address", DataType::Binary), ("storage_keys", hashes_type())])
}

pub(super) fn access_list_type() -> DataType {
    DataType::List(item(DataType::Struct(access_list_fields())))
}

pub(super) fn access_lists<'a>(rows: impl Iterator<Item = Option<&'a [AccessListItem]>>) -> ArrayRef {
    let rows: Vec<_> = rows.collect();
    let flat: Vec<&AccessListItem> = rows.iter().flatten().flat_map(|row| row.iter()).collect();
    let keys = flat.iter().flat_map(|entry| entry.storage_keys.iter()).map(B256::as_slice);
    let columns = vec![
        binary(flat.iter().map(|entry| entry.address.as_slice())),
        list(flat.iter().map(|entry| Some(entry.storage_keys.len())), binary(keys)),
    ];
    list(rows.iter().map(|row| row.map(<[_]>::len)), structs(access_list_fields(), columns))
}

fn authorization_fields() -> Fields {
    let word = DataType::FixedSizeBinary(32);
    record(&[
        ("chain_id", word.clone()),
        ("address", DataType::Binary),
        ("nonce", DataType::UInt64),
        ("y_parity", DataType::UInt64),
        ("r", word.clone()),
        ("s", word),
    ])
}

pub(super) fn authorizations_type() -> DataType {
    DataType::List(item(DataType::Struct(authorization_fields())))
}

pub(super) fn authorizations<'a>(rows: impl Iterator<Item = Option<&'a [Authorization]>>) -> ArrayRef {
    let rows: Vec<_> = rows.collect();
    let flat: Vec<&Authorization> = rows.iter().flatten().flat_map(|row| row.iter()).collect();
    let columns = vec![
        words(flat.iter().map(|entry| entry.chain_id)),
        binary(flat.iter().map(|entry| entry.address.as_slice())),
        numbers(flat.iter().map(|entry| entry.nonce)),
        numbers(flat.iter().map(|entry| entry.y_parity)),
        words(flat.iter().map(|entry| entry.r)),
        words(flat.iter().map(|entry| entry.s)),
    ];
    list(rows.iter().map(|row| row.map(<[_]>::len)), structs(authorization_fields(), columns))
}

fn withdrawal_fields() -> Fields {
    let number = DataType::UInt64;
    record(&[
        ("index", number.clone()),
        ("validator_index", number.clone()),
        ("address", DataType::Binary),
        ("amount", number),
    ])
}

pub(super) fn withdrawals_type() -> DataType {
    DataType::List(item(DataType::Struct(withdrawal_fields())))
}

pub(super) fn withdrawals<'a>(rows: impl Iterator<Item = Option<&'a [Withdrawal]>>) -> ArrayRef {
    let rows: Vec<_> = rows.collect();
    let flat: Vec<&Withdrawal> = rows.iter().flatten().flat_map(|row| row.iter()).collect();
    let columns = vec![
        numbers(flat.iter().map(|entry| entry.index)),
        numbers(flat.iter().map(|entry| entry.validator_index)),
        binary(flat.iter().map(|entry| entry.address.as_slice())),
        numbers(flat.iter().map(|entry| entry.amount)),
    ];
    list(rows.iter().map(|row| row.map(<[_]>::len)), structs(withdrawal_fields(), columns))
}

pub(super) fn extras_type() -> DataType {
    let entry = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
}

/// Chain-specific fields as text, sorted by name; null where a row has none.
pub(super) fn extras<'a>(rows: impl Iterator<Item = Option<&'a Map<String, Value>>>) -> ArrayRef {
    let names = arrow::array::MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        let mut entries: Vec<_> = row.into_iter().flatten().collect();
        entries.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in entries {
            out.keys().append_value(name);
            out.values().append_value(canonical(value));
        }
        out.append(row.is_some()).expect("each key has a value");
    }
    Arc::new(out.finish())
}

/// JSON with sorted keys; a bare string stands for itself.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => sorted(other).to_string(),
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| name.as_str());
            Value::Object(entries.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
