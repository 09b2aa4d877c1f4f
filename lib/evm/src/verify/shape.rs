//! Counts and positions. Short arrays are found here, before anything is zipped or hashed.

use super::{
    Subject,
    outcome::{Fault, same},
};
use crate::{
    json::{Log, Receipt, Transaction},
    profile::{LogIndexRule, Proof},
};

pub(super) fn check(s: &Subject<'_>) -> Result<(), Fault> {
    for (i, tx) in s.block.transactions.iter().enumerate() {
        same(&Some(i as u64), &tx.transaction_index, || format!("transactions[{i}].transactionIndex"))?;
    }
    let Some(receipts) = s.receipts else {
        return Err(Fault::unknown("no receipts were given"));
    };
    same(&s.block.transactions.len(), &receipts.len(), || "receipts".to_owned())?;
    let mut next_log = 0;
    for (i, (tx, receipt)) in s.block.transactions.iter().zip(receipts).enumerate() {
        place(i, tx, receipt)?;
        for (j, log) in receipt.logs.iter().enumerate() {
            log_place(s, (i, j), (receipt, log), &mut next_log)?;
        }
    }
    cumulative_gas(s, receipts)
}

fn place(i: usize, tx: &Transaction, receipt: &Receipt) -> Result<(), Fault> {
    same(&tx.hash, &receipt.transaction_hash, || format!("receipts[{i}].transactionHash"))?;
    same(&(i as u64), &receipt.transaction_index, || format!("receipts[{i}].transactionIndex"))?;
    same(&tx.tx_type, &receipt.tx_type, || format!("receipts[{i}].type"))
}

fn log_place(
    s: &Subject<'_>,
    (i, j): (usize, usize),
    (receipt, log): (&Receipt, &Log),
    next: &mut u64,
) -> Result<(), Fault> {
    let field = |name: &str| format!("receipts[{i}].logs[{j}].{name}");
    same(&receipt.transaction_hash, &log.transaction_hash, || field("transactionHash"))?;
    same(&receipt.transaction_index, &log.transaction_index, || field("transactionIndex"))?;
    if s.profile.log_index == LogIndexRule::Contiguous {
        same(next, &log.log_index, || field("logIndex"))?;
    }
    *next += 1;
    Ok(())
}

/// Cumulative gas never falls and ends at the header's; chains that count otherwise have tentative derived fields.
fn cumulative_gas(s: &Subject<'_>, receipts: &[Receipt]) -> Result<(), Fault> {
    if s.profile.derived != Proof::Full {
        return Ok(());
    }
    let mut before = 0;
    for (i, receipt) in receipts.iter().enumerate() {
        if receipt.cumulative_gas_used < before {
            let field = format!("receipts[{i}].cumulativeGasUsed");
            return Err(Fault::mismatch(field, format!("at least {before}"), receipt.cumulative_gas_used));
        }
        before = receipt.cumulative_gas_used;
    }
    same(&s.block.header.gas_used, &before, || "gasUsed".to_owned())
}
