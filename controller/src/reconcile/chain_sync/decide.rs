use dagwright_contracts::tasks::{EvmIngestConfig, Verification as Level};
use dagwright_core::{
    ids::{ClusterId, DatasetId, JobId, PoolId, VersionId},
    materialization::{MaterializationHash, evm_ingest},
};
use dagwright_crds::{
    ChainSync,
    chain_sync::{Mode, Output, Stream, Verification},
};
use dagwright_evm::{OutputKind, parquet::column_schema_version};
use dagwright_state::desired::chain_syncs as desired;
use kube::ResourceExt;
use serde_json::json;

use super::validate::Wanted;
use crate::reconcile::place;

/// The operator that every stream runs.
const OPERATOR: &str = "evm_ingest";

/// All that the ChainSync wants, as rows. Pure: the same spec gives the same rows, so applying it twice is a no-op.
pub(super) fn owner(cluster: ClusterId, sync: &ChainSync, wanted: &Wanted) -> desired::Owner {
    let (namespace, name) = place(sync);
    let jobs = sync.spec.streams.iter().map(|s| job(cluster, sync, wanted, s)).collect();
    desired::Owner {
        generation: sync.metadata.generation.unwrap_or(0),
        suspended: sync.spec.suspend,
        priority: sync.spec.priority.unwrap_or_default().rank(),
        namespace,
        name,
        jobs,
    }
}

fn job(cluster: ClusterId, sync: &ChainSync, wanted: &Wanted, stream: &Stream) -> desired::Job {
    let (namespace, name) = place(sync);
    let spec = &sync.spec;
    let (target_start, target_end, follow) = match &spec.mode {
        Mode::FixedTarget(fixed) => (fixed.from, Some(fixed.to), None),
        Mode::FollowHead(head) => (head.from, None, Some(json!(head.behind))),
    };
    let config = EvmIngestConfig {
        chain_id: chain_id(sync),
        profile: wanted.profile.name.to_owned(),
        verification: match spec.verification.unwrap_or_default() {
            Verification::Required => Level::Required,
            Verification::Recorded => Level::Recorded,
        },
        rpc_pool: stream.rpc_pool_ref.name.clone(),
    };
    let retry = spec.retry();
    let millis = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    desired::Job {
        job_id: JobId::of(cluster, &namespace, desired::OWNER, &name, &stream.name),
        name: stream.name.clone(),
        operator: OPERATOR.into(),
        semantics: small(wanted.semantics),
        config: json!(config),
        pool_id: PoolId::of(cluster, &wanted.worker_pool.uid().unwrap_or_default()),
        rpc_pool: stream.rpc_pool_ref.name.clone(),
        target_start,
        target_end,
        follow,
        chunk_size: i64::from(stream.chunk_size),
        max_in_flight: small(stream.max_in_flight()),
        max_attempts: small(retry.attempts()),
        backoff_ms: millis(retry.first_wait()),
        max_backoff_ms: millis(retry.longest_wait()),
        timeout_seconds: i32::try_from(spec.timeout().as_secs()).unwrap_or(i32::MAX),
        outputs: stream.outputs.iter().map(|o| output(cluster, sync, wanted, o)).collect(),
    }
}

fn output(cluster: ClusterId, sync: &ChainSync, wanted: &Wanted, output: &Output) -> desired::Output {
    let (namespace, _) = place(sync);
    let kind = output.kind.as_str();
    let column_schema = column_schema(output);
    let recipe = evm_ingest(
        wanted.semantics,
        kind,
        column_schema,
        chain_id(sync),
        &wanted.genesis,
        wanted.profile.semantics,
    );
    let hash = MaterializationHash::of(&recipe);
    desired::Output {
        name: kind.to_owned(),
        version: VersionId::of(&hash),
        materialization: hash.0,
        column_schema: small(column_schema),
        dataset_id: DatasetId::of(cluster, &namespace, &output.dataset_ref.name),
    }
}

fn column_schema(output: &Output) -> u32 {
    use dagwright_crds::dataset::EvmKind;
    column_schema_version(match output.kind {
        EvmKind::Blocks => OutputKind::Blocks,
        EvmKind::Transactions => OutputKind::Transactions,
        EvmKind::Logs => OutputKind::Logs,
    })
}

fn chain_id(sync: &ChainSync) -> u64 {
    u64::try_from(sync.spec.chain.id).unwrap_or_default()
}

