//! One small valid object per kind, and statuses as the controller writes them.

use serde_json::{Value, json};

/// The smallest object of every kind.
pub(crate) fn objects() -> Vec<Value> {
    [
        ("ChainSync", json!({
            "chain": {"id": 1, "profile": "ethereum"},
            "mode": {"fixedTarget": {"from": 0, "to": 10}},
            "workerPoolRef": {"name": "ingest"},
            "streams": [{
                "name": "core", "rpcPoolRef": {"name": "standard"}, "chunkSize": 5,
                "outputs": [{"kind": "blocks", "datasetRef": {"name": "eth-blocks"}}],
            }],
        })),
        ("Dag", json!({"jobs": [{"name": "a", "operator": "sql_transform", "config": {"sql": "select 1"}}]})),
        ("Dataset", json!({"storage": {"s3": {}}, "schema": {"evm": "blocks"}})),
        ("RpcPool", json!({
            "chain": {"id": 1},
            "providers": [{"name": "own", "url": {"value": "http://node.internal:8545"}}],
        })),
        ("WorkerPool", json!({
            "image": "worker:1", "cpu": 512, "memoryMiB": 1024,
            "run": {"service": {"max": 2}}, "capacity": [{"provider": "FARGATE"}],
        })),
    ]
    .map(|(kind, spec)| {
        json!({"apiVersion": "dagwright.dev/v1alpha1", "kind": kind, "metadata": {"name": "sample"}, "spec": spec})
    })
    .into()
}

/// A condition of a generation.
pub(crate) fn condition(kind: &str, status: &str, reason: &str, generation: &Value) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": "said by a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation,
    })
}

/// The status of an object that is as its spec wants it.
pub(crate) fn ready(generation: &Value) -> Value {
    json!({"observedGeneration": generation, "conditions": [condition("Ready", "True", "Succeeded", generation)]})
}
