//! The objects, as a user writes them.

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

pub(super) const NAMESPACE: &str = "bench";
/// Both kinds that are applied by the thousand.
pub(super) const KINDS: [&str; 2] = ["Dataset", "ChainSync"];

/// A Dataset.
pub(super) fn dataset(n: u64) -> Value {
    let spec = json!({ "storage": { "s3": {} }, "schema": { "evm": "blocks" }, "readRoles": ["analyst"] });
    object("Dataset", &format!("blocks-{n}"), spec)
}

/// A ChainSync that writes to the Dataset of its number. Chains of their own keep their versions apart.
pub(super) fn chain_sync(n: u64) -> Value {
    object(
        "ChainSync",
        &format!("sync-{n}"),
        json!({
            "chain": { "id": 31337, "profile": "anvil", "genesisHash": format!("0x{n:064x}") },
            "mode": { "fixedTarget": { "from": 0, "to": 1000 } },
            "workerPoolRef": { "name": "ingest" },
            "streams": [{
                "name": "core", "rpcPoolRef": { "name": "node" }, "chunkSize": 100,
                "outputs": [{ "kind": "blocks", "datasetRef": { "name": format!("blocks-{n}") } }],
            }],
        }),
    )
}

/// What all ChainSyncs share.
pub(super) fn pools() -> [Value; 2] {
    let providers = json!([{ "name": "node", "url": { "value": "http://127.0.0.1:9" } }]);
    [
        object("RpcPool", "node", json!({ "chain": { "id": 31337 }, "providers": providers })),
        object(
            "WorkerPool",
            "ingest",
            json!({
                "image": "dagwright/worker:local", "cpu": 256, "memoryMiB": 512,
                "run": { "service": { "min": 0, "max": 1 } }, "deletionPolicy": "Delete",
            }),
        ),
    ]
}

#[expect(clippy::needless_pass_by_value, reason = "callers write it in place")]
fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "dagwright.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec,
    })
}

pub(super) fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("dagwright.dev", "v1alpha1", kind));
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

/// Server-side apply, as `kubectl apply --server-side` does it.
pub(super) async fn apply(client: &Client, object: &Value) -> anyhow::Result<DynamicObject> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let params = PatchParams::apply("bench").force();
    Ok(api(client, &kind).patch(&name, &params, &Patch::Apply(object)).await?)
}

/// The namespace that all are in.
pub(super) async fn make_namespace(client: &Client) -> anyhow::Result<()> {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    namespaces.patch(NAMESPACE, &PatchParams::apply("bench"), &Patch::Apply(&object)).await?;
    Ok(())
}
