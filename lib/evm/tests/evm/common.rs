//! Fixtures shared by the tests of this crate.

use std::path::PathBuf;

use alloy_consensus::{EthereumTxEnvelope, TxEip4844, transaction::SignerRecoverable};
use alloy_rlp::{Decodable, Encodable};
use dagwright_evm::{
    Asked, BlockReport, Profile, VerifiedBundle, VerifyRequest,
    json::{self, Block, Receipt},
    profile,
    verify::SenderCheck,
    verify_block,
};
use serde_json::{Value, json};

pub(crate) const ASK_NOTHING: VerifyRequest =
    VerifyRequest { asked: Asked::Unknown, senders: SenderCheck::All };

pub(crate) fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/evm").join(relative)
}

pub(crate) fn read(relative: &str) -> Vec<u8> {
    let path = path(relative);
    std::fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

pub(crate) fn known(name: &str) -> &'static Profile {
    profile(name).unwrap_or_else(|| panic!("no profile {name}"))
}

pub(crate) struct Fixture {
    pub(crate) profile: &'static Profile,
    pub(crate) block: Value,
    pub(crate) receipts: Value,
}

impl Fixture {
    pub(crate) fn load(directory: &str, profile: &str) -> Self {
        let json = |file: &str| serde_json::from_slice(&read(&format!("{directory}/{file}.json"))).unwrap();
        Self { profile: known(profile), block: json("block"), receipts: json("receipts") }
    }

    pub(crate) fn decoded(&self) -> (Block, Vec<Receipt>) {
        let block = json::block_from_value(self.block.clone()).unwrap();
        (block, json::receipts_from_value(self.receipts.clone()).unwrap())
    }

    pub(crate) fn report(&self) -> BlockReport {
        let (block, receipts) = self.decoded();
        verify_block(self.profile, &block, Some(&receipts), VerifyRequest::by_number(block.header.number))
    }

    pub(crate) fn bundle(&self) -> VerifiedBundle {
        let (block, receipts) = self.decoded();
        VerifiedBundle::verify(self.profile, block, receipts, ASK_NOTHING)
            .unwrap_or_else(|report| panic!("{}", report.summary()))
    }
}

/// Receipts of an `.io` file of execution-apis, when it holds any.
pub(crate) fn io_receipts(file: &str) -> Option<Value> {
    let text = String::from_utf8(read(&format!("execution-apis/eth_getBlockReceipts/{file}"))).unwrap();
    let answer = text.lines().find_map(|line| line.strip_prefix("<< ")).expect("an answer");
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer.get("result").filter(|result| result.as_array().is_some_and(|list| !list.is_empty())).cloned()
}

type ConsensusBlock = alloy_consensus::Block<EthereumTxEnvelope<TxEip4844>>;

/// The blocks of the execution-apis chain, as a node would answer them.
pub(crate) fn execution_chain() -> Vec<Value> {
    let bytes = read("execution-apis/chain.rlp");
    let mut rest = bytes.as_slice();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        blocks.push(as_answer(&ConsensusBlock::decode(&mut rest).unwrap()));
    }
    blocks
}

fn as_answer(block: &ConsensusBlock) -> Value {
    let hash = block.header.hash_slow();
    let mut answer = serde_json::to_value(&block.header).unwrap();
    let uncles: Vec<_> = block.body.ommers.iter().map(alloy_consensus::Header::hash_slow).collect();
    let transactions: Vec<Value> = block
        .body
        .transactions
        .iter()
        .enumerate()
        .map(|(i, tx)| {
            let mut value = serde_json::to_value(tx).unwrap();
            value["hash"] = json!(tx.tx_hash());
            value["from"] = json!(tx.recover_signer_unchecked().unwrap());
            value["blockHash"] = json!(hash);
            value["blockNumber"] = json!(format!("{:#x}", block.header.number));
            value["transactionIndex"] = json!(format!("{i:#x}"));
            value
        })
        .collect();
    answer["hash"] = json!(hash);
    answer["size"] = json!(format!("{:#x}", block.length()));
    answer["uncles"] = json!(uncles);
    answer["transactions"] = json!(transactions);
    if let Some(withdrawals) = &block.body.withdrawals {
        answer["withdrawals"] = serde_json::to_value(withdrawals).unwrap();
    }
    answer
}
