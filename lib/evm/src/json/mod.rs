//! Loose decoding of `eth_getBlockBy*` (full transactions) and `eth_getBlockReceipts` answers.
//!
//! Loose means: fields we do not model are kept aside, transactions of unknown types are kept raw, absent optional fields
//! are `None`. It does not mean guessing: a field that is present and malformed is an error naming its path.

mod fields;
mod model;

pub use fields::DecodeError;
pub use model::{
    Authorization, Block, Header, Log, Receipt, Transaction, block_from_value, receipts_from_value,
};

use serde_json::Value;

/// Decodes a block from the bytes of a JSON-RPC answer, or of its bare `result`.
///
/// # Errors
/// When the bytes are not JSON, the answer is an error or null, or a field is missing or malformed.
pub fn decode_block(bytes: &[u8]) -> Result<Block, DecodeError> {
    block_from_value(unwrap_answer("block", bytes)?)
}

/// Decodes the receipts of one block from the bytes of a JSON-RPC answer, or of its bare `result`.
///
/// # Errors
/// As [`decode_block`].
pub fn decode_receipts(bytes: &[u8]) -> Result<Vec<Receipt>, DecodeError> {
    receipts_from_value(unwrap_answer("receipts", bytes)?)
}

fn unwrap_answer(what: &str, bytes: &[u8]) -> Result<Value, DecodeError> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|source| DecodeError::NotJson { what: what.to_owned(), source })?;
    let Value::Object(mut map) = value else { return Ok(value) };
    if let Some(error) = map.get("error").filter(|error| !error.is_null()) {
        return Err(DecodeError::RpcError { what: what.to_owned(), error: error.to_string() });
    }
    let is_answer = map.contains_key("jsonrpc") || (map.len() == 1 && map.contains_key("result"));
    if is_answer { Ok(map.remove("result").unwrap_or(Value::Null)) } else { Ok(Value::Object(map)) }
}
