//! Chain profiles as data: what a chain's answers can prove, and what its block tags mean.
//!
//! Adding a chain is a row in [`PROFILES`], one fixture, and an encoder when it has transaction types of its own. Raise a
//! profile's `semantics` only when rows written under it change: it enters the materialisation hash.

use alloy_consensus::constants::{
    HOLESKY_GENESIS_HASH, HOODI_GENESIS_HASH, MAINNET_GENESIS_HASH, SEPOLIA_GENESIS_HASH,
};
use alloy_primitives::{B256, b256};
use serde::Serialize;

/// How far a recomputation of one thing may be trusted on a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The rule is known and was checked on real data: a mismatch is a lie.
    Full,
    /// The rule is known only from reading: a match proves, a mismatch is unverifiable for this reason.
    Tentative(&'static str),
    /// The chain does not commit to it.
    Impossible(&'static str),
}

/// How the header is encoded before it is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderRule {
    /// keccak(rlp(header)), all forks.
    Ethereum,
    /// The Ethereum header nested in an outer list.
    Tempo,
}

/// Which transaction and receipt encodings exist besides Ethereum's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Types 0x0 to 0x4.
    Ethereum,
    /// Types 0x64 to 0x6a; the effective price is the base fee.
    Arbitrum,
    /// Deposit transactions 0x7e.
    Optimism,
    /// System transactions without a signature.
    Tempo,
}

/// What `logIndex` must look like over a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogIndexRule {
    /// 0, 1, 2, … over the whole block.
    Contiguous,
    /// Not checked, for this reason.
    Waived(&'static str),
}

/// How a follower may know that a block will stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Finality {
    /// The tag that means final, when the chain has one that can be trusted.
    pub finalized_tag: Option<&'static str>,
    /// The tag that means unlikely to change.
    pub safe_tag: Option<&'static str>,
    /// Blocks behind the head that count as final where the tag is absent or wrong.
    pub depth: u64,
}

/// Everything in which chains differ, for our purposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// The name in `ChainSync.spec.chain.profile`.
    pub name: &'static str,
    /// Raised when rows written under this profile change.
    pub semantics: u32,
    /// Chain ids known to follow it. Not a limit: private chains use any id.
    pub chain_ids: &'static [u64],
    pub family: Family,
    pub header_rule: HeaderRule,
    pub header: Proof,
    pub transactions: Proof,
    pub receipts: Proof,
    pub bloom: Proof,
    pub withdrawals: Proof,
    pub senders: Proof,
    /// Recomputed fields: gas used, effective price, contract address, size.
    pub derived: Proof,
    pub log_index: LogIndexRule,
    pub finality: Finality,
}

/// The profile of that name.
#[must_use]
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

/// The names of all profiles, for messages.
pub fn profile_names() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|profile| profile.name)
}

/// The hash of block 0, where it is public knowledge. It guards against a provider of another chain with the same id.
#[must_use]
pub fn known_genesis_hash(chain_id: u64) -> Option<B256> {
    GENESIS_HASHES.iter().find(|(id, _)| *id == chain_id).map(|(_, hash)| *hash)
}

const GENESIS_HASHES: &[(u64, B256)] = &[
    (1, MAINNET_GENESIS_HASH),
    (10, b256!("0x7ca38a1916c42007829c55e69d3e9a73265554b586a499015373241b8a3fa48b")),
    (8453, b256!("0xf712aa9241cc24369b143cf6dce85f0902a9731e70d66818a3a5845b296c73dd")),
    (17_000, HOLESKY_GENESIS_HASH),
    (560_048, HOODI_GENESIS_HASH),
    (11_155_111, SEPOLIA_GENESIS_HASH),
];

const UNTESTED: &str = "the profile's rule was never checked on real data of this chain";
const UNKNOWN_CHAIN: &str = "the chain's rules are not known: the generic profile tries Ethereum's";
const TAGS: Finality = Finality { finalized_tag: Some("finalized"), safe_tag: Some("safe"), depth: 64 };

const ETHEREUM: Profile = Profile {
    name: "ethereum",
    semantics: 1,
    chain_ids: &[1],
    family: Family::Ethereum,
    header_rule: HeaderRule::Ethereum,
    header: Proof::Full,
    transactions: Proof::Full,
    receipts: Proof::Full,
    bloom: Proof::Full,
    withdrawals: Proof::Full,
    senders: Proof::Full,
    derived: Proof::Full,
    log_index: LogIndexRule::Contiguous,
    finality: TAGS,
};

