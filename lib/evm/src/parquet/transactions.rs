//! One row per transaction with its receipt: enough to rebuild both roots from the file alone.

use std::borrow::Cow;

use alloy_primitives::U256;

use super::{
    EncodeContext,
    blocks::{bytes, decimal, some},
    nested,
    table::{Cell, Column, Columns},
};
use crate::{
    VerifiedBundle,
    json::{Header, Receipt, Transaction},
    verify::{blob_gas_used, contract_address, effective_gas_price, gas_used},
};

pub(super) struct Row<'a> {
    ctx: &'a EncodeContext<'a>,
    header: &'a Header,
    tx: &'a Transaction,
    receipt: &'a Receipt,
    index: u64,
    gas_used: u64,
}

impl Row<'_> {
    fn input(&self) -> &[u8] {
        self.tx.input.as_ref().map_or(&[], |input| &input[..])
    }

    fn zero_bytes(&self) -> u64 {
        self.input().iter().filter(|byte| **byte == 0).count() as u64
    }

    fn effective_gas_price(&self) -> Option<u128> {
        effective_gas_price(self.ctx.profile, self.header, self.tx).or(self.receipt.effective_gas_price)
    }

    /// For dynamic fees, nodes answer the effective price under this name; so did cryo.
    fn gas_price(&self) -> Option<u128> {
        if self.tx.tx_type <= 1 { self.tx.gas_price } else { self.effective_gas_price() }
    }

    /// What follows from the status; before Byzantium nothing does.
    fn success(&self) -> Option<bool> {
        self.receipt.status.map(|status| status == 1)
    }

    /// Present in receipts before Byzantium only; some nodes add an empty one later.
    fn post_state_root(&self) -> Option<Cow<'_, [u8]>> {
        if self.receipt.status.is_some() { None } else { bytes(self.receipt.root.as_ref()) }
    }
}

pub(super) fn rows<'a>(ctx: &'a EncodeContext<'a>, bundles: &'a [VerifiedBundle]) -> Vec<Row<'a>> {
    let of_block = |bundle: &'a VerifiedBundle| {
        let (block, receipts) = (bundle.block(), bundle.receipts());
        block.transactions.iter().zip(receipts).enumerate().map(move |(i, (tx, receipt))| Row {
            ctx,
            header: &block.header,
            tx,
            receipt,
            index: i as u64,
            gas_used: gas_used(receipts, i),
        })
    };
    bundles.iter().flat_map(of_block).collect()
}

pub(super) fn columns<'a>() -> Columns<Row<'a>> {
    let mut list = place();
    list.extend(body());
    list.extend(fees());
    list.extend(signature());
    list.extend(lists());
    list.extend(receipt());
    Columns { list, sorted_by: &["block_number", "transaction_index"] }
}

fn place<'a>() -> Vec<Column<Row<'a>>> {
    vec![
        Column::new("chain_id", Cell::U64(|r| Some(r.ctx.chain_id))),
        Column::new("block_number", Cell::U64(|r| Some(r.header.number))),
        Column::new("block_hash", Cell::Bytes(|r| some(r.header.hash.as_slice()))),
        Column::new("timestamp", Cell::U64(|r| Some(r.header.timestamp))),
        Column::new("transaction_index", Cell::U64(|r| Some(r.index))),
        Column::new("transaction_hash", Cell::Bytes(|r| some(r.tx.hash.as_slice()))),
    ]
}

fn body<'a>() -> Vec<Column<Row<'a>>> {
    vec![
        Column::new("transaction_type", Cell::U64(|r| Some(r.tx.tx_type))),
        Column::nullable("nonce", Cell::U64(|r| r.tx.nonce)),
        Column::new("from_address", Cell::Bytes(|r| some(r.tx.from.as_slice()))),
        Column::nullable("to_address", Cell::Bytes(|r| bytes(r.tx.to.as_ref()))),
        Column::nullable("value_binary", Cell::Word(|r| r.tx.value)),
        Column::nullable("value_string", Cell::Text(|r| r.tx.value.map(decimal))),
        Column::new("input", Cell::Bytes(|r| some(r.input()))),
        Column::new("n_input_bytes", Cell::U64(|r| Some(r.input().len() as u64))),
        Column::new("n_input_zero_bytes", Cell::U64(|r| Some(r.zero_bytes()))),
        Column::new("n_input_nonzero_bytes", Cell::U64(|r| Some(r.input().len() as u64 - r.zero_bytes()))),
        Column::nullable("gas_limit", Cell::U64(|r| r.tx.gas)),
    ]
}

