//! `kubectl explain` reads well on every field.

use dagwright_testkit::control_plane::ControlPlane;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::server::Server;

/// Shorter ones only repeat the name of the field.
const SHORTEST: usize = 11;

fn silent(schema: &JSONSchemaProps, path: &str, found: &mut Vec<String>) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let description = field.description.as_deref().unwrap_or_default();
        if description.len() < SHORTEST {
            found.push(format!("{path}: {description:?}"));
        }
        silent(field, &path, found);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        silent(items, &format!("{path}[]"), found);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        silent(values, &format!("{path}{{}}"), found);
    }
}

#[test]
fn every_field_is_described() {
    let mut found = Vec::new();
    for crd in dagwright_crds::all() {
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).unwrap();
            assert!(
                schema.description.as_ref().is_some_and(|text| text.len() > 40),
                "{}",
                crd.spec.names.kind
            );
            silent(schema, &crd.spec.names.kind, &mut found);
        }
    }
    assert!(found.is_empty(), "fields that say too little:\n{}", found.join("\n"));
}

#[tokio::test]
async fn kubectl_explains_every_kind_down_to_its_leaves() {
    let server = Server::start().await;
    for crd in dagwright_crds::all() {
        let names = &crd.spec.names;
        let kind = server.kubectl(&["explain", &names.plural], "").await;
        let version =
            crd.spec.versions[0].schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).unwrap();
        let first_words: Vec<_> = version.description.as_deref().unwrap().split(' ').take(5).collect();
        assert!(kind.contains(&first_words.join(" ")), "{kind}");
        let fields = server.kubectl(&["explain", &names.plural, "--recursive"], "").await;
        assert!(fields.contains("observedGeneration") && fields.contains("-required-"), "{fields}");
    }
    let leaf = server.kubectl(&["explain", "chainsync.spec.streams.chunkSize"], "").await;
    for words in ["chunkSize <integer>", "Blocks per task, 1 to 100000"] {
        assert!(leaf.contains(words), "{words:?} is not in:\n{leaf}");
    }
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_not_explained() {
    let printed = ControlPlane::shared().kubectl(&["explain", "dataset.spec.colour"], "").await;
    assert!(!printed.ok && printed.stderr.contains("colour"), "{printed:?}");
}
