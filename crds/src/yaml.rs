//! The definitions as files.

/// File name and text of every definition, as `crds/yaml/` holds them.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    crate::all()
        .into_iter()
        .map(|crd| {
            let name = format!("{}_{}.yaml", crate::GROUP, crd.spec.names.plural);
            let text = serde_yaml::to_string(&crd).expect("a definition is plain data");
            (name, format!("# Generated from crds/src by `cargo xtask crds`: do not edit.\n{text}"))
        })
        .collect()
}
