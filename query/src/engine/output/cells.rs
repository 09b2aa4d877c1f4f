//! One value of a column as JSON, without losing anything.
//!
//! Integers that a double cannot hold and all decimals are strings, binary is `0x` hex, instants are RFC 3339, a map is a
//! list of `{"key", "value"}`, NaN and infinities are strings.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, OffsetSizeTrait, PrimitiveArray,
    },
    datatypes::*,
    error::ArrowError,
    util::display::{ArrayFormatter, DurationFormat, FormatOptions},
};
use serde_json::Value;

/// Reads the values of one column by row.
pub(super) type Cell<'a> = Box<dyn Fn(usize) -> Value + 'a>;

/// Largest integer up to which every reader agrees, JavaScript's included.
const EXACT: u64 = (1 << 53) - 1;

const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_duration_format(DurationFormat::ISO8601);

pub(super) fn cell(array: &ArrayRef) -> Result<Cell<'_>, ArrowError> {
    let inner = non_null(array)?;
    Ok(Box::new(move |row| if array.is_null(row) { Value::Null } else { inner(row) }))
}

fn non_null(array: &ArrayRef) -> Result<Cell<'_>, ArrowError> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_| Value::Null),
        DataType::Boolean => Box::new(|row| array.as_boolean().value(row).into()),
        DataType::Int8 => number::<Int8Type>(array),
        DataType::Int16 => number::<Int16Type>(array),
        DataType::Int32 => number::<Int32Type>(array),
        DataType::UInt8 => number::<UInt8Type>(array),
        DataType::UInt16 => number::<UInt16Type>(array),
        DataType::UInt32 => number::<UInt32Type>(array),
        DataType::Int64 => {
            let array: &PrimitiveArray<Int64Type> = array.as_primitive();
            Box::new(|row| {
                let n = array.value(row);
                if n.unsigned_abs() <= EXACT { n.into() } else { n.to_string().into() }
            })
        }
        DataType::UInt64 => {
            let array: &PrimitiveArray<UInt64Type> = array.as_primitive();
            Box::new(|row| {
                let n = array.value(row);
                if n <= EXACT { n.into() } else { n.to_string().into() }
            })
        }
        DataType::Float32 => {
            let array: &PrimitiveArray<Float32Type> = array.as_primitive();
            // Through text, so that 0.1 stays 0.1 and does not grow the digits of a double.
            Box::new(|row| float(array.value(row).to_string().parse().unwrap_or(f64::NAN)))
        }
        DataType::Float64 => {
            let array: &PrimitiveArray<Float64Type> = array.as_primitive();
            Box::new(|row| float(array.value(row)))
        }
        DataType::Utf8 => Box::new(|row| array.as_string::<i32>().value(row).into()),
        DataType::LargeUtf8 => Box::new(|row| array.as_string::<i64>().value(row).into()),
        DataType::Binary => Box::new(|row| hex(array.as_binary::<i32>().value(row))),
        DataType::LargeBinary => Box::new(|row| hex(array.as_binary::<i64>().value(row))),
        DataType::FixedSizeBinary(_) => Box::new(|row| hex(array.as_fixed_size_binary().value(row))),
        DataType::List(_) => list(array.as_list::<i32>())?,
        DataType::LargeList(_) => list(array.as_list::<i64>())?,
        DataType::FixedSizeList(..) => fixed_list(array.as_fixed_size_list())?,
        DataType::Struct(_) => structure(array.as_struct())?,
        DataType::Map(..) => map(array.as_map())?,
        _ => formatted(array)?,
    })
}

fn number<T: ArrowPrimitiveType>(array: &ArrayRef) -> Cell<'_>
where
    T::Native: Into<Value>,
{
    let array: &PrimitiveArray<T> = array.as_primitive();
    Box::new(|row| array.value(row).into())
}

fn float(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

fn hex(bytes: &[u8]) -> Value {
    format!("0x{}", hex::encode(bytes)).into()
}

fn list<O: OffsetSizeTrait>(array: &GenericListArray<O>) -> Result<Cell<'_>, ArrowError> {
    let items = cell(array.values())?;
    let offsets = array.value_offsets();
    Ok(Box::new(move |row| (offsets[row].as_usize()..offsets[row + 1].as_usize()).map(&items).collect()))
}

fn fixed_list(array: &FixedSizeListArray) -> Result<Cell<'_>, ArrowError> {
    let items = cell(array.values())?;
    let length = usize::try_from(array.value_length()).unwrap_or(0);
    Ok(Box::new(move |row| {
        let start = usize::try_from(array.value_offset(row)).unwrap_or(0);
        (start..start + length).map(&items).collect()
    }))
}

fn structure(array: &arrow::array::StructArray) -> Result<Cell<'_>, ArrowError> {
    let fields = array.column_names().into_iter().zip(array.columns());
    let fields: Vec<_> =
        fields.map(|(name, column)| Ok((name, cell(column)?))).collect::<Result<_, ArrowError>>()?;
    Ok(Box::new(move |row| fields.iter().map(|(name, value)| ((*name).to_owned(), value(row))).collect()))
}

fn map(array: &arrow::array::MapArray) -> Result<Cell<'_>, ArrowError> {
    let entries = structure(array.entries())?;
    let offsets = array.value_offsets();
    let index = |offset: i32| usize::try_from(offset).unwrap_or(0);
    Ok(Box::new(move |row| (index(offsets[row])..index(offsets[row + 1])).map(&entries).collect()))
}

/// Dates, times, instants, intervals, decimals, enums.
fn formatted(array: &ArrayRef) -> Result<Cell<'_>, ArrowError> {
    let formatter = ArrayFormatter::try_new(array, &OPTIONS)?;
    Ok(Box::new(move |row| formatter.value(row).to_string().into()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::*;
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "callers make the array in place")]
    fn read(array: ArrayRef) -> Vec<Value> {
        let cell = cell(&array).unwrap();
        (0..array.len()).map(cell).collect()
    }

    #[test]
    fn nothing_is_lost() {
        let max = u64::MAX;
        assert_eq!(
            read(Arc::new(UInt64Array::from(vec![Some(1), None, Some(max)]))),
            [json!(1), json!(null), json!("18446744073709551615")]
        );
        assert_eq!(
            read(Arc::new(Int64Array::from(vec![-(1 << 53), (1 << 53) - 1]))),
            [json!("-9007199254740992"), json!(9_007_199_254_740_991_u64)]
        );
        assert_eq!(read(Arc::new(BinaryArray::from(vec![&[0_u8, 255][..]]))), [json!("0x00ff")]);
        assert_eq!(
            read(Arc::new(Float64Array::from(vec![0.5, f64::NAN, f64::NEG_INFINITY]))),
            [json!(0.5), json!("NaN"), json!("-Infinity")]
        );
        assert_eq!(read(Arc::new(Float32Array::from(vec![0.1_f32]))), [json!(0.1)]);
        let decimal = Decimal128Array::from(vec![12_345]).with_precision_and_scale(38, 2).unwrap();
        assert_eq!(read(Arc::new(decimal)), [json!("123.45")]);
        let instant = TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("UTC");
        assert_eq!(read(Arc::new(instant)), [json!("1970-01-01T00:00:01.500Z")]);
    }

    #[test]
    fn nested_values_keep_their_shape() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        assert_eq!(read(Arc::new(lists)), [json!([1, null]), json!(null), json!([])]);
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        map.keys().append_value("a");
        map.values().append_value(1);
        map.append(true).unwrap();
        let read_map = read(Arc::new(map.finish()));
        assert_eq!(read_map[0].as_array().unwrap().len(), 1);
    }
}
