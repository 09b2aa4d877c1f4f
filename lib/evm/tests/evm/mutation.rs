//! Every field of a real block, its transactions, receipts and logs is altered, one at a time: each must be detected.

use dagwright_evm::{
    Asked, Check, Doubt, Level, Outcome, VerifyRequest,
    json::{self, Block},
    verify::{BrokenLink, SenderCheck, verify_links},
    verify_block,
};
use serde_json::{Value, json};

use crate::common::{Fixture, execution_chain, io_receipts, known};

/// Fields that one answer cannot prove, and why. Encoders store none of them.
const UNPROVABLE: &[(&str, &str)] = &[
    // A sum over all ancestors: only the block before can contradict it, and `verify_links` does.
    ("totalDifficulty", "no root covers it"),
    // Set by fork rules that later forks change: one that fits no known fork makes the check unverifiable.
    ("blobGasPrice", "known forks only"),
    // Can be recomputed and is: files hold our number. Clients disagree on what to count, so another number is
    // reported as unverifiable and does not make the block a lie.
    ("size", "clients count in different ways"),
];

/// Where a block has ommers, the answer holds their hashes and not their headers. The header's `sha3Uncles` is proven;
/// encoders store that and no list.
const UNPROVABLE_WITH_OMMERS: &[&str] = &["block/uncles/"];

/// Every leaf below a value, as a JSON pointer.
fn leaves(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, child)| leaves(child, &format!("{at}/{key}"), out)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, child)| leaves(child, &format!("{at}/{i}"), out));
        }
        _ => out.push(at.to_owned()),
    }
}

/// Every array that holds something.
fn arrays(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, child)| arrays(child, &format!("{at}/{key}"), out)),
        Value::Array(items) => {
            if !items.is_empty() {
                out.push(at.to_owned());
            }
            items.iter().enumerate().for_each(|(i, child)| arrays(child, &format!("{at}/{i}"), out));
        }
        _ => {}
    }
}

/// The smallest change that keeps the shape: another last digit.
fn altered(pointer: &str, value: &Value) -> Value {
    match value {
        Value::Bool(flag) => json!(!flag),
        Value::Null => json!("0x00000000000000000000000000000000000000aa"),
        Value::String(text) if pointer.ends_with("/type") => json!(if text == "0x2" { "0x1" } else { "0x2" }),
        Value::String(text) if text == "0x" => json!("0x00"),
        Value::String(text) => {
            let (head, last) = text.split_at(text.len() - 1);
            let digit =
                u8::from_str_radix(last, 16).unwrap_or_else(|_| panic!("{pointer}: {text} is not hex"));
            json!(format!("{head}{:x}", digit ^ 1))
        }
        other => panic!("{pointer}: {other} is no field of an answer"),
    }
}

fn is_null_that_means_nothing(pointer: &str, value: &Value) -> bool {
    value.is_null() && !pointer.ends_with("/to") && !pointer.ends_with("/contractAddress")
}

struct Subject {
    fixture: Fixture,
    number: u64,
    block: Block,
    receipts: Option<Vec<json::Receipt>>,
}

impl Subject {
    fn new(fixture: Fixture, with_receipts: bool) -> Self {
        let block = json::block_from_value(fixture.block.clone()).unwrap();
        let receipts = with_receipts.then(|| json::receipts_from_value(fixture.receipts.clone()).unwrap());
        Self { fixture, number: block.header.number, block, receipts }
    }

    /// A refusal to decode detects too: nothing malformed is ever stored.
    fn detects_in_block(&self, changed: Value, senders: SenderCheck) -> bool {
        let Ok(block) = json::block_from_value(changed) else { return true };
        self.level(&block, self.receipts.as_deref(), senders) == Level::Failed
    }

    fn detects_in_receipts(&self, changed: Value) -> bool {
        let Ok(receipts) = json::receipts_from_value(changed) else { return true };
        self.level(&self.block, Some(&receipts), SenderCheck::OneIn(u64::MAX)) == Level::Failed
    }

    fn level(&self, block: &Block, receipts: Option<&[json::Receipt]>, senders: SenderCheck) -> Level {
        let request = VerifyRequest { asked: Asked::Number(self.number), senders };
        verify_block(self.fixture.profile, block, receipts, request).level()
    }

