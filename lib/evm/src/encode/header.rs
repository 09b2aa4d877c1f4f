//! Headers as they are hashed.

use alloy_primitives::Bytes;
use serde_json::Value;

use super::{RlpList, Unencodable};
use crate::{
    json::Header,
    profile::{HeaderRule, Profile},
};

/// The bytes of a header.
#[derive(Debug, Clone)]
pub struct HeaderBytes {
    /// What the block hash is the keccak of.
    pub hashed: Vec<u8>,
    /// Fields of the answer that no rule knows: they may be part of the hash.
    pub unknown: Vec<String>,
}

/// Fields that chains add to the answer and that are known to lie outside the hash, or to be in it by another rule.
const KNOWN_OUTSIDE: &[&str] = &[
    // Arbitrum: copies of parts of the mix hash and the extra data.
    "l1BlockNumber",
    "sendCount",
    "sendRoot",
    // Tempo: the first three are hashed by the outer list, the last is derived from two of them.
    "mainBlockGeneralGasLimit",
    "sharedGasLimit",
    "timestampMillisPart",
    "timestampMillis",
    // What other nodes add.
    "author",
    "sealFields",
    "transactionsCount",
];

/// Encodes a header by the rule of the profile.
///
/// # Errors
/// When a field is missing that the rule needs.
pub fn encode_header(profile: &Profile, header: &Header) -> Result<HeaderBytes, Unencodable> {
    let inner = ethereum(header)?;
    let unknown =
        header.extra.keys().filter(|name| !KNOWN_OUTSIDE.contains(&name.as_str())).cloned().collect();
    let hashed = match profile.header_rule {
        HeaderRule::Ethereum => alloy_rlp::encode(&inner),
        HeaderRule::Tempo => {
            let list = RlpList::default().push(&extra_number(header, "mainBlockGeneralGasLimit")?);
            let list = list.push(&extra_number(header, "sharedGasLimit")?);
            list.push(&extra_number(header, "timestampMillisPart")?).push(&inner).finish(None)
        }
    };
    Ok(HeaderBytes { hashed, unknown })
}

fn ethereum(header: &Header) -> Result<alloy_consensus::Header, Unencodable> {
    Ok(alloy_consensus::Header {
        parent_hash: header.parent_hash,
        ommers_hash: header.sha3_uncles,
        beneficiary: header.author,
        state_root: header.state_root,
        transactions_root: header.transactions_root,
        receipts_root: header.receipts_root,
        logs_bloom: header.logs_bloom,
        difficulty: header.difficulty,
        number: header.number,
        gas_limit: header.gas_limit,
        gas_used: header.gas_used,
        timestamp: header.timestamp,
        extra_data: Bytes::clone(&header.extra_data),
        mix_hash: header.mix_hash.ok_or(Unencodable::Missing("mixHash"))?,
        nonce: header.nonce.ok_or(Unencodable::Missing("nonce"))?,
        base_fee_per_gas: header.base_fee_per_gas,
        withdrawals_root: header.withdrawals_root,
        blob_gas_used: header.blob_gas_used,
        excess_blob_gas: header.excess_blob_gas,
        parent_beacon_block_root: header.parent_beacon_block_root,
        requests_hash: header.requests_hash,
        block_access_list_hash: header.block_access_list_hash,
        slot_number: header.slot_number,
    })
}

fn extra_number(header: &Header, field: &'static str) -> Result<u64, Unencodable> {
    let digits = header.extra.get(field).and_then(Value::as_str).and_then(|text| text.strip_prefix("0x"));
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or(Unencodable::Missing(field))
}
