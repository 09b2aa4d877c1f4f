//! Objects of a scenario, written as a user writes them.

use serde_json::{Value, json};

/// A ChainSync of the local chain with everything that it needs, in a namespace of its own.
pub struct LocalSync<'a> {
    pub namespace: &'a str,
    pub rpc_url: &'a str,
    pub from: u64,
    pub to: u64,
    pub chunk_size: u64,
    pub outputs: &'a [&'a str],
    pub max_attempts: u32,
}

impl<'a> LocalSync<'a> {
    pub fn new(namespace: &'a str, rpc_url: &'a str) -> Self {
        Self {
            namespace,
            rpc_url,
            from: 0,
            to: 400,
            chunk_size: 20,
            outputs: &["blocks", "transactions", "logs"],
            max_attempts: 8,
        }
    }

    pub fn objects(&self) -> Vec<Value> {
        let mut all = vec![self.rpc_pool(&[("node", self.rpc_url)]), worker_pool(self.namespace)];
        all.extend(["blocks", "transactions", "logs"].iter().map(|kind| dataset(self.namespace, kind)));
        all.push(self.chain_sync());
        all
    }

    pub fn rpc_pool(&self, providers: &[(&str, &str)]) -> Value {
        let providers: Vec<Value> =
            providers.iter().map(|(name, url)| json!({ "name": name, "url": { "value": url } })).collect();
        object(
            self.namespace,
            "RpcPool",
            "node",
            json!({
                "chain": { "id": 31337 }, "providers": providers, "timeout": "5s",
                "failover": { "onVerificationFailure": "Cordon", "cordonFor": "1m" },
            }),
        )
    }

    pub fn chain_sync(&self) -> Value {
        self.chain_sync_with(json!({}))
    }

    /// The ChainSync with top-level spec fields replaced.
    pub fn chain_sync_with(&self, replaced: Value) -> Value {
        let outputs: Vec<Value> = self
            .outputs
            .iter()
            .map(|kind| json!({ "kind": kind, "datasetRef": { "name": format!("chain-{kind}") } }))
            .collect();
        let mut spec = json!({
            "chain": { "id": 31337, "profile": "anvil" },
            "mode": { "fixedTarget": { "from": self.from, "to": self.to } },
            "workerPoolRef": { "name": "ingest" },
            "streams": [{
                "name": "core", "rpcPoolRef": { "name": "node" },
                "chunkSize": self.chunk_size, "maxInFlight": 6, "outputs": outputs,
            }],
            "retry": { "maxAttempts": self.max_attempts, "backoff": "1s", "maxBackoff": "5s" },
        });
        for (field, value) in replaced.as_object().expect("replaced fields are an object") {
            spec[field] = value.clone();
        }
        object(self.namespace, "ChainSync", "chain", spec)
    }
}

pub fn worker_pool(namespace: &str) -> Value {
    object(
        namespace,
        "WorkerPool",
        "ingest",
        json!({
            "image": "dagwright/worker:local", "cpu": 256, "memoryMiB": 512, "slots": 2,
            "run": { "service": { "min": 1, "max": 2, "tasksPerWorker": 4, "cooldown": "30s" } },
            "queue": { "maxReceiveCount": 3 }, "stopTimeout": "20s", "deletionPolicy": "Delete",
        }),
    )
}

pub fn dataset(namespace: &str, kind: &str) -> Value {
    object(
        namespace,
        "Dataset",
        &format!("chain-{kind}"),
        json!({
            "storage": { "s3": {} }, "schema": { "evm": kind }, "partitioning": { "blockRange": {} }, "readRoles": ["analyst"],
        }),
    )
}

fn object(namespace: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "dagwright.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    })
}
