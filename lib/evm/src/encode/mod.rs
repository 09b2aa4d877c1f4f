//! Canonical bytes: what the chain hashed, rebuilt from what the provider answered.

mod arbitrum;
mod ethereum;
mod header;
mod optimism;
mod receipt;

use alloy_primitives::{Address, B256, Signature};

pub use header::{HeaderBytes, encode_header};
pub use receipt::encode_receipt;

use crate::{
    json::Transaction,
    profile::{Family, Profile},
};

/// A transaction as its trie holds it (EIP-2718), and what proves its sender.
#[derive(Debug, Clone)]
pub struct EncodedTransaction {
    pub bytes: Vec<u8>,
    pub sender: Sender,
    /// The encoder was never checked on real data: a root over it that differs proves nothing.
    pub tentative: bool,
}

/// What proves the sender of a transaction.
#[derive(Debug, Clone)]
pub enum Sender {
    /// A signature over this hash.
    Signed { signature: Signature, hash: B256 },
    /// The sender is part of the encoded bytes, or fixed by the type.
    Encoded(Address),
    /// Nothing: a system transaction.
    Nothing,
}

/// Why a transaction or receipt could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unencodable {
    /// The type has no encoder in this profile.
    UnknownType(u64),
    /// The type needs a field that the answer lacks.
    Missing(&'static str),
    /// Two fields that say the same contradict each other, or one holds what its type forbids.
    Contradiction { field: &'static str, expected: String, got: String },
}

/// Encodes a transaction by the rules of the profile's family.
///
/// # Errors
/// When the type is unknown, a field is missing, or fields contradict each other.
pub fn encode_transaction(profile: &Profile, tx: &Transaction) -> Result<EncodedTransaction, Unencodable> {
    match (profile.family, tx.tx_type) {
        (_, 0..=4) => ethereum::encode(tx),
        (Family::Arbitrum, 0x64..=0x6a) => arbitrum::encode(tx),
        (Family::Optimism, 0x7e) => optimism::encode(tx),
        (_, other) => Err(Unencodable::UnknownType(other)),
    }
}

/// An RLP list built field by field.
#[derive(Default)]
pub(crate) struct RlpList(Vec<u8>);

impl RlpList {
    pub(crate) fn push(mut self, item: &impl alloy_rlp::Encodable) -> Self {
        item.encode(&mut self.0);
        self
    }

    /// An address, or the empty string of a contract creation.
    pub(crate) fn push_target(mut self, to: Option<Address>) -> Self {
        match to {
            Some(address) => alloy_rlp::Encodable::encode(&address, &mut self.0),
            None => self.0.push(alloy_rlp::EMPTY_STRING_CODE),
        }
        self
    }

    pub(crate) fn finish(self, prefix: Option<u8>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() + 6);
        out.extend(prefix);
        alloy_rlp::Header { list: true, payload_length: self.0.len() }.encode(&mut out);
        out.extend_from_slice(&self.0);
        out
    }
}

/// A field that the type needs.
pub(crate) fn need<T>(field: &'static str, value: Option<T>) -> Result<T, Unencodable> {
    value.ok_or(Unencodable::Missing(field))
}
