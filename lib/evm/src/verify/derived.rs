//! Fields that no root covers, recomputed from fields that one covers. Encoders store what is computed here, never what was
//! answered.

use alloy_eips::eip4844::{DATA_GAS_PER_BLOB, fake_exponential};
use alloy_primitives::Address;
use alloy_rlp::Encodable;
use serde_json::Value;

use super::{
    Subject,
    outcome::{Fault, same, same_if_given},
};
use crate::{
    json::{self, Receipt, Transaction},
    profile::{Family, Profile},
};

/// Update fractions of Cancun, Prague and Osaka, BPO1, BPO2. A later fork may add one: then the price is unverifiable.
const BLOB_FRACTIONS: [u128; 4] = [3_338_477, 5_007_716, 8_346_193, 11_684_671];

pub(super) fn check(s: &Subject<'_>) -> Result<(), Fault> {
    if s.profile.family == Family::Arbitrum {
        arbitrum_copies(s)?;
    }
    if s.profile.family == Family::Ethereum {
        s.block.transactions.iter().enumerate().try_for_each(|(i, tx)| answered_price(s, i, tx))?;
    }
    let Some(receipts) = s.receipts else {
        return Err(Fault::unknown("no receipts were given"));
    };
    for (i, (tx, receipt)) in s.block.transactions.iter().zip(receipts).enumerate() {
        one(s, i, tx, receipt, gas_used(receipts, i))?;
    }
    Ok(())
}

fn one(s: &Subject<'_>, i: usize, tx: &Transaction, receipt: &Receipt, gas: u64) -> Result<(), Fault> {
    let field = |name: &str| format!("receipts[{i}].{name}");
    same_if_given(&gas, receipt.gas_used.as_ref(), || field("gasUsed"))?;
    same_if_given(&tx.from, receipt.from.as_ref(), || field("from"))?;
    if tx.tx_type <= 4 {
        same(&tx.to, &receipt.to, || field("to"))?;
        created(tx, receipt, i)?;
    }
    if let Some(price) = effective_gas_price(s.profile, &s.block.header, tx) {
        same_if_given(&price, receipt.effective_gas_price.as_ref(), || field("effectiveGasPrice"))?;
    }
    match blob_gas_used(tx) {
        Some(gas) => same_if_given(&gas, receipt.blob_gas_used.as_ref(), || field("blobGasUsed")),
        // Some nodes say zero for transactions without blobs.
        None => same(&0, &receipt.blob_gas_used.unwrap_or(0), || field("blobGasUsed")),
    }
}

/// A failed creation may be answered with or without the address that it did not fill.
fn created(tx: &Transaction, receipt: &Receipt, i: usize) -> Result<(), Fault> {
    let expected = contract_address(tx);
    let silent = receipt.contract_address.is_none() && receipt.status != Some(1) && receipt.root.is_none();
    if silent {
        return Ok(());
    }
    same(&expected, &receipt.contract_address, || format!("receipts[{i}].contractAddress"))
}

/// For dynamic-fee transactions the answered `gasPrice` is the effective one.
fn answered_price(s: &Subject<'_>, i: usize, tx: &Transaction) -> Result<(), Fault> {
    match effective_gas_price(s.profile, &s.block.header, tx) {
        Some(price) => same_if_given(&price, tx.gas_price.as_ref(), || format!("transactions[{i}].gasPrice")),
        None => Ok(()),
    }
}

/// Gas used by the transaction at that index: the step of the cumulative count.
#[must_use]
pub fn gas_used(receipts: &[Receipt], index: usize) -> u64 {
    let before = index.checked_sub(1).and_then(|i| receipts.get(i)).map_or(0, |r| r.cumulative_gas_used);
    receipts.get(index).map_or(0, |r| r.cumulative_gas_used.saturating_sub(before))
}

/// Price per gas that was paid, where the rule of the type is known.
#[must_use]
pub fn effective_gas_price(profile: &Profile, header: &json::Header, tx: &Transaction) -> Option<u128> {
    if profile.family == Family::Arbitrum {
        return header.base_fee_per_gas.map(u128::from);
    }
    match (tx.tx_type, header.base_fee_per_gas) {
        (0 | 1, _) => tx.gas_price,
        (2..=4, Some(base)) => {
            let tip = tx.max_priority_fee_per_gas?;
            Some(tx.max_fee_per_gas?.min(u128::from(base).saturating_add(tip)))
        }
        _ => None,
    }
}

