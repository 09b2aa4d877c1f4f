//! Tries and hashes that the header commits to.

use alloy_consensus::{
    EMPTY_OMMER_ROOT_HASH,
    proofs::{calculate_withdrawals_root, ordered_trie_root_encoded},
};
use alloy_primitives::{Bloom, keccak256};

use super::{
    Subject,
    outcome::{Fault, same},
};
use crate::encode::{EncodedTransaction, Unencodable, encode_receipt};

pub(super) fn transaction_hashes(s: &Subject<'_>) -> Result<(), Fault> {
    let mut unknown = None;
    for (i, (tx, encoded)) in s.block.transactions.iter().zip(&s.transactions).enumerate() {
        let path = format!("transactions[{i}]");
        let outcome = match encoded {
            Err(error) => Err(Fault::unencodable(&path, error)),
            Ok(encoded) => same(&keccak256(&encoded.bytes), &tx.hash, || format!("{path}.hash"))
                .map_err(|fault| excuse_tentative(encoded, fault)),
        };
        match outcome {
            Err(fault @ Fault::Mismatch { .. }) => return Err(fault),
            Err(fault) => unknown = unknown.or(Some(fault)),
            Ok(()) => {}
        }
    }
    unknown.map_or(Ok(()), Err)
}

fn excuse_tentative(encoded: &EncodedTransaction, fault: Fault) -> Fault {
    match fault {
        Fault::Mismatch { field, .. } if encoded.tentative => {
            Fault::unknown(format!("{field}: the encoder of this type was never checked on real data"))
        }
        other => other,
    }
}

pub(super) fn transactions_root(s: &Subject<'_>) -> Result<(), Fault> {
    let mut bytes = Vec::with_capacity(s.transactions.len());
    let mut tentative = false;
    for (i, encoded) in s.transactions.iter().enumerate() {
        let encoded =
            encoded.as_ref().map_err(|error| Fault::unencodable(&format!("transactions[{i}]"), error))?;
        tentative |= encoded.tentative;
        bytes.push(encoded.bytes.as_slice());
    }
    let root = ordered_trie_root_encoded(&bytes);
    let result = same(&root, &s.block.header.transactions_root, || "transactionsRoot".to_owned());
    match result {
        Err(_) if tentative => Err(Fault::unknown(
            "a transaction's encoder was never checked on real data, and the root differs",
        )),
        other => other,
    }
}

pub(super) fn receipts_root(s: &Subject<'_>) -> Result<(), Fault> {
    let Some(receipts) = s.receipts else {
        return Err(Fault::unknown("no receipts were given"));
    };
    let mut bytes = Vec::with_capacity(receipts.len());
    for (i, receipt) in receipts.iter().enumerate() {
        let encoded = encode_receipt(s.profile, receipt);
        bytes.push(encoded.map_err(|error| Fault::unencodable(&format!("receipts[{i}]"), &error))?);
    }
    let root = ordered_trie_root_encoded(&bytes);
    same(&root, &s.block.header.receipts_root, || "receiptsRoot".to_owned())
        .map_err(|fault| unknown_type(s).unwrap_or(fault))
}

/// A receipt of a type that the profile does not know was encoded by the rule of the known ones: a guess, which can prove a
/// root and cannot disprove it.
fn unknown_type(s: &Subject<'_>) -> Option<Fault> {
    let unknown = |encoded: &Result<_, Unencodable>| matches!(encoded, Err(Unencodable::UnknownType(_)));
    let at = s.transactions.iter().position(unknown)?;
    Some(Fault::unencodable(&format!("receipts[{at}]"), s.transactions[at].as_ref().err()?))
}

pub(super) fn bloom(s: &Subject<'_>) -> Result<(), Fault> {
    let Some(receipts) = s.receipts else {
        return Err(Fault::unknown("no receipts were given"));
    };
    let mut all = Bloom::ZERO;
    for (i, receipt) in receipts.iter().enumerate() {
        let own: Bloom = receipt.logs.iter().map(|log| &log.inner).collect();
        same(&own, &receipt.logs_bloom, || format!("receipts[{i}].logsBloom"))?;
        all.accrue_bloom(&own);
    }
    same(&all, &s.block.header.logs_bloom, || "logsBloom".to_owned())
}

pub(super) fn withdrawals_root(s: &Subject<'_>) -> Result<(), Fault> {
    match (s.block.header.withdrawals_root, &s.block.withdrawals) {
        (None, None) => Ok(()),
        (Some(root), Some(withdrawals)) => {
            same(&calculate_withdrawals_root(withdrawals), &root, || "withdrawalsRoot".to_owned())
        }
        (Some(root), None) => {
            Err(Fault::mismatch("withdrawals", format!("a list with root {root}"), "nothing"))
        }
        (None, Some(_)) => Err(Fault::mismatch("withdrawalsRoot", "the root of the withdrawals", "nothing")),
    }
}

/// The answer holds ommer hashes and no ommer headers, so only "none" can be proven.
pub(super) fn ommers_hash(s: &Subject<'_>) -> Result<(), Fault> {
    let none_committed = s.block.header.sha3_uncles == EMPTY_OMMER_ROOT_HASH;
    match (none_committed, s.block.uncles.len()) {
        (true, 0) => Ok(()),
        (true, listed) => Err(Fault::mismatch("uncles", "no ommers", format!("{listed} ommers"))),
        (false, 0) => {
            Err(Fault::mismatch("uncles", format!("ommers with hash {}", s.block.header.sha3_uncles), "none"))
        }
        (false, _) => Err(Fault::unknown("the answer holds the hashes of ommers, not their headers")),
    }
}