fn small(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dagwright_core::ids::ClusterId;
    use dagwright_crds::WorkerPool;
    use serde_json::Value;

    use super::*;
    use crate::reconcile::chain_sync::{observe::Observed, validate};

    fn sync(edit: impl Fn(&mut Value)) -> ChainSync {
        let mut object = json!({
            "apiVersion": "dagwright.dev/v1alpha1", "kind": "ChainSync",
            "metadata": { "name": "local", "namespace": "demo", "generation": 1 },
            "spec": {
                "chain": { "id": 1, "profile": "ethereum" },
                "mode": { "fixedTarget": { "from": 0, "to": 100 } },
                "workerPoolRef": { "name": "w" },
                "streams": [{ "name": "core", "rpcPoolRef": { "name": "r" }, "chunkSize": 10, "outputs": [
                    { "kind": "blocks", "datasetRef": { "name": "b" } },
                    { "kind": "logs", "datasetRef": { "name": "l" } }
                ] }]
            }
        });
        edit(&mut object);
        serde_json::from_value(object).unwrap()
    }

    fn seen() -> Observed {
        let object = |kind: &str, spec: Value| json!({ "apiVersion": "dagwright.dev/v1alpha1", "kind": kind, "metadata": { "name": "x", "uid": "u" }, "spec": spec });
        let dataset = |kind: &str| {
            let spec = json!({ "storage": { "s3": {} }, "schema": { "evm": kind } });
            Arc::new(serde_json::from_value(object("Dataset", spec)).unwrap())
        };
        let pool: WorkerPool = serde_json::from_value(object(
            "WorkerPool",
            json!({ "image": "x", "cpu": 256, "memoryMiB": 512, "run": { "service": { "max": 1 } } }),
        ))
        .unwrap();
        let rpc = object(
            "RpcPool",
            json!({ "chain": { "id": 1 }, "providers": [{ "name": "a", "url": { "value": "http://x" } }] }),
        );
        Observed {
            worker_pool: Some(Arc::new(pool)),
            rpc_pools: [("r".to_owned(), Arc::new(serde_json::from_value(rpc).unwrap()))].into(),
            datasets: [("b".to_owned(), dataset("blocks")), ("l".to_owned(), dataset("logs"))].into(),
        }
    }

    fn rows(edit: impl Fn(&mut Value)) -> desired::Owner {
        let sync = sync(edit);
        let wanted = validate::validate(&sync, &seen()).map_err(|s| s.message).unwrap();
        owner(ClusterId(uuid::Uuid::nil()), &sync, &wanted)
    }

    fn versions(owner: &desired::Owner) -> Vec<VersionId> {
        owner.jobs.iter().flat_map(|j| &j.outputs).map(|o| o.version).collect()
    }

    #[test]
    fn what_does_not_decide_the_bytes_does_not_decide_the_version() {
        let base = versions(&rows(|_| {}));
        let edits: Vec<fn(&mut Value)> = vec![
            |o| o["spec"]["mode"] = json!({ "followHead": { "from": 5, "behind": { "finalized": {} } } }),
            |o| o["spec"]["streams"][0]["chunkSize"] = json!(7),
            |o| o["spec"]["verification"] = json!("Recorded"),
            |o| o["spec"]["priority"] = json!("High"),
            |o| o["spec"]["suspend"] = json!(true),
            |o| o["metadata"]["name"] = json!("other"),
            |o| o["spec"]["streams"][0]["name"] = json!("renamed"),
        ];
        for (n, edit) in edits.into_iter().enumerate() {
            assert_eq!(versions(&rows(edit)), base, "edit {n}");
        }
        assert_ne!(base[0], base[1], "each output has a version of its own");
        let unknown = rows(|o| o["spec"]["chain"]["profile"] = json!("anvil"));
        assert_eq!(unknown.jobs[0].config["profile"], "anvil");
    }

    #[test]
    fn broken_references_are_named_by_path() {
        let message = |edit: &dyn Fn(&mut Value), observed: Observed| {
            validate::validate(&sync(edit), &observed).err().map(|s| (s.reason, s.message)).unwrap()
        };
        let (reason, text) = message(&|_| {}, Observed { worker_pool: None, ..seen() });
        assert_eq!(reason, "DependencyMissing");
        assert!(text.starts_with("spec.workerPoolRef: there is no WorkerPool w in namespace demo"), "{text}");
        let (_, text) =
            message(&|o| o["spec"]["streams"][0]["outputs"][1]["datasetRef"]["name"] = json!("zz"), seen());
        assert!(text.starts_with("spec.streams[0].outputs[1].datasetRef: there is no Dataset zz"), "{text}");
        let (reason, _) =
            message(&|o| o["spec"]["streams"][0]["outputs"][1]["datasetRef"]["name"] = json!("b"), seen());
        assert_eq!(reason, "SchemaMismatch");
        let (reason, _) = message(&|o| o["spec"]["chain"]["id"] = json!(5), seen());
        assert_eq!(reason, "ChainMismatch");
        let (reason, _) = message(&|o| o["spec"]["chain"]["profile"] = json!("nope"), seen());
        assert_eq!(reason, "ProfileUnknown");
        let (reason, _) =
            message(&|o| o["spec"]["chain"]["genesisHash"] = json!(format!("0x{}", "1".repeat(64))), seen());
        assert_eq!(reason, "InvalidSpec");
    }
}
