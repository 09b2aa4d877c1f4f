//! Arbitrum's own types 0x64 to 0x6a. Field order as in the node's transaction definitions. Only 0x6a was checked on real
//! data (block 150,000,000), so a root over the others that differs is unverifiable and not a lie.

use alloy_primitives::{Address, B256, Bytes, U256, address};
use serde_json::Value;

use super::{EncodedTransaction, RlpList, Sender, Unencodable, need};
use crate::json::Transaction;

const INTERNAL_SENDER: Address = address!("0x00000000000000000000000000000000000a4b05");
const INTERNAL: u64 = 0x6a;

pub(super) fn encode(tx: &Transaction) -> Result<EncodedTransaction, Unencodable> {
    let list = RlpList::default().push(&need("chainId", tx.chain_id)?);
    let list = match tx.tx_type {
        0x64 => deposit(tx, list)?,
        0x65 => unsigned(tx, list)?,
        0x66 => contract(tx, list)?,
        0x68 => retry(tx, list)?,
        0x69 => submit_retryable(tx, list)?,
        INTERNAL => list.push(&input(tx)?),
        other => return Err(Unencodable::UnknownType(other)),
    };
    let internal = tx.tx_type == INTERNAL;
    let sender = Sender::Encoded(if internal { INTERNAL_SENDER } else { tx.from });
    let prefix = u8::try_from(tx.tx_type).map_err(|_| Unencodable::UnknownType(tx.tx_type))?;
    Ok(EncodedTransaction { bytes: list.finish(Some(prefix)), sender, tentative: !internal })
}

fn deposit(tx: &Transaction, list: RlpList) -> Result<RlpList, Unencodable> {
    let list = list.push(&extra_hash(tx, "requestId")?).push(&tx.from).push(&need("to", tx.to)?);
    Ok(list.push(&need("value", tx.value)?))
}

fn unsigned(tx: &Transaction, list: RlpList) -> Result<RlpList, Unencodable> {
    call(tx, list.push(&tx.from).push(&need("nonce", tx.nonce)?))
}

fn contract(tx: &Transaction, list: RlpList) -> Result<RlpList, Unencodable> {
    call(tx, list.push(&extra_hash(tx, "requestId")?).push(&tx.from))
}

fn retry(tx: &Transaction, list: RlpList) -> Result<RlpList, Unencodable> {
    let list = call(tx, list.push(&need("nonce", tx.nonce)?).push(&tx.from))?;
    let list = list.push(&extra_hash(tx, "ticketId")?).push(&extra_address(tx, "refundTo")?);
    Ok(list.push(&extra_number(tx, "maxRefund")?).push(&extra_number(tx, "submissionFeeRefund")?))
}

fn submit_retryable(tx: &Transaction, list: RlpList) -> Result<RlpList, Unencodable> {
    let list = list.push(&extra_hash(tx, "requestId")?).push(&tx.from);
    let list = list.push(&extra_number(tx, "l1BaseFee")?).push(&extra_number(tx, "depositValue")?);
    let list =
        list.push(&fee_cap(tx)?).push(&need("gas", tx.gas)?).push_target(extra_address(tx, "retryTo").ok());
    let list = list.push(&extra_number(tx, "retryValue")?).push(&extra_address(tx, "beneficiary")?);
    let list = list.push(&extra_number(tx, "maxSubmissionFee")?).push(&extra_address(tx, "refundTo")?);
    let data: Bytes = extra(tx, "retryData")?.parse().map_err(|_| Unencodable::Missing("retryData"))?;
    Ok(list.push(&data))
}

/// The part that all message calls share: fee cap, gas, target, value, payload.
fn call(tx: &Transaction, list: RlpList) -> Result<RlpList, Unencodable> {
    let list = list.push(&fee_cap(tx)?).push(&need("gas", tx.gas)?).push_target(tx.to);
    Ok(list.push(&need("value", tx.value)?).push(&input(tx)?))
}

fn fee_cap(tx: &Transaction) -> Result<u128, Unencodable> {
    need("maxFeePerGas", tx.max_fee_per_gas.or(tx.gas_price))
}

fn input(tx: &Transaction) -> Result<Bytes, Unencodable> {
    tx.input.clone().ok_or(Unencodable::Missing("input"))
}

pub(super) fn extra<'a>(tx: &'a Transaction, field: &'static str) -> Result<&'a str, Unencodable> {
    tx.extra.get(field).and_then(Value::as_str).ok_or(Unencodable::Missing(field))
}

pub(super) fn extra_hash(tx: &Transaction, field: &'static str) -> Result<B256, Unencodable> {
    extra(tx, field)?.parse().map_err(|_| Unencodable::Missing(field))
}

fn extra_address(tx: &Transaction, field: &'static str) -> Result<Address, Unencodable> {
    extra(tx, field)?.parse().map_err(|_| Unencodable::Missing(field))
}

pub(super) fn extra_number(tx: &Transaction, field: &'static str) -> Result<U256, Unencodable> {
    let digits = extra(tx, field)?.strip_prefix("0x").ok_or(Unencodable::Missing(field))?;
    U256::from_str_radix(digits, 16).map_err(|_| Unencodable::Missing(field))
}
