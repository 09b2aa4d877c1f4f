//! Manifests that users start from must be admitted as they stand.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::server::{Run, Server};

fn objects(text: &str) -> Vec<Value> {
    // `dagwright up` fills in the addresses of its nodes.
    let text = text
        .replace("${EVM_RPC_URL}", "http://127.0.0.1:8545")
        .replace("${MAINNET_RPC_URL}", "http://127.0.0.1:8546");
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|object| !object.is_null())
        .collect()
}

#[tokio::test]
async fn the_first_light_example_is_admitted() {
    let server = Server::start().await;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/first-light");
    let mut admitted = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for mut object in objects(&fs::read_to_string(&path).unwrap()) {
            if object["apiVersion"] != "dagwright.dev/v1alpha1" {
                continue;
            }
            object["metadata"]["namespace"] = Value::from(server.namespace.clone());
            server
                .create(&object, Run::Dry)
                .await
                .unwrap_or_else(|e| panic!("{}: {}", path.display(), e.message));
            admitted += 1;
        }
    }
    assert!(admitted >= 10, "{admitted} objects: is the example still there?");
}

#[tokio::test]
async fn every_kind_with_all_its_fields_is_admitted() {
    let server = Server::start().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/complete.yaml");
    let objects = objects(&fs::read_to_string(path).unwrap());
    assert_eq!(objects.len(), 5);
    for object in objects {
        server
            .create(&object, Run::Dry)
            .await
            .unwrap_or_else(|e| panic!("{}: {}", object["kind"], e.message));
    }
}
