//! Is the answer about what was asked, in every part that names a block?

use super::{
    Asked, Subject,
    outcome::{Fault, same, same_if_given},
};
use crate::json::{Log, Receipt, Transaction};

pub(super) fn check(s: &Subject<'_>, asked: Asked) -> Result<(), Fault> {
    let header = &s.block.header;
    match asked {
        Asked::Number(number) => same(&number, &header.number, || "number".to_owned())?,
        Asked::Hash(hash) => same(&hash, &header.hash, || "hash".to_owned())?,
        Asked::Unknown => {}
    }
    for (i, tx) in s.block.transactions.iter().enumerate() {
        transaction(s, i, tx)?;
    }
    for (i, receipt) in s.receipts.unwrap_or_default().iter().enumerate() {
        one_receipt(s, i, receipt)?;
    }
    Ok(())
}

fn transaction(s: &Subject<'_>, i: usize, tx: &Transaction) -> Result<(), Fault> {
    let header = &s.block.header;
    let field = |name: &str| format!("transactions[{i}].{name}");
    same(&Some(header.hash), &tx.block_hash, || field("blockHash"))?;
    same(&Some(header.number), &tx.block_number, || field("blockNumber"))?;
    same_if_given(&header.timestamp, tx.block_timestamp.as_ref(), || field("blockTimestamp"))
}

fn one_receipt(s: &Subject<'_>, i: usize, receipt: &Receipt) -> Result<(), Fault> {
    let header = &s.block.header;
    let field = |name: &str| format!("receipts[{i}].{name}");
    same(&header.hash, &receipt.block_hash, || field("blockHash"))?;
    same(&header.number, &receipt.block_number, || field("blockNumber"))?;
    receipt.logs.iter().enumerate().try_for_each(|(j, log)| one_log(s, i, j, log))
}

fn one_log(s: &Subject<'_>, i: usize, j: usize, log: &Log) -> Result<(), Fault> {
    let header = &s.block.header;
    let field = |name: &str| format!("receipts[{i}].logs[{j}].{name}");
    same_if_given(&header.hash, log.block_hash.as_ref(), || field("blockHash"))?;
    same_if_given(&header.number, log.block_number.as_ref(), || field("blockNumber"))?;
    same_if_given(&header.timestamp, log.block_timestamp.as_ref(), || field("blockTimestamp"))?;
    same(&false, &log.removed, || field("removed"))
}