fn fees<'a>() -> Vec<Column<Row<'a>>> {
    vec![
        Column::nullable("gas_price", Cell::Fee(Row::gas_price)),
        Column::nullable("max_fee_per_gas", Cell::Fee(|r| r.tx.max_fee_per_gas)),
        Column::nullable("max_priority_fee_per_gas", Cell::Fee(|r| r.tx.max_priority_fee_per_gas)),
        Column::nullable("max_fee_per_blob_gas", Cell::Fee(|r| r.tx.max_fee_per_blob_gas)),
    ]
}

fn signature<'a>() -> Vec<Column<Row<'a>>> {
    // For typed transactions `v` is the parity, whichever name the node used.
    let v: fn(&Row<'a>) -> Option<u64> = |r| r.tx.v.and_then(|v| u64::try_from(v).ok()).or(r.tx.y_parity);
    vec![
        Column::nullable("v", Cell::U64(v)),
        Column::nullable("r", Cell::Word(|r| r.tx.r)),
        Column::nullable("s", Cell::Word(|r| r.tx.s)),
        // Distinguishes a protected legacy transaction; typed ones sign the chain id.
        Column::nullable("signed_chain_id", Cell::U64(signed_chain_id)),
    ]
}

fn signed_chain_id(row: &Row<'_>) -> Option<u64> {
    match row.tx.tx_type {
        0 => row
            .tx
            .v
            .filter(|v| *v >= U256::from(35))
            .and_then(|v| u64::try_from((v - U256::from(35)) >> 1).ok()),
        _ => row.tx.chain_id,
    }
}

fn lists<'a>() -> Vec<Column<Row<'a>>> {
    vec![
        Column::nullable(
            "access_list",
            Cell::Nested(nested::access_list_type, |rows| {
                nested::access_lists(
                    rows.iter().map(|r| r.tx.access_list.as_ref().map(|list| list.0.as_slice())),
                )
            }),
        ),
        Column::nullable(
            "blob_versioned_hashes",
            Cell::Nested(nested::hashes_type, |rows| {
                nested::hashes(rows.iter().map(|r| r.tx.blob_versioned_hashes.as_deref()))
            }),
        ),
        Column::nullable(
            "authorization_list",
            Cell::Nested(nested::authorizations_type, |rows| {
                nested::authorizations(rows.iter().map(|r| r.tx.authorization_list.as_deref()))
            }),
        ),
        Column::nullable(
            "extra_fields",
            Cell::Nested(nested::extras_type, |rows| nested::extras(rows.iter().map(|r| extra_fields(r)))),
        ),
    ]
}

/// The fields that only a chain's own types have. Of Ethereum's types all fields are columns.
fn extra_fields<'a>(row: &Row<'a>) -> Option<&'a serde_json::Map<String, serde_json::Value>> {
    (row.tx.tx_type > 4 && !row.tx.extra.is_empty()).then_some(&row.tx.extra)
}

fn receipt<'a>() -> Vec<Column<Row<'a>>> {
    vec![
        Column::nullable("success", Cell::Bool(Row::success)),
        Column::nullable("post_state_root", Cell::Bytes(Row::post_state_root)),
        Column::new("gas_used", Cell::U64(|r| Some(r.gas_used))),
        Column::new("cumulative_gas_used", Cell::U64(|r| Some(r.receipt.cumulative_gas_used))),
        Column::nullable("effective_gas_price", Cell::Fee(Row::effective_gas_price)),
        Column::nullable(
            "contract_address",
            Cell::Bytes(|r| contract_address(r.tx).map(|a| Cow::Owned(a.to_vec()))),
        ),
        Column::nullable("blob_gas_used", Cell::U64(|r| blob_gas_used(r.tx))),
        Column::new("logs_bloom", Cell::Bytes(|r| some(r.receipt.logs_bloom.as_slice()))),
        Column::new("n_logs", Cell::U64(|r| Some(r.receipt.logs.len() as u64))),
    ]
}
