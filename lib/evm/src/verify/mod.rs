//! Proving what an answer claims. Three values per check, never a bool: *verified*, *unverifiable* with a reason, *failed*
//! with what was expected. What fails is never stored; what is unverifiable is stored with its level, if the policy allows.

mod answer;
mod derived;
mod links;
mod outcome;
mod roots;
mod senders;
mod shape;

use alloy_primitives::{B256, keccak256};
use serde::Serialize;

pub use derived::{blob_gas_used, contract_address, effective_gas_price, gas_used};
pub use links::{BrokenLink, RangeEdges, verify_links};
pub use outcome::{Doubt, Outcome};
use outcome::{Fault, judge};

use crate::{
    encode::{EncodedTransaction, HeaderBytes, Unencodable, encode_header, encode_transaction},
    json::{Block, Receipt},
    profile::{Profile, Proof},
};

/// Names the rules of this module, for file metadata: raised when a check is added or changed.
pub const VERIFIER_VERSION: u32 = 1;

/// What a block can be checked for, cheap before dear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The answer is about the block that was asked for, in every transaction, receipt and log.
    Answer,
    /// Counts and positions: receipts, indices, log indices, cumulative gas.
    Shape,
    /// keccak of the header is the block hash.
    HeaderHash,
    /// keccak of each transaction is its hash.
    TransactionHashes,
    TransactionsRoot,
    ReceiptsRoot,
    Bloom,
    WithdrawalsRoot,
    OmmersHash,
    /// The signature gives the sender.
    Senders,
    /// Fields outside all roots equal what we compute from fields inside.
    DerivedFields,
    /// The price of blob gas fits a known fork.
    BlobGasPrice,
    /// The size of the block is that of its RLP.
    BlockSize,
}

impl Check {
    /// The snake_case name used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Shape => "shape",
            Self::HeaderHash => "header_hash",
            Self::TransactionHashes => "transaction_hashes",
            Self::TransactionsRoot => "transactions_root",
            Self::ReceiptsRoot => "receipts_root",
            Self::Bloom => "bloom",
            Self::WithdrawalsRoot => "withdrawals_root",
            Self::OmmersHash => "ommers_hash",
            Self::Senders => "senders",
            Self::DerivedFields => "derived_fields",
            Self::BlobGasPrice => "blob_gas_price",
            Self::BlockSize => "block_size",
        }
    }

    /// Whether rows that we store depend on it. Ommer headers and the blob gas price are not stored, the size is
    /// recomputed.
    #[must_use]
    pub fn guards_rows(self) -> bool {
        !matches!(self, Self::OmmersHash | Self::BlobGasPrice | Self::BlockSize)
    }
}

/// What was asked for. A valid block that is another block passes every other check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Number(u64),
    Hash(B256),
    /// The question is not known, as for a file.
    Unknown,
}

/// For how many transactions the sender is recovered: it is the one dear check (about 150 us each).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenderCheck {
    All,
    /// Those whose hash falls into one of so many classes; deterministic, and the provider cannot choose the class.
    OneIn(u64),
}

/// The question and how deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyRequest {
    pub asked: Asked,
    pub senders: SenderCheck,
}

impl VerifyRequest {
    /// Every check for a block that was asked for by height.
    #[must_use]
    pub fn by_number(number: u64) -> Self {
        Self { asked: Asked::Number(number), senders: SenderCheck::All }
    }
}

/// The lowest that any row of a block can claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Failed,
    Unverifiable,
    Verified,
}

impl Level {
    /// The name used in metadata and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unverifiable => "unverifiable",
            Self::Verified => "verified",
        }
    }
}

/// One check of one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    pub check: Check,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// All checks of one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockReport {
    pub number: u64,
    pub hash: B256,
    pub checks: Vec<CheckResult>,
}

impl BlockReport {
    /// The lowest outcome among the checks that guard stored rows; a failure of any check counts.
    #[must_use]
    pub fn level(&self) -> Level {
        if self.failures().next().is_some() {
            return Level::Failed;
        }
        let open = |result: &CheckResult| result.check.guards_rows() && result.outcome != Outcome::Verified;
        if self.checks.iter().any(open) { Level::Unverifiable } else { Level::Verified }
    }

    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CheckResult> {
        self.checks.iter().filter(|result| matches!(result.outcome, Outcome::Failed { .. }))
    }

    /// The outcome of one check.
    #[must_use]
    pub fn outcome(&self, check: Check) -> Option<&Outcome> {
        self.checks.iter().find(|result| result.check == check).map(|result| &result.outcome)
    }