    /// Alters every leaf of the block and, when there are receipts, of the receipts; returns how many.
    fn alter_everything(&self, chosen: fn(usize) -> bool) -> usize {
        let mut missed = Vec::new();
        let mut pointers = Vec::new();
        leaves(&self.fixture.block, "", &mut pointers);
        pointers.retain(|pointer| index_after(pointer, "/transactions/").is_none_or(chosen));
        let in_block = pointers.len();
        for pointer in &pointers {
            let Some(changed) = change(&self.fixture.block, pointer) else { continue };
            // Recovery is the dear check, and only the sender depends on it.
            let senders =
                if pointer.ends_with("/from") { SenderCheck::All } else { SenderCheck::OneIn(u64::MAX) };
            if !self.detects_in_block(changed, senders) {
                missed.push(format!("block{pointer}"));
            }
        }
        pointers.clear();
        if self.receipts.is_some() {
            leaves(&self.fixture.receipts, "", &mut pointers);
            pointers.retain(|pointer| index_after(pointer, "/").is_none_or(chosen));
        }
        for pointer in &pointers {
            let Some(changed) = change(&self.fixture.receipts, pointer) else { continue };
            if !self.detects_in_receipts(changed) {
                missed.push(format!("receipts{pointer}"));
            }
        }
        let ommers = !self.block.uncles.is_empty();
        missed.retain(|path| !(ommers && UNPROVABLE_WITH_OMMERS.iter().any(|start| path.starts_with(start))));
        missed.retain(|path| !UNPROVABLE.iter().any(|(field, _)| path.ends_with(&format!("/{field}"))));
        assert_eq!(missed, [] as [String; 0], "block {}", self.number);
        in_block + pointers.len()
    }

    /// Drops and doubles the first and last element of every array.
    fn resize_everything(&self) {
        let mut pointers = Vec::new();
        arrays(&self.fixture.block, "", &mut pointers);
        for pointer in &pointers {
            for changed in resized(&self.fixture.block, pointer) {
                assert!(self.detects_in_block(changed, SenderCheck::OneIn(u64::MAX)), "block{pointer}");
            }
        }
        pointers.clear();
        arrays(&self.fixture.receipts, "", &mut pointers);
        for pointer in &pointers {
            for changed in resized(&self.fixture.receipts, pointer) {
                assert!(self.detects_in_receipts(changed), "receipts{pointer}");
            }
        }
    }
}

/// The position in the list that a pointer leads into.
fn index_after(pointer: &str, list: &str) -> Option<usize> {
    pointer.strip_prefix(list)?.split('/').next()?.parse().ok()
}

fn change(value: &Value, pointer: &str) -> Option<Value> {
    let old = value.pointer(pointer).unwrap();
    if is_null_that_means_nothing(pointer, old) {
        return None;
    }
    let new = altered(pointer, old);
    let mut changed = value.clone();
    *changed.pointer_mut(pointer).unwrap() = new;
    Some(changed)
}

fn resized(value: &Value, pointer: &str) -> [Value; 2] {
    let edit = |edit: fn(&mut Vec<Value>)| {
        let mut changed = value.clone();
        edit(changed.pointer_mut(pointer).unwrap().as_array_mut().unwrap());
        changed
    };
    [edit(|list| drop(list.pop())), edit(|list| list.push(list[list.len() - 1].clone()))]
}

#[test]
fn every_field_of_a_block_before_byzantium() {
    let subject = Subject::new(Fixture::load("ethereum/4369999", "ethereum"), true);
    assert!(subject.alter_everything(|_| true) > 2_000);
}

#[test]
fn every_field_of_block_18_000_000() {
    let subject = Subject::new(Fixture::load("ethereum/18000000", "ethereum"), true);
    // Its 94 transactions are alike; the ninth creates a contract, and every kind of the block is among the chosen.
    let altered = subject.alter_everything(|i| i % 8 == 1);
    assert!(altered > 700, "{altered}");
}

#[test]
fn every_field_of_the_newest_fork() {
    let receipts = io_receipts("get-block-receipts-latest.io").unwrap();
    let block = execution_chain().pop().unwrap();
    let subject = Subject::new(Fixture { profile: known("dev"), block, receipts }, true);
    assert!(subject.alter_everything(|_| true) > 100);
    subject.resize_everything();
}

#[test]
fn every_field_of_every_transaction_type_even_without_receipts() {
    let mut altered = 0;
    for block in execution_chain() {
        let fixture = Fixture { profile: known("dev"), block, receipts: json!([]) };
        altered += Subject::new(fixture, false).alter_everything(|_| true);
    }
    assert!(altered > 1_500, "{altered}");
}

