//! Structural lint of every definition, and drift of the generated YAML.

use super::*;

/// Calls `f` for each schema with its path.
fn each(schema: &JSONSchemaProps, path: &str, f: &mut dyn FnMut(&str, &JSONSchemaProps)) {
    f(path, schema);
    for (name, property) in schema.properties.iter().flatten() {
        each(property, &format!("{path}.{name}"), f);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        each(items, &format!("{path}[]"), f);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        each(values, &format!("{path}{{}}"), f);
    }
}

fn for_all(f: &mut dyn FnMut(&str, &JSONSchemaProps)) {
    for crd in crate::all() {
        let kind = &crd.spec.names.kind;
        for version in &crd.spec.versions {
            let schema =
                version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).expect("a schema");
            for (name, part) in schema.properties.iter().flatten() {
                each(part, &format!("{kind}.{name}"), f);
            }
        }
    }
}

#[test]
fn every_list_is_bounded_and_has_a_type() {
    for_all(&mut |path, s| {
        if s.type_.as_deref() == Some("array") {
            assert!(s.max_items.is_some(), "{path}: maxItems");
            assert!(s.x_kubernetes_list_type.is_some(), "{path}: x-kubernetes-list-type");
        }
    });
}

#[test]
fn every_field_says_what_it_is() {
    for_all(&mut |path, s| {
        let field = !path.ends_with("[]") && !path.ends_with("{}");
        assert!(!field || s.description.as_ref().is_some_and(|d| d.len() > 3), "{path}: description");
        assert!(
            s.title.is_none() && s.nullable.is_none() && s.one_of.is_none() && s.any_of.is_none(),
            "{path}"
        );
    });
}

#[test]
fn formats_are_those_that_kubernetes_knows() {
    for_all(&mut |path, s| {
        if let Some(format) = &s.format {
            assert!(["int32", "int64", "double", "date-time"].contains(&format.as_str()), "{path}: {format}");
        }
    });
}

#[test]
fn nothing_but_the_status_has_a_default() {
    for_all(&mut |path, s| {
        assert!(s.default.is_none() || path.matches('.').count() == 1 && path.ends_with(".status"), "{path}");
    });
}

#[test]
fn all_kinds_share_a_category_and_the_four_columns() {
    for crd in crate::all() {
        assert_eq!(crd.spec.names.categories, Some(vec!["dagwright".to_owned()]));
        assert!(crd.spec.names.short_names.is_some_and(|n| !n.is_empty()));
        let columns = crd.spec.versions[0].additional_printer_columns.clone().unwrap_or_default();
        let first: Vec<_> =
            columns.iter().filter(|c| c.priority.unwrap_or(0) == 0).map(|c| c.name.as_str()).collect();
        for name in ["Ready", "Reason", "Age"] {
            assert!(first.contains(&name), "{}: column {name}", crd.spec.names.kind);
        }
    }
}

#[test]
fn the_yaml_in_the_repository_is_what_the_types_say() {
    for (name, yaml) in crate::yaml::files() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml").join(&name);
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == yaml, "crds/yaml/{name} is stale: run `cargo xtask crds`");
    }
}