/// The address of the contract that a creation makes.
#[must_use]
pub fn contract_address(tx: &Transaction) -> Option<Address> {
    match (tx.to, tx.nonce) {
        (None, Some(nonce)) => Some(tx.from.create(nonce)),
        _ => None,
    }
}

/// Blob gas of a blob transaction.
#[must_use]
pub fn blob_gas_used(tx: &Transaction) -> Option<u64> {
    tx.blob_versioned_hashes.as_ref().map(|hashes| DATA_GAS_PER_BLOB.saturating_mul(hashes.len() as u64))
}

pub(super) fn blob_gas_price(s: &Subject<'_>) -> Result<(), Fault> {
    let mut first = None;
    for (i, receipt) in s.receipts.unwrap_or_default().iter().enumerate() {
        let Some(price) = receipt.blob_gas_price else { continue };
        same(first.get_or_insert(price), &price, || format!("receipts[{i}].blobGasPrice"))?;
    }
    let Some(price) = first else { return Ok(()) };
    let excess = u128::from(s.block.header.excess_blob_gas.unwrap_or(0));
    if BLOB_FRACTIONS.iter().any(|fraction| fake_exponential(1, excess, *fraction) == price) {
        return Ok(());
    }
    Err(Fault::unknown(format!(
        "the blob gas price {price} fits no known fork's rule for an excess of {excess}"
    )))
}

/// Some clients (anvil) leave the list of withdrawals out of the count, so that size is accepted too.
pub(super) fn block_size(s: &Subject<'_>) -> Result<(), Fault> {
    let (Some(size), Some(answered)) = (recomputed_size(s), s.block.size) else { return Ok(()) };
    if rlp_size(s, 0) == Some(answered) {
        return Ok(());
    }
    same(&size, &answered, || "size".to_owned())
}

/// Bytes of the RLP block, when everything in it can be encoded: ommer headers are not part of the answer.
pub(super) fn recomputed_size(s: &Subject<'_>) -> Option<u64> {
    rlp_size(s, s.block.withdrawals.as_ref().map_or(0, Encodable::length))
}

fn rlp_size(s: &Subject<'_>, withdrawals: usize) -> Option<u64> {
    if !s.block.uncles.is_empty() {
        return None;
    }
    let mut listed = 0;
    for (tx, encoded) in s.block.transactions.iter().zip(&s.transactions) {
        let bytes = &encoded.as_ref().ok()?.bytes;
        // A legacy transaction is a list inside the block; a typed one is wrapped as a string.
        listed += if tx.tx_type == 0 { bytes.len() } else { bytes.as_slice().length() };
    }
    let empty_list = 1;
    let payload = s.header.as_ref().ok()?.hashed.len() + list_length(listed) + empty_list + withdrawals;
    Some(list_length(payload) as u64)
}

fn list_length(payload_length: usize) -> usize {
    alloy_rlp::Header { list: true, payload_length }.length_with_payload()
}

/// Arbitrum repeats parts of the mix hash and the extra data under names of their own.
fn arbitrum_copies(s: &Subject<'_>) -> Result<(), Fault> {
    let header = &s.block.header;
    let Some(mix) = header.mix_hash else { return Ok(()) };
    let [send_count, l1_block] =
        [0, 8].map(|at| mix[at..at + 8].iter().fold(0_u64, |n, b| n << 8 | u64::from(*b)));
    extra_number(&header.extra, "sendCount", send_count, String::new)?;
    extra_number(&header.extra, "l1BlockNumber", l1_block, String::new)?;
    if let Some(root) = header.extra.get("sendRoot").and_then(Value::as_str) {
        same(&header.extra_data.to_string(), &root.to_ascii_lowercase(), || "sendRoot".to_owned())?;
    }
    for (i, receipt) in s.receipts.unwrap_or_default().iter().enumerate() {
        extra_number(&receipt.extra, "l1BlockNumber", l1_block, || format!("receipts[{i}]."))?;
    }
    Ok(())
}

fn extra_number(
    extra: &serde_json::Map<String, Value>,
    name: &str,
    expected: u64,
    prefix: impl FnOnce() -> String,
) -> Result<(), Fault> {
    let Some(got) = extra.get(name).and_then(Value::as_str) else { return Ok(()) };
    same(&format!("{expected:#x}"), &got.to_ascii_lowercase(), || prefix() + name)
}
