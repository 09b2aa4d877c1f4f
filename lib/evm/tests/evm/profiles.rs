//! The table of chains is consistent.

use std::collections::BTreeSet;

use dagwright_evm::{
    OutputKind,
    profile::{PROFILES, known_genesis_hash, profile, profile_names},
};

#[test]
fn names_and_chain_ids_belong_to_one_profile() {
    assert_eq!(profile_names().collect::<BTreeSet<_>>().len(), PROFILES.len());
    let ids: Vec<u64> = PROFILES.iter().flat_map(|profile| profile.chain_ids).copied().collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert!(PROFILES.iter().all(|known| known.semantics >= 1 && profile(known.name) == Some(known)));
    assert_eq!(profile("Ethereum"), None);
}

#[test]
fn a_genesis_hash_is_known_only_for_public_chains() {
    let mainnet = known_genesis_hash(1).unwrap().to_string();
    assert_eq!(mainnet, "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");
    assert_eq!(known_genesis_hash(31_337), None);
}

#[test]
fn output_kinds_are_named_as_in_specs() {
    for kind in OutputKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    let unknown = "Blocks".parse::<OutputKind>().unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "unknown output kind \"Blocks\": expected one of blocks, transactions, logs, traces"
    );
}
