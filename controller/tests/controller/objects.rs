//! Objects as users write them.

use serde_json::{Value, json};

#[expect(clippy::needless_pass_by_value, reason = "callers write it in place")]
fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "dagwright.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

pub(crate) fn rpc_pool(name: &str) -> Value {
    object(
        "RpcPool",
        name,
        json!({
            "chain": { "id": 1 },
            "providers": [{ "name": "a", "url": { "value": "http://127.0.0.1:9" } }]
        }),
    )
}

pub(crate) fn worker_pool(name: &str) -> Value {
    object(
        "WorkerPool",
        name,
        json!({
            "image": "dagwright/worker:test",
            "cpu": 512,
            "memoryMiB": 1024,
            "run": { "service": { "min": 0, "max": 2, "cooldown": "30s" } },
            "queue": { "lease": "45s", "maxReceiveCount": 3 }
        }),
    )
}

pub(crate) fn dataset(name: &str, kind: &str) -> Value {
    object(
        "Dataset",
        name,
        json!({ "storage": { "s3": {} }, "schema": { "evm": kind }, "readRoles": ["analyst"] }),
    )
}

pub(crate) fn chain_sync(name: &str, outputs: &[(&str, &str)]) -> Value {
    let outputs: Vec<_> = outputs
        .iter()
        .map(|(kind, dataset)| json!({ "kind": kind, "datasetRef": { "name": dataset } }))
        .collect();
    object(
        "ChainSync",
        name,
        json!({
            "chain": { "id": 1, "profile": "ethereum" },
            "mode": { "fixedTarget": { "from": 0, "to": 1000 } },
            "workerPoolRef": { "name": "ingest" },
            "streams": [{ "name": "core", "rpcPoolRef": { "name": "standard" }, "chunkSize": 100, "outputs": outputs }]
        }),
    )
}
