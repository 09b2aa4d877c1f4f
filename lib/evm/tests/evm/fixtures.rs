//! Every real block verifies as far as its chain allows.

use crate::common::{ASK_NOTHING, Fixture, execution_chain, io_receipts, known};
use dagwright_evm::{
    Asked, Check, Level, Outcome, VerifyRequest,
    json::{self, Block, DecodeError},
    verify::{BrokenLink, SenderCheck, verify_links},
    verify_block,
};
use serde_json::json;

fn assert_all_verified(fixture: &Fixture) {
    let report = fixture.report();
    for result in &report.checks {
        assert_eq!(result.outcome, Outcome::Verified, "block {}: {:?}", report.number, result.check);
    }
    assert_eq!(report.level(), Level::Verified);
}

fn unverifiable(fixture: &Fixture) -> Vec<Check> {
    let report = fixture.report();
    assert_eq!(report.failures().next(), None, "{}", report.summary());
    let open = report.checks.iter().filter(|result| matches!(result.outcome, Outcome::Unverifiable { .. }));
    open.map(|result| result.check).collect()
}

#[test]
fn ethereum_blocks_verify_fully() {
    for height in ["1000000", "4369999", "18000000"] {
        assert_all_verified(&Fixture::load(&format!("ethereum/{height}"), "ethereum"));
    }
}

#[test]
fn blocks_of_a_local_node_verify_fully_and_link() {
    let blocks: Vec<Block> = (0..9)
        .map(|height| {
            let fixture = Fixture::load(&format!("anvil/{height}"), "anvil");
            assert_all_verified(&fixture);
            fixture.decoded().0
        })
        .collect();
    verify_links(&blocks).unwrap();
}

#[test]
fn arbitrum_verifies_fully_with_its_own_encoders() {
    assert_all_verified(&Fixture::load("arbitrum/150000000", "arbitrum"));
}

#[test]
fn arbitrum_under_ethereum_rules_is_unverifiable_and_not_a_crash() {
    let report = Fixture::load("arbitrum/150000000", "ethereum").report();
    assert!(
        matches!(report.outcome(Check::TransactionsRoot), Some(Outcome::Unverifiable { reason, .. }) if reason.contains("0x6a"))
    );
}

#[test]
fn cronos_proves_hashes_senders_and_bloom_and_says_why_not_the_rest() {
    let open = unverifiable(&Fixture::load("cronos/10000", "cronos"));
    assert_eq!(open, [Check::HeaderHash, Check::TransactionsRoot, Check::ReceiptsRoot, Check::BlockSize]);
}

#[test]
fn tempo_proves_hash_receipts_and_bloom() {
    let fixture = Fixture::load("tempo-mainnet/17708868", "tempo");
    let open = unverifiable(&fixture);
    assert!(open.contains(&Check::TransactionsRoot) && open.contains(&Check::Senders), "{open:?}");
    for proven in [Check::HeaderHash, Check::ReceiptsRoot, Check::Bloom] {
        assert_eq!(fixture.report().outcome(proven), Some(&Outcome::Verified));
    }
    assert_eq!(fixture.report().level(), Level::Unverifiable);
}

#[test]
fn no_profile_fails_a_block_of_an_unknown_chain() {
    for directory in ["cronos/10000", "tempo-mainnet/17708868", "arbitrum/150000000", "ethereum/4369999"] {
        unverifiable(&Fixture::load(directory, "generic"));
    }
    assert_eq!(unverifiable(&Fixture::load("ethereum/18000000", "generic")), []);
}

#[test]
fn every_block_of_the_fork_chain_verifies_and_links() {
    let blocks: Vec<Block> =
        execution_chain().into_iter().map(|block| json::block_from_value(block).unwrap()).collect();
    assert_eq!(blocks.len(), 54);
    for block in &blocks {
        let request = VerifyRequest { asked: Asked::Hash(block.header.hash), senders: SenderCheck::All };
        let report = verify_block(known("dev"), block, None, request);
        for check in [
            Check::Answer,
            Check::HeaderHash,
            Check::TransactionHashes,
            Check::TransactionsRoot,
            Check::WithdrawalsRoot,
            Check::Senders,
        ] {
            assert_eq!(report.outcome(check), Some(&Outcome::Verified), "block {} {check:?}", report.number);
        }
        // The answer holds ommer hashes only, so "none" is proven and "some" is not.
        let ommers = report.outcome(Check::OmmersHash) == Some(&Outcome::Verified);
        assert_eq!(ommers, block.uncles.is_empty(), "block {}", report.number);
        let Some(Outcome::Unverifiable { reason, .. }) = report.outcome(Check::ReceiptsRoot) else {
            panic!("receipts were not given, so their root cannot be proven")
        };
        assert_eq!(reason, "no receipts were given");
    }
    let edges = verify_links(&blocks).unwrap();
    assert_eq!(edges.last_hash, blocks[53].header.hash);
    assert_eq!(edges.first_parent_hash, blocks[0].header.parent_hash);
}

