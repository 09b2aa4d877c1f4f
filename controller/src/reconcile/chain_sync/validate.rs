use std::sync::Arc;

use dagwright_crds::{
    ChainSync, WorkerPool,
    conditions::{
        CHAIN_MISMATCH, DEPENDENCY_MISSING, INVALID_SPEC, PROFILE_UNKNOWN, SCHEMA_MISMATCH, SEMANTICS_UNKNOWN,
    },
    dataset::TableSchema,
};
use dagwright_evm::{EVM_INGEST_SEMANTICS, Profile, profile};

use super::observe::Observed;
use crate::{engine::Stall, reconcile::place};

/// A ChainSync whose references all resolve.
pub(super) struct Wanted {
    pub(super) worker_pool: Arc<WorkerPool>,
    pub(super) profile: &'static Profile,
    /// Hash of block 0, or `unknown` for chains that nobody fixed: it tells versions of two chains of one id apart.
    pub(super) genesis: String,
    pub(super) semantics: u32,
}

pub(super) fn validate(sync: &ChainSync, seen: &Observed) -> Result<Wanted, Stall> {
    let profile = known_profile(sync)?;
    let genesis = genesis(sync)?;
    let semantics = semantics(sync)?;
    let worker_pool = seen
        .worker_pool
        .clone()
        .ok_or_else(|| missing(sync, "spec.workerPoolRef", "WorkerPool", &sync.spec.worker_pool_ref.name))?;
    for (n, stream) in sync.spec.streams.iter().enumerate() {
        let (path, name) = (format!("spec.streams[{n}].rpcPoolRef"), &stream.rpc_pool_ref.name);
        let pool = seen.rpc_pools.get(name).ok_or_else(|| missing(sync, &path, "RpcPool", name))?;
        if pool.spec.chain.id != sync.spec.chain.id {
            let (serves, wants) = (pool.spec.chain.id, sync.spec.chain.id);
            let message =
                format!("{path}: RpcPool {name} serves chain {serves}, the ChainSync reads chain {wants}");
            return Err(Stall::new(CHAIN_MISMATCH, message));
        }
        for (o, output) in stream.outputs.iter().enumerate() {
            let (path, name) =
                (format!("spec.streams[{n}].outputs[{o}].datasetRef"), &output.dataset_ref.name);
            let dataset = seen.datasets.get(name).ok_or_else(|| missing(sync, &path, "Dataset", name))?;
            if dataset.spec.schema != TableSchema::Evm(output.kind) {
                let kind = output.kind.as_str();
                let message = format!(
                    "{path}: Dataset {name} must have schema: {{evm: {kind}}} to hold the output {kind}"
                );
                return Err(Stall::new(SCHEMA_MISMATCH, message));
            }
        }
    }
    Ok(Wanted { worker_pool, profile, genesis, semantics })
}

fn missing(sync: &ChainSync, path: &str, kind: &str, name: &str) -> Stall {
    let (namespace, _) = place(sync);
    Stall::new(
        DEPENDENCY_MISSING,
        format!("{path}: there is no {kind} {name} in namespace {namespace}; create it, or correct the name"),
    )
}

fn known_profile(sync: &ChainSync) -> Result<&'static Profile, Stall> {
    let name = &sync.spec.chain.profile;
    profile(name).ok_or_else(|| {
        let names: Vec<_> = profile::profile_names().collect();
        let message = format!(
            "spec.chain.profile: {name:?} is none of {}; generic verifies what it can",
            names.join(", ")
        );
        Stall::new(PROFILE_UNKNOWN, message)
    })
}

fn genesis(sync: &ChainSync) -> Result<String, Stall> {
    let chain = &sync.spec.chain;
    let known = u64::try_from(chain.id).ok().and_then(profile::known_genesis_hash).map(|h| h.to_string());
    match (&chain.genesis_hash, known) {
        (Some(given), Some(known)) if *given != known => Err(Stall::new(
            INVALID_SPEC,
            format!(
                "spec.chain.genesisHash: block 0 of chain {} is {known}, not {given}; leave the field out",
                chain.id
            ),
        )),
        (Some(given), _) => Ok(given.clone()),
        (None, Some(known)) => Ok(known),
        (None, None) => Ok("unknown".into()),
    }
}

/// What the spec names, else what this ChainSync began with, else the newest: an upgrade never moves it by itself.
fn semantics(sync: &ChainSync) -> Result<u32, Stall> {
    let began = sync.status.as_ref().and_then(|s| s.semantics).and_then(|s| u32::try_from(s).ok());
    let semantics = sync.spec.semantics.or(began).unwrap_or(EVM_INGEST_SEMANTICS);
    let oldest = EVM_INGEST_SEMANTICS.saturating_sub(1).max(1);
    if (oldest..=EVM_INGEST_SEMANTICS).contains(&semantics) {
        return Ok(semantics);
    }
    Err(Stall::new(
        SEMANTICS_UNKNOWN,
        format!(
            "spec.semantics: this version computes evm_ingest with semantics {oldest} to {EVM_INGEST_SEMANTICS}, not {semantics}"
        ),
    ))
}
