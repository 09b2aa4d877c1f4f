//! Deposit transactions of the OP stack, type 0x7e: no signature, the sender is part of the bytes.

use alloy_primitives::U256;
use serde_json::Value;

use super::{
    EncodedTransaction, RlpList, Sender, Unencodable,
    arbitrum::{extra_hash, extra_number},
    need,
};
use crate::json::Transaction;

pub(super) fn encode(tx: &Transaction) -> Result<EncodedTransaction, Unencodable> {
    let is_system = tx.extra.get("isSystemTx").and_then(Value::as_bool).unwrap_or(false);
    let mint = if tx.extra.contains_key("mint") { extra_number(tx, "mint")? } else { U256::ZERO };
    let input = tx.input.as_ref().ok_or(Unencodable::Missing("input"))?;
    let list = RlpList::default().push(&extra_hash(tx, "sourceHash")?).push(&tx.from).push_target(tx.to);
    let list = list.push(&mint).push(&need("value", tx.value)?).push(&need("gas", tx.gas)?);
    let bytes = list.push(&is_system).push(input).finish(Some(0x7e));
    Ok(EncodedTransaction { bytes, sender: Sender::Encoded(tx.from), tentative: true })
}