    /// One sentence that names the block, the check and the field at fault, for errors and events.
    #[must_use]
    pub fn summary(&self) -> String {
        match self.failures().next() {
            Some(failed) => {
                format!("block {} {}: {}: {}", self.number, self.hash, failed.check.as_str(), failed.outcome)
            }
            None => format!("block {} {}: {}", self.number, self.hash, self.level().as_str()),
        }
    }
}

/// A block and its receipts of which no check failed. The only way to the encoders.
#[derive(Debug, Clone)]
pub struct VerifiedBundle {
    block: Block,
    receipts: Vec<Receipt>,
    report: BlockReport,
    size: Option<u64>,
}

impl VerifiedBundle {
    /// Verifies and keeps a block.
    ///
    /// # Errors
    /// The report, when a check failed.
    pub fn verify(
        profile: &Profile,
        block: Block,
        receipts: Vec<Receipt>,
        request: VerifyRequest,
    ) -> Result<Self, Box<BlockReport>> {
        let subject = Subject::new(profile, &block, Some(&receipts));
        let (report, size) = (run(&subject, request), derived::recomputed_size(&subject));
        if report.level() == Level::Failed {
            return Err(Box::new(report));
        }
        Ok(Self { block, receipts, report, size })
    }

    /// The block.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its receipts, one per transaction, in order.
    #[must_use]
    pub fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    /// Bytes of the RLP block, recomputed; `None` when the answer does not hold all of it.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// What was proven.
    #[must_use]
    pub fn report(&self) -> &BlockReport {
        &self.report
    }
}

/// What all checks look at, encoded once.
struct Subject<'a> {
    profile: &'a Profile,
    block: &'a Block,
    receipts: Option<&'a [Receipt]>,
    header: Result<HeaderBytes, Unencodable>,
    transactions: Vec<Result<EncodedTransaction, Unencodable>>,
}

/// Runs every check on one block. Without receipts, what only they can prove is unverifiable.
#[must_use]
pub fn verify_block(
    profile: &Profile,
    block: &Block,
    receipts: Option<&[Receipt]>,
    request: VerifyRequest,
) -> BlockReport {
    run(&Subject::new(profile, block, receipts), request)
}

impl<'a> Subject<'a> {
    fn new(profile: &'a Profile, block: &'a Block, receipts: Option<&'a [Receipt]>) -> Self {
        let transactions = block.transactions.iter().map(|tx| encode_transaction(profile, tx)).collect();
        Self { profile, block, receipts, header: encode_header(profile, &block.header), transactions }
    }
}

fn run(s: &Subject<'_>, request: VerifyRequest) -> BlockReport {
    let (profile, block) = (s.profile, s.block);
    let checks = [
        (Check::Answer, Proof::Full, answer::check(s, request.asked)),
        (Check::Shape, Proof::Full, shape::check(s)),
        (Check::HeaderHash, profile.header, header_hash(s)),
        (Check::TransactionHashes, profile.transactions.or_known(), roots::transaction_hashes(s)),
        (Check::TransactionsRoot, profile.transactions, roots::transactions_root(s)),
        (Check::ReceiptsRoot, profile.receipts, roots::receipts_root(s)),
        (Check::Bloom, profile.bloom, roots::bloom(s)),
        (Check::WithdrawalsRoot, profile.withdrawals, roots::withdrawals_root(s)),
        (Check::OmmersHash, Proof::Full, roots::ommers_hash(s)),
        (Check::Senders, profile.senders, senders::check(s, request.senders)),
        (Check::DerivedFields, profile.derived, derived::check(s)),
        (Check::BlobGasPrice, profile.derived, derived::blob_gas_price(s)),
        (
            Check::BlockSize,
            Proof::Tentative("clients count the size in different ways"),
            derived::block_size(s),
        ),
    ];
    let checks = checks.map(|(check, proof, result)| CheckResult { check, outcome: judge(proof, result) });
    BlockReport { number: block.header.number, hash: block.header.hash, checks: checks.into() }
}

impl Proof {
    /// A transaction's hash is its own bytes' even where the header does not commit to the root.
    fn or_known(self) -> Self {
        match self {
            Self::Impossible(_) => Self::Full,
            other => other,
        }
    }
}

fn header_hash(s: &Subject<'_>) -> Result<(), Fault> {
    let bytes = match &s.header {
        Ok(bytes) => bytes,
        Err(error) => return Err(Fault::unknown(format!("the header cannot be encoded: {error}"))),
    };
    let computed = keccak256(&bytes.hashed);
    if computed == s.block.header.hash {
        return Ok(());
    }
    if bytes.unknown.is_empty() {
        return Err(Fault::mismatch("hash", computed, s.block.header.hash));
    }
    let names = bytes.unknown.join(", ");
    Err(Fault::unknown(format!("header fields that no rule knows may be part of the hash: {names}")))
}
