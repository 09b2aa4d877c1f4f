//! One row per log.

use super::{
    EncodeContext,
    blocks::some,
    table::{Cell, Column, Columns},
};
use crate::{
    VerifiedBundle,
    json::{Header, Log, Receipt},
    profile::LogIndexRule,
};

pub(super) struct Row<'a> {
    ctx: &'a EncodeContext<'a>,
    header: &'a Header,
    receipt: &'a Receipt,
    log: &'a Log,
    position: u64,
}

impl Row<'_> {
    fn topic(&self, index: usize) -> Option<std::borrow::Cow<'_, [u8]>> {
        self.log.inner.topics().get(index).and_then(|topic| some(topic.as_slice()))
    }

    /// The position in the block where it is the rule; where the chain numbers in another way, its number.
    fn log_index(&self) -> u64 {
        match self.ctx.profile.log_index {
            LogIndexRule::Contiguous => self.position,
            LogIndexRule::Waived(_) => self.log.log_index,
        }
    }
}

pub(super) fn rows<'a>(ctx: &'a EncodeContext<'a>, bundles: &'a [VerifiedBundle]) -> Vec<Row<'a>> {
    let of_block = |bundle: &'a VerifiedBundle| {
        let header = &bundle.block().header;
        let logs =
            bundle.receipts().iter().flat_map(|receipt| receipt.logs.iter().map(move |log| (receipt, log)));
        (0..).zip(logs).map(move |(position, (receipt, log))| Row { ctx, header, receipt, log, position })
    };
    bundles.iter().flat_map(of_block).collect()
}

pub(super) fn columns<'a>() -> Columns<Row<'a>> {
    let list: Vec<Column<Row<'a>>> = vec![
        Column::new("chain_id", Cell::U64(|r| Some(r.ctx.chain_id))),
        Column::new("block_number", Cell::U64(|r| Some(r.header.number))),
        Column::new("block_hash", Cell::Bytes(|r| some(r.header.hash.as_slice()))),
        Column::new("timestamp", Cell::U64(|r| Some(r.header.timestamp))),
        Column::new("transaction_index", Cell::U64(|r| Some(r.receipt.transaction_index))),
        Column::new("transaction_hash", Cell::Bytes(|r| some(r.receipt.transaction_hash.as_slice()))),
        Column::new("log_index", Cell::U64(|r| Some(r.log_index()))),
        Column::new("address", Cell::Bytes(|r| some(r.log.inner.address.as_slice()))),
        Column::nullable("topic0", Cell::Bytes(|r| r.topic(0))),
        Column::nullable("topic1", Cell::Bytes(|r| r.topic(1))),
        Column::nullable("topic2", Cell::Bytes(|r| r.topic(2))),
        Column::nullable("topic3", Cell::Bytes(|r| r.topic(3))),
        Column::new("data", Cell::Bytes(|r| some(&r.log.inner.data.data))),
        Column::new("n_data_bytes", Cell::U64(|r| Some(r.log.inner.data.data.len() as u64))),
    ];
    Columns { list, sorted_by: &["block_number", "log_index"] }
}