#[test]
fn every_array_of_real_blocks() {
    for height in ["1000000", "4369999"] {
        Subject::new(Fixture::load(&format!("ethereum/{height}"), "ethereum"), true).resize_everything();
    }
}

#[test]
fn invented_ommers_and_withdrawals() {
    let fixture = Fixture::load("ethereum/4369999", "ethereum");
    let subject = Subject::new(fixture, true);
    let mut changed = subject.fixture.block.clone();
    changed["uncles"] = json!([changed["parentHash"]]);
    assert!(subject.detects_in_block(changed, SenderCheck::OneIn(u64::MAX)));
    let mut changed = subject.fixture.block.clone();
    changed["withdrawals"] = json!([]);
    assert!(subject.detects_in_block(changed, SenderCheck::OneIn(u64::MAX)));
}

#[test]
fn total_difficulty_is_beyond_one_block_but_not_beyond_two() {
    let mut chain: Vec<Value> = execution_chain().into_iter().take(2).collect();
    for (block, total) in chain.iter_mut().zip(["0x40000", "0x1"]) {
        block["totalDifficulty"] = json!(total);
    }
    let blocks: Vec<Block> = chain.into_iter().map(|block| json::block_from_value(block).unwrap()).collect();
    let request = VerifyRequest { asked: Asked::Unknown, senders: SenderCheck::All };
    let report = verify_block(known("dev"), &blocks[1], None, request);
    assert_eq!(report.failures().next(), None, "no root covers it");
    assert_eq!(verify_links(&blocks), Err(BrokenLink::TotalDifficulty { number: 2 }));
}

#[test]
fn a_blob_gas_price_of_no_known_fork_is_unverifiable_and_two_in_one_block_are_a_lie() {
    let mut fixture = Fixture {
        profile: known("dev"),
        block: execution_chain().pop().unwrap(),
        receipts: io_receipts("get-block-receipts-latest.io").unwrap(),
    };
    fixture.receipts[0]["blobGasPrice"] = json!("0x7b");
    let report = fixture.report();
    assert!(matches!(report.outcome(Check::BlobGasPrice), Some(Outcome::Unverifiable { .. })));
    assert_eq!(report.level(), Level::Verified, "no stored row depends on it");
    fixture.receipts[1]["blobGasPrice"] = json!("0x7c");
    assert_eq!(fixture.report().level(), Level::Failed);
}

#[test]
fn a_size_that_no_client_would_count_is_unverifiable() {
    let mut fixture = Fixture::load("ethereum/18000000", "ethereum");
    fixture.block["size"] = json!("0x1");
    let report = fixture.report();
    assert!(
        matches!(report.outcome(Check::BlockSize), Some(Outcome::Unverifiable { reason, .. }) if reason.contains("size"))
    );
    assert_eq!(report.level(), Level::Verified, "the size that is stored is recomputed");
}

#[test]
fn a_type_that_no_rule_knows_can_be_neither_proven_nor_disproved() {
    let mut fixture = Fixture::load("ethereum/18000000", "ethereum");
    fixture.block["transactions"][0]["type"] = json!("0x55");
    assert_eq!(fixture.report().level(), Level::Failed, "the receipt says otherwise");
    fixture.receipts[0]["type"] = json!("0x55");
    let report = fixture.report();
    for check in [Check::TransactionsRoot, Check::ReceiptsRoot] {
        assert!(
            matches!(report.outcome(check), Some(Outcome::Unverifiable { reason, doubt: Doubt::Answer }) if reason.contains("0x55")),
            "{check:?}: {report:?}"
        );
    }
    assert_eq!(report.level(), Level::Unverifiable);
}

#[test]
fn garbage_is_refused_without_a_panic() {
    let fixture = Fixture::load("ethereum/1000000", "ethereum");
    let mut pointers = Vec::new();
    leaves(&fixture.block, "", &mut pointers);
    let garbage = [
        json!(-1),
        json!("0x"),
        json!("0xzz"),
        json!("é"),
        json!({}),
        json!([[]]),
        json!("0x0x00"),
        json!(true),
    ];
    for pointer in pointers {
        for value in &garbage {
            let mut block = fixture.block.clone();
            *block.pointer_mut(&pointer).unwrap() = value.clone();
            if let Ok(block) = json::block_from_value(block) {
                let request = VerifyRequest { asked: Asked::Unknown, senders: SenderCheck::All };
                let _ = verify_block(fixture.profile, &block, None, request);
            }
        }
    }
}
