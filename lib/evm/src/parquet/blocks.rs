//! One row per block: the whole header, so that its hash can be recomputed from the file alone.

use std::borrow::Cow;

use alloy_primitives::U256;

use super::{
    EncodeContext, nested,
    table::{Cell, Column, Columns},
};
use crate::{VerifiedBundle, json::Header, profile::Family};

pub(super) struct Row<'a> {
    ctx: &'a EncodeContext<'a>,
    bundle: &'a VerifiedBundle,
}

impl Row<'_> {
    fn header(&self) -> &Header {
        &self.bundle.block().header
    }
}

pub(super) fn rows<'a>(ctx: &'a EncodeContext<'a>, bundles: &'a [VerifiedBundle]) -> Vec<Row<'a>> {
    bundles.iter().map(|bundle| Row { ctx, bundle }).collect()
}

pub(super) fn columns<'a>() -> Columns<Row<'a>> {
    let mut list = identity();
    list.extend(roots());
    list.extend(forks());
    list.extend(body());
    Columns { list, sorted_by: &["block_number"] }
}

fn identity<'a>() -> Vec<Column<Row<'a>>> {
    vec![
        Column::new("chain_id", Cell::U64(|r| Some(r.ctx.chain_id))),
        Column::new("block_number", Cell::U64(|r| Some(r.header().number))),
        Column::new("block_hash", Cell::Bytes(|r| some(r.header().hash.as_slice()))),
        Column::new("parent_hash", Cell::Bytes(|r| some(r.header().parent_hash.as_slice()))),
        Column::new("timestamp", Cell::U64(|r| Some(r.header().timestamp))),
        Column::new("author", Cell::Bytes(|r| some(r.header().author.as_slice()))),
        Column::new("gas_limit", Cell::U64(|r| Some(r.header().gas_limit))),
        Column::new("gas_used", Cell::U64(|r| Some(r.header().gas_used))),
        Column::nullable("base_fee_per_gas", Cell::U64(|r| r.header().base_fee_per_gas)),
        Column::new("extra_data", Cell::Bytes(|r| some(&r.header().extra_data))),
        Column::new("difficulty_binary", Cell::Word(|r| Some(r.header().difficulty))),
        Column::new("difficulty_string", Cell::Text(|r| Some(decimal(r.header().difficulty)))),
    ]
}

fn roots<'a>() -> Vec<Column<Row<'a>>> {
    vec![
        Column::new("sha3_uncles", Cell::Bytes(|r| some(r.header().sha3_uncles.as_slice()))),
        Column::new("state_root", Cell::Bytes(|r| some(r.header().state_root.as_slice()))),
        Column::new("transactions_root", Cell::Bytes(|r| some(r.header().transactions_root.as_slice()))),
        Column::new("receipts_root", Cell::Bytes(|r| some(r.header().receipts_root.as_slice()))),
        Column::new("logs_bloom", Cell::Bytes(|r| some(r.header().logs_bloom.as_slice()))),
        Column::nullable("mix_hash", Cell::Bytes(|r| bytes(r.header().mix_hash.as_ref()))),
        Column::nullable("nonce", Cell::Bytes(|r| bytes(r.header().nonce.as_ref()))),
    ]
}

fn forks<'a>() -> Vec<Column<Row<'a>>> {
    vec![
        Column::nullable("withdrawals_root", Cell::Bytes(|r| bytes(r.header().withdrawals_root.as_ref()))),
        Column::nullable("blob_gas_used", Cell::U64(|r| r.header().blob_gas_used)),
        Column::nullable("excess_blob_gas", Cell::U64(|r| r.header().excess_blob_gas)),
        Column::nullable(
            "parent_beacon_block_root",
            Cell::Bytes(|r| bytes(r.header().parent_beacon_block_root.as_ref())),
        ),
        Column::nullable("requests_hash", Cell::Bytes(|r| bytes(r.header().requests_hash.as_ref()))),
        Column::nullable(
            "block_access_list_hash",
            Cell::Bytes(|r| bytes(r.header().block_access_list_hash.as_ref())),
        ),
        Column::nullable("slot_number", Cell::U64(|r| r.header().slot_number)),
    ]
}

fn body<'a>() -> Vec<Column<Row<'a>>> {
    vec![
        Column::nullable("size", Cell::U64(|r| r.bundle.size())),
        Column::new("n_transactions", Cell::U64(|r| Some(r.bundle.block().transactions.len() as u64))),
        Column::nullable(
            "withdrawals",
            Cell::Nested(nested::withdrawals_type, |rows| {
                nested::withdrawals(rows.iter().map(|r| r.bundle.block().withdrawals.as_deref()))
            }),
        ),
        Column::nullable(
            "extra_fields",
            Cell::Nested(nested::extras_type, |rows| nested::extras(rows.iter().map(|r| extra_fields(r)))),
        ),
    ]
}

/// On Ethereum, fields that we do not model differ between providers and are part of no hash.
fn extra_fields<'a>(row: &Row<'a>) -> Option<&'a serde_json::Map<String, serde_json::Value>> {
    let extra = &row.bundle.block().header.extra;
    (row.ctx.profile.family != Family::Ethereum && !extra.is_empty()).then_some(extra)
}

pub(super) fn some(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    Some(Cow::Borrowed(bytes))
}

pub(super) fn bytes<T: AsRef<[u8]>>(value: Option<&T>) -> Option<Cow<'_, [u8]>> {
    value.map(|value| Cow::Borrowed(value.as_ref()))
}

pub(super) fn decimal(value: U256) -> String {
    value.to_string()
}