#[test]
fn the_fork_chain_has_every_transaction_type() {
    let blocks = execution_chain().into_iter().map(|block| json::block_from_value(block).unwrap());
    let types: std::collections::BTreeSet<u64> =
        blocks.flat_map(|b| b.transactions).map(|tx| tx.tx_type).collect();
    assert_eq!(types.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn receipts_of_the_fork_chain_verify_where_they_are_known() {
    let chain = execution_chain();
    let mut checked = 0;
    for file in ["get-block-receipts-n.io", "get-block-receipts-latest.io", "get-block-receipts-by-hash.io"] {
        let receipts = json::receipts_from_value(io_receipts(file).unwrap()).unwrap();
        let height = usize::try_from(receipts[0].block_number).unwrap();
        let block = json::block_from_value(chain[height - 1].clone()).unwrap();
        let report = verify_block(known("dev"), &block, Some(&receipts), ASK_NOTHING);
        for result in &report.checks {
            assert_eq!(result.outcome, Outcome::Verified, "{file}: {:?}", result.check);
        }
        checked += 1;
    }
    assert_eq!(checked, 3);
    assert!(io_receipts("get-block-receipts-empty.io").is_none());
}

#[test]
fn another_block_than_asked_for_fails() {
    let fixture = Fixture::load("ethereum/4369999", "ethereum");
    let (block, receipts) = fixture.decoded();
    let report = verify_block(fixture.profile, &block, Some(&receipts), VerifyRequest::by_number(4_370_000));
    let failed = report.failures().next().unwrap();
    assert_eq!(failed.check, Check::Answer);
    assert_eq!(failed.outcome.to_string(), "failed: number: expected 4370000, got 4369999");
}

#[test]
fn receipts_of_a_sibling_block_fail() {
    let fixture = Fixture::load("ethereum/4369999", "ethereum");
    let (block, _) = fixture.decoded();
    let (_, other) = Fixture::load("ethereum/1000000", "ethereum").decoded();
    assert_eq!(verify_block(fixture.profile, &block, Some(&other), ASK_NOTHING).level(), Level::Failed);
}

#[test]
fn short_empty_and_null_receipts_never_pass() {
    let mut fixture = Fixture::load("ethereum/18000000", "ethereum");
    fixture.receipts.as_array_mut().unwrap().truncate(40);
    let report = fixture.report();
    assert_eq!(report.outcome(Check::Shape).unwrap().to_string(), "failed: receipts: expected 94, got 40");
    fixture.receipts = json!([]);
    assert_eq!(fixture.report().level(), Level::Failed);
    let nulled = json::receipts_from_value(json!([null])).unwrap_err();
    assert_eq!(nulled.to_string(), "receipts[0]: the provider answered null");
}

#[test]
fn a_lost_log_fails_even_where_the_bloom_does_not_see_it() {
    let original = Fixture::load("ethereum/18000000", "ethereum");
    let mut unseen = 0;
    for (i, receipt) in original.receipts.as_array().unwrap().iter().enumerate() {
        for j in 0..receipt["logs"].as_array().unwrap().len() {
            let mut fixture = Fixture {
                profile: original.profile,
                block: original.block.clone(),
                receipts: original.receipts.clone(),
            };
            fixture.receipts[i]["logs"].as_array_mut().unwrap().remove(j);
            let (block, receipts) = fixture.decoded();
            let cheap = VerifyRequest { senders: SenderCheck::OneIn(u64::MAX), ..ASK_NOTHING };
            let report = verify_block(fixture.profile, &block, Some(&receipts), cheap);
            assert!(matches!(report.outcome(Check::ReceiptsRoot), Some(Outcome::Failed { .. })), "{i}.{j}");
            unseen += usize::from(report.outcome(Check::Bloom) == Some(&Outcome::Verified));
        }
    }
    assert!(unseen > 0, "the bloom alone would have missed some");
}

#[test]
fn an_invented_header_field_is_unverifiable_and_named() {
    let mut fixture = Fixture::load("ethereum/18000000", "ethereum");
    fixture.block["gasUsed"] = json!("0x1");
    fixture.block["inventedRoot"] = json!("0x01");
    let report = fixture.report();
    assert!(
        matches!(report.outcome(Check::HeaderHash), Some(Outcome::Unverifiable { reason, .. }) if reason.contains("inventedRoot"))
    );
    assert_eq!(report.level(), Level::Failed, "the gas does not add up");
}

#[test]
fn ranges_link_or_say_where_not() {
    let mut blocks: Vec<Block> =
        execution_chain().into_iter().map(|block| json::block_from_value(block).unwrap()).collect();
    assert_eq!(verify_links(&[] as &[Block]), Err(BrokenLink::Empty));
    assert_eq!(verify_links([&blocks[0], &blocks[2]]), Err(BrokenLink::Gap { expected: 2, got: 3 }));
    blocks[7].header.parent_hash = blocks[1].header.hash;
    let broken = verify_links(&blocks).unwrap_err();
    assert!(broken.to_string().starts_with("block 8: parentHash is "), "{broken}");
}

#[test]
fn answers_that_are_no_blocks_are_clear_errors() {
    let error = |text: &str| json::decode_block(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error("{"), "parse block as JSON");
    assert_eq!(error(r#"{"jsonrpc":"2.0","id":1,"result":null}"#), "block: the provider answered null");
    assert!(
        error(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"limit"}}"#).contains("-32005")
    );
    assert_eq!(error("{}"), "transactions: the field is missing");
    let mut block = Fixture::load("ethereum/1000000", "ethereum").block;
    block["transactions"][1]["gas"] = json!("21000");
    let malformed = json::block_from_value(block.clone()).unwrap_err();
    assert_eq!(
        malformed.to_string(),
        r#"transactions[1].gas: expected a hex quantity of at most 64 bits, got "21000""#
    );
    block["transactions"] = json!(["0x01"]);
    assert!(
        matches!(json::block_from_value(block), Err(DecodeError::Malformed { path, .. }) if path == "transactions[0]")
    );
    assert!(json::decode_receipts(b"[1]").is_err());
    assert!(json::decode_receipts(b"\"0x\"").is_err());
}
