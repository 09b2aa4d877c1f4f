//! Types 0x0 to 0x4, by alloy's encoders.

use std::fmt::Display;

use alloy_consensus::{
    SignableTransaction, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy,
    transaction::RlpEcdsaEncodableTx,
};
use alloy_eips::{
    eip2930::AccessList,
    eip7702::{Authorization, SignedAuthorization},
};
use alloy_primitives::{Address, Bytes, Signature, TxKind};

use super::{EncodedTransaction, Sender, Unencodable, need};
use crate::json::{self, Transaction};

pub(super) fn encode(tx: &Transaction) -> Result<EncodedTransaction, Unencodable> {
    match tx.tx_type {
        0 => legacy(tx),
        1 => typed(tx, &eip2930(tx)?),
        2 => typed(tx, &eip1559(tx)?),
        3 => typed(tx, &eip4844(tx)?),
        4 => typed(tx, &eip7702(tx)?),
        other => Err(Unencodable::UnknownType(other)),
    }
}

fn finish<T>(tx: &T, signature: Signature) -> EncodedTransaction
where
    T: RlpEcdsaEncodableTx + SignableTransaction<Signature>,
{
    let mut bytes = Vec::with_capacity(tx.eip2718_encoded_length(&signature));
    tx.eip2718_encode(&signature, &mut bytes);
    let unsigned = signature.r().is_zero() && signature.s().is_zero();
    let sender =
        if unsigned { Sender::Nothing } else { Sender::Signed { signature, hash: tx.signature_hash() } };
    EncodedTransaction { bytes, sender, tentative: false }
}

fn typed<T>(source: &Transaction, tx: &T) -> Result<EncodedTransaction, Unencodable>
where
    T: RlpEcdsaEncodableTx + SignableTransaction<Signature>,
{
    let v = source.v.map(|v| u64::try_from(v).unwrap_or(u64::MAX));
    let parity = need("yParity", source.y_parity.or(v))?;
    if parity > 1 {
        return Err(contradiction("yParity", "0 or 1", parity));
    }
    if let Some(v) = v.filter(|v| *v != parity) {
        return Err(contradiction("v", parity, v));
    }
    Ok(finish(tx, Signature::new(need("r", source.r)?, need("s", source.s)?, parity == 1)))
}

/// The chain id and the parity of a legacy signature share one number (EIP-155).
fn legacy(tx: &Transaction) -> Result<EncodedTransaction, Unencodable> {
    let v = need("v", tx.v)?;
    let v = u64::try_from(v).map_err(|_| contradiction("v", "at most 64 bits", v))?;
    let (chain_id, parity) = match v {
        27 | 28 => (None, v == 28),
        35.. => (Some((v - 35) / 2), (v - 35) % 2 == 1),
        _ => return Err(contradiction("v", "27, 28, or at least 35", v)),
    };
    if let (Some(signed), Some(said)) = (chain_id, tx.chain_id)
        && signed != said
    {
        return Err(contradiction("chainId", signed, said));
    }
    let body = TxLegacy {
        chain_id,
        nonce: need("nonce", tx.nonce)?,
        gas_price: need("gasPrice", tx.gas_price)?,
        gas_limit: need("gas", tx.gas)?,
        to: target(tx),
        value: need("value", tx.value)?,
        input: input(tx)?,
    };
    Ok(finish(&body, Signature::new(need("r", tx.r)?, need("s", tx.s)?, parity)))
}

fn eip2930(tx: &Transaction) -> Result<TxEip2930, Unencodable> {
    Ok(TxEip2930 {
        chain_id: need("chainId", tx.chain_id)?,
        nonce: need("nonce", tx.nonce)?,
        gas_price: need("gasPrice", tx.gas_price)?,
        gas_limit: need("gas", tx.gas)?,
        to: target(tx),
        value: need("value", tx.value)?,
        access_list: access_list(tx),
        input: input(tx)?,
    })
}

fn eip1559(tx: &Transaction) -> Result<TxEip1559, Unencodable> {
    Ok(TxEip1559 {
        chain_id: need("chainId", tx.chain_id)?,
        nonce: need("nonce", tx.nonce)?,
        gas_limit: need("gas", tx.gas)?,
        max_fee_per_gas: need("maxFeePerGas", tx.max_fee_per_gas)?,
        max_priority_fee_per_gas: need("maxPriorityFeePerGas", tx.max_priority_fee_per_gas)?,
        to: target(tx),
        value: need("value", tx.value)?,
        access_list: access_list(tx),
        input: input(tx)?,
    })
}

fn eip4844(tx: &Transaction) -> Result<TxEip4844, Unencodable> {
    Ok(TxEip4844 {
        chain_id: need("chainId", tx.chain_id)?,
        nonce: need("nonce", tx.nonce)?,
        gas_limit: need("gas", tx.gas)?,
        max_fee_per_gas: need("maxFeePerGas", tx.max_fee_per_gas)?,
        max_priority_fee_per_gas: need("maxPriorityFeePerGas", tx.max_priority_fee_per_gas)?,
        to: required_target(tx)?,
        value: need("value", tx.value)?,
        access_list: access_list(tx),
        blob_versioned_hashes: need("blobVersionedHashes", tx.blob_versioned_hashes.clone())?,
        max_fee_per_blob_gas: need("maxFeePerBlobGas", tx.max_fee_per_blob_gas)?,
        input: input(tx)?,
    })
}

fn eip7702(tx: &Transaction) -> Result<TxEip7702, Unencodable> {
    let listed = tx.authorization_list.as_ref().ok_or(Unencodable::Missing("authorizationList"))?;
    Ok(TxEip7702 {
        chain_id: need("chainId", tx.chain_id)?,
        nonce: need("nonce", tx.nonce)?,
        gas_limit: need("gas", tx.gas)?,
        max_fee_per_gas: need("maxFeePerGas", tx.max_fee_per_gas)?,
        max_priority_fee_per_gas: need("maxPriorityFeePerGas", tx.max_priority_fee_per_gas)?,
        to: required_target(tx)?,
        value: need("value", tx.value)?,
        access_list: access_list(tx),
        authorization_list: listed.iter().map(authorization).collect::<Result<_, _>>()?,
        input: input(tx)?,
    })
}

fn authorization(source: &json::Authorization) -> Result<SignedAuthorization, Unencodable> {
    let parity = u8::try_from(source.y_parity)
        .map_err(|_| contradiction("authorizationList.yParity", "at most 8 bits", source.y_parity))?;
    let inner = Authorization { chain_id: source.chain_id, address: source.address, nonce: source.nonce };
    Ok(SignedAuthorization::new_unchecked(inner, parity, source.r, source.s))
}

fn target(tx: &Transaction) -> TxKind {
    tx.to.map_or(TxKind::Create, TxKind::Call)
}

fn required_target(tx: &Transaction) -> Result<Address, Unencodable> {
    need("to", tx.to)
}

fn access_list(tx: &Transaction) -> AccessList {
    tx.access_list.clone().unwrap_or_default()
}

/// Some nodes name the payload twice; what they say must agree.
fn input(tx: &Transaction) -> Result<Bytes, Unencodable> {
    let input = tx.input.clone().ok_or(Unencodable::Missing("input"))?;
    match tx.extra.get("data").and_then(|data| data.as_str()) {
        Some(data) if !data.eq_ignore_ascii_case(&input.to_string()) => {
            Err(contradiction("data", &input, data))
        }
        _ => Ok(input),
    }
}

fn contradiction(field: &'static str, expected: impl Display, got: impl Display) -> Unencodable {
    Unencodable::Contradiction { field, expected: format!("{expected}"), got: format!("{got}") }
}
