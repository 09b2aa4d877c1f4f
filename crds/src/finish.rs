//! From what the derive emits to what a strict apiserver wants.
//!
//! * Formats and bounds that Kubernetes knows (`uint32` is not one), no titles, no `nullable`: a null is the same as a field
//!   left out instead of being stored.
//! * Unions get `minProperties: 1` and a rule that names their keys instead of `oneOf` and `maxProperties`, whose messages
//!   ("Too many: 2: must have at most 1 item") tell nobody what to write.
//! * Every list has a list type: lists in [`MAP_LISTS`] are maps by key, so that duplicates are refused by path; others are atomic.
//! * The status begins as `{observedGeneration: -1}`, so that no tool takes an object that nobody looked at for a ready one.
//! * CEL rules from one table.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};
use serde_json::{Value, json};

use crate::rules;

/// Lists whose items are named: the last part of the path, and the key.
const MAP_LISTS: &[(&str, &str)] = &[
    ("spec.providers", "name"),
    ("spec.streams", "name"),
    ("spec.streams[].outputs", "kind"),
    ("spec.capacity", "provider"),
    ("spec.shareWith", "namespace"),
    ("spec.schema.columns", "name"),
    ("spec.jobs[].inputs", "name"),
    ("spec.jobs[].outputs", "name"),
    ("spec.jobs[].checks", "name"),
    ("status.conditions", "type"),
];

/// The largest integer that every JSON tool reads exactly.
const SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Finishes a derived definition.
#[must_use]
pub fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let kind = crd.spec.names.kind.clone();
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else {
            continue;
        };
        schema.required = Some(vec!["metadata".into(), "spec".into()]);
        walk(schema, "");
        if let Some(status) = schema.properties.as_mut().and_then(|p| p.get_mut("status")) {
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
            conditions(status);
        }
        for rule in rules::all().into_iter().filter(|r| r.kind == kind) {
            let target = at(schema, rule.path).unwrap_or_else(|| {
                unreachable!("the rule table names {kind} {}, which the schema lacks", rule.path)
            });
            target.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
                rule: rule.rule,
                message: Some(rule.message),
                ..Default::default()
            });
        }
    }
    crd
}

fn walk(schema: &mut JSONSchemaProps, path: &str) {
    schema.title = None;
    schema.nullable = None;
    numbers(schema);
    union(schema);
    if let Some(values) = &mut schema.enum_ {
        values.retain(|JSON(v)| !v.is_null());
    }
    if schema.type_.as_deref() == Some("string") && schema.enum_.is_none() && schema.format.is_none() {
        schema.max_length.get_or_insert(1024);
    }
    if schema.type_.as_deref() == Some("array") {
        list(schema, path);
    }
    if let Some(description) = &mut schema.description {
        // Line breaks of the source are no line breaks of the text.
        *description = description.replace("\n\n", "\u{0}").replace('\n', " ").replace('\u{0}', "\n\n");
    }
    for (name, property) in schema.properties.iter_mut().flatten() {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        walk(property, &below);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        walk(items, &format!("{path}[]"));
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        walk(values, &format!("{path}{{}}"));
    }
}

/// Formats that Kubernetes does not know become `int64` with bounds.
fn numbers(schema: &mut JSONSchemaProps) {
    let most = match schema.format.as_deref() {
        Some("uint8") => f64::from(u8::MAX),
        Some("uint16") => f64::from(u16::MAX),
        Some("uint32") => f64::from(u32::MAX),
        Some("uint64" | "uint") => SAFE_INTEGER,
        _ => return,
    };
    schema.format = Some("int64".into());
    schema.minimum.get_or_insert(0.0);
    schema.maximum.get_or_insert(most);
}

/// An externally tagged enum is an object with exactly one key.
fn union(schema: &mut JSONSchemaProps) {
    let Some(branches) = &schema.one_of else { return };
    if schema.properties.is_some()
        && branches.iter().all(|b| b.required.as_ref().is_some_and(|r| r.len() == 1))
    {
        schema.one_of = None;
        schema.min_properties = Some(1);
        let keys: Vec<_> = schema.properties.iter().flatten().map(|(key, _)| key.clone()).collect();
        schema.x_kubernetes_validations.get_or_insert_default().push(rules::exactly_one(&keys));
    }
}

fn list(schema: &mut JSONSchemaProps, path: &str) {
    let key = MAP_LISTS.iter().find(|(p, _)| *p == path).map(|(_, key)| (*key).to_owned());
    if path == "status.conditions" {
        schema.max_items = Some(16);
    }
    schema.x_kubernetes_list_type = Some(if key.is_some() { "map" } else { "atomic" }.into());
    schema.x_kubernetes_list_map_keys = key.map(|k| vec![k]);
}

/// What `metav1.Condition` of Go carries and the generated type lacks.
fn conditions(status: &mut JSONSchemaProps) {
    let Some(items) = at(status, "conditions[]") else { return };
    let Some(properties) = items.properties.as_mut() else { return };
    if let Some(p) = properties.get_mut("status") {
        p.enum_ = Some(["True", "False", "Unknown"].map(|v| JSON(Value::from(v))).into());
        p.max_length = None;
    }
    if let Some(p) = properties.get_mut("reason") {
        p.min_length = Some(1);
        p.pattern = Some("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$".into());
    }
    if let Some(p) = properties.get_mut("message") {
        p.max_length = Some(32768);
    }
    if let Some(p) = properties.get_mut("type") {
        p.max_length = Some(316);
    }
}

/// The schema at a path such as `spec.jobs[].retry`.
fn at<'a>(schema: &'a mut JSONSchemaProps, path: &str) -> Option<&'a mut JSONSchemaProps> {
    let mut here = schema;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        let name = part.trim_end_matches("[]");
        here = here.properties.as_mut()?.get_mut(name)?;
        if part.ends_with("[]") {
            let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut here.items else { return None };
            here = items;
        }
    }
    Some(here)
}

#[cfg(test)]
mod tests;
