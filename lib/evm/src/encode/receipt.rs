//! Receipts as their trie holds them.

use alloy_primitives::{Log, U256};
use serde_json::Value;

use super::{RlpList, Unencodable};
use crate::{
    json::Receipt,
    profile::{Family, Profile},
};

/// The bytes of a receipt by the rules of the profile's family.
///
/// # Errors
/// When the outcome of the transaction is missing, or has no meaning.
pub fn encode_receipt(profile: &Profile, receipt: &Receipt) -> Result<Vec<u8>, Unencodable> {
    let prefix = u8::try_from(receipt.tx_type).map_err(|_| Unencodable::UnknownType(receipt.tx_type))?;
    let list = outcome(receipt)?.push(&receipt.cumulative_gas_used).push(&receipt.logs_bloom);
    let logs: Vec<&Log> = receipt.logs.iter().map(|log| &log.inner).collect();
    let mut list = list.push(&logs);
    if profile.family == Family::Optimism && receipt.tx_type == 0x7e {
        for field in ["depositNonce", "depositReceiptVersion"] {
            if let Some(number) = receipt.extra.get(field).and_then(quantity) {
                list = list.push(&number);
            }
        }
    }
    Ok(list.finish((prefix != 0).then_some(prefix)))
}

/// Before Byzantium a receipt begins with a state root; since then, with the status.
fn outcome(receipt: &Receipt) -> Result<RlpList, Unencodable> {
    match (receipt.status, &receipt.root) {
        (Some(status @ (0 | 1)), _) => Ok(RlpList::default().push(&status)),
        (Some(status), _) => Err(Unencodable::Contradiction {
            field: "status",
            expected: "0 or 1".to_owned(),
            got: status.to_string(),
        }),
        (None, Some(root)) => Ok(RlpList::default().push(root)),
        (None, None) => Err(Unencodable::Missing("status")),
    }
}

fn quantity(value: &Value) -> Option<U256> {
    U256::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}
