//! `kubectl apply --server-side` for the manifests that the stack brings along.

use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use serde::Deserialize;

const MANAGER: &str = "dagwright-up";

/// What one apply touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
}

/// The objects of a YAML text with any number of documents.
pub fn parse(yaml: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let documents = serde_yaml::Deserializer::from_str(yaml);
    let mut objects = Vec::new();
    for document in documents {
        let value = serde_yaml::Value::deserialize(document).context("parse YAML")?;
        if value.is_null() {
            continue;
        }
        objects.push(serde_yaml::from_value(value).context("read a Kubernetes object")?);
    }
    Ok(objects)
}

/// Applies objects in their order.
pub async fn apply(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<Vec<Applied>> {
    let mut applied = Vec::new();
    for object in objects {
        applied.push(apply_one(client, object).await?);
    }
    Ok(applied)
}

async fn apply_one(client: &Client, object: &DynamicObject) -> anyhow::Result<Applied> {
    let name = object.name_any();
    let Some(types) = &object.types else { bail!("object \"{name}\" has no apiVersion and kind") };
    let kind = GroupVersionKind::try_from(types).with_context(|| format!("read the kind of \"{name}\""))?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind)
        .await
        .with_context(|| format!("find kind {} on the API server", kind.kind))?;
    let namespace = object.namespace();
    let api: Api<DynamicObject> = match (&capabilities.scope, &namespace) {
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, &resource),
        (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), &resource),
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
    };
    api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
        .await
        .with_context(|| format!("apply {} \"{name}\"", kind.kind))?;
    Ok(Applied { kind: kind.kind, namespace, name })
}

/// Waits until the API server serves the named definitions.
pub async fn wait_for_crds(client: &Client, names: &[String], within: Duration) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in names {
        let established = await_condition(api.clone(), name, conditions::is_crd_established());
        tokio::time::timeout(within, established)
            .await
            .with_context(|| format!("{name} was not established within {} s", within.as_secs()))?
            .with_context(|| format!("watch {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_documents_and_comments_are_skipped() {
        let objects =
            parse("# only a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n---\n")
                .unwrap();
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0].name_any(), "a");
    }
}