const GENERIC: Profile = Profile {
    name: "generic",
    chain_ids: &[],
    header: Proof::Tentative(UNKNOWN_CHAIN),
    transactions: Proof::Tentative(UNKNOWN_CHAIN),
    receipts: Proof::Tentative(UNKNOWN_CHAIN),
    bloom: Proof::Tentative(UNKNOWN_CHAIN),
    withdrawals: Proof::Tentative(UNKNOWN_CHAIN),
    senders: Proof::Tentative(UNKNOWN_CHAIN),
    derived: Proof::Tentative(UNKNOWN_CHAIN),
    log_index: LogIndexRule::Waived(UNKNOWN_CHAIN),
    finality: Finality { finalized_tag: None, safe_tag: None, depth: 256 },
    ..ETHEREUM
};

const OPTIMISM: Profile = Profile {
    name: "optimism",
    chain_ids: &[10, 11_155_420],
    family: Family::Optimism,
    header: Proof::Tentative(UNTESTED),
    transactions: Proof::Tentative(UNTESTED),
    receipts: Proof::Tentative(UNTESTED),
    withdrawals: Proof::Tentative("since Isthmus the withdrawals root is a storage root"),
    senders: Proof::Tentative(UNTESTED),
    derived: Proof::Tentative(UNTESTED),
    ..ETHEREUM
};

const COSMOS_HASH: &str = "the block hash is Tendermint's, not keccak(rlp(header))";
const COSMOS_ROOT: &str = "the header's roots are not the tries of transactions and receipts";

/// All profiles. `ethereum` comes first: it is the one to copy from.
pub const PROFILES: &[Profile] = &[
    ETHEREUM,
    Profile { name: "anvil", chain_ids: &[31_337], ..ETHEREUM },
    Profile { name: "dev", chain_ids: &[1_337], ..ETHEREUM },
    Profile { name: "sepolia", chain_ids: &[11_155_111], ..ETHEREUM },
    Profile { name: "holesky", chain_ids: &[17_000], ..ETHEREUM },
    Profile { name: "hoodi", chain_ids: &[560_048], ..ETHEREUM },
    Profile { name: "arbitrum", chain_ids: &[42_161, 421_614], family: Family::Arbitrum, ..ETHEREUM },
    Profile {
        name: "cronos",
        chain_ids: &[25],
        header: Proof::Impossible(COSMOS_HASH),
        transactions: Proof::Impossible(COSMOS_ROOT),
        receipts: Proof::Impossible(COSMOS_ROOT),
        derived: Proof::Tentative("gas and size follow Tendermint's rules"),
        finality: Finality { finalized_tag: None, safe_tag: None, depth: 1 },
        ..ETHEREUM
    },
    Profile {
        name: "tempo",
        chain_ids: &[4_217],
        family: Family::Tempo,
        header_rule: HeaderRule::Tempo,
        header: Proof::Tentative("the header may carry a consensus context that the answer does not show"),
        transactions: Proof::Tentative("transactions of type 0x76 have no encoder yet"),
        senders: Proof::Tentative("transactions of type 0x76 sign in another way"),
        derived: Proof::Tentative("fees and size follow Tempo's rules"),
        ..ETHEREUM
    },
    Profile {
        name: "polygon",
        chain_ids: &[137, 80_002],
        header: Proof::Tentative(UNTESTED),
        transactions: Proof::Tentative("state-sync transactions and type 0x7f lie outside the root"),
        receipts: Proof::Tentative("receipts of state-sync transactions lie outside the root"),
        bloom: Proof::Tentative("logs of state-sync transactions lie outside the bloom"),
        senders: Proof::Tentative("state-sync transactions have no signature"),
        derived: Proof::Tentative(UNTESTED),
        finality: Finality { finalized_tag: Some("finalized"), safe_tag: None, depth: 256 },
        ..ETHEREUM
    },
    OPTIMISM,
    Profile { name: "base", chain_ids: &[8_453, 84_532], ..OPTIMISM },
    GENERIC,
];
