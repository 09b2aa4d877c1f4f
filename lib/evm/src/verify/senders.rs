//! The sender, from the signature.

use super::{
    SenderCheck, Subject,
    outcome::{Fault, same},
};
use crate::{
    encode::{EncodedTransaction, Sender, Unencodable},
    json::Transaction,
    profile::Family,
};

pub(super) fn check(s: &Subject<'_>, which: SenderCheck) -> Result<(), Fault> {
    let mut unknown = None;
    for (i, (tx, encoded)) in s.block.transactions.iter().zip(&s.transactions).enumerate() {
        if !chosen(which, tx) {
            continue;
        }
        match one(s, i, tx, encoded) {
            Err(fault @ Fault::Mismatch { .. }) => return Err(fault),
            Err(fault) => unknown = unknown.or(Some(fault)),
            Ok(()) => {}
        }
    }
    unknown.map_or(Ok(()), Err)
}

fn chosen(which: SenderCheck, tx: &Transaction) -> bool {
    match which {
        SenderCheck::All => true,
        SenderCheck::OneIn(classes) => {
            let [a, b, c, d, ..] = tx.hash.0;
            u64::from(u32::from_be_bytes([a, b, c, d])) % classes.max(1) == 0
        }
    }
}

fn one(
    s: &Subject<'_>,
    i: usize,
    tx: &Transaction,
    encoded: &Result<EncodedTransaction, Unencodable>,
) -> Result<(), Fault> {
    let path = format!("transactions[{i}]");
    let encoded = encoded.as_ref().map_err(|error| Fault::unencodable(&path, error))?;
    match &encoded.sender {
        Sender::Encoded(sender) => same(sender, &tx.from, || format!("{path}.from")),
        Sender::Nothing if s.profile.family != Family::Ethereum => {
            Err(Fault::unknown(format!("{path} is a system transaction without a signature")))
        }
        Sender::Nothing => Err(Fault::mismatch(format!("{path}.r"), "a signature", "zero")),
        Sender::Signed { signature, hash } => {
            let recovered = alloy_consensus::crypto::secp256k1::recover_signer_unchecked(signature, *hash);
            let sender = recovered
                .map_err(|error| Fault::mismatch(format!("{path}.r"), "a valid signature", error))?;
            same(&sender, &tx.from, || format!("{path}.from"))
        }
    }
}
