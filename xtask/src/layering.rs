//! Dependencies point inward: core <- {state, contracts, aws, telemetry, evm} <- binaries.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, bail};
use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// What a crate must not depend on; a trailing `*` stands for any ending. Development dependencies are free.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "dagwright-core",
        &["tokio*", "kube*", "k8s-openapi", "sqlx", "aws-*", "reqwest", "axum", "dagwright-*"],
    ),
    (
        "dagwright-contracts",
        &["kube*", "sqlx", "aws-*", "dagwright-state", "dagwright-aws", "dagwright-crds"],
    ),
    ("dagwright-state", &["kube*", "aws-*", "dagwright-aws", "dagwright-crds"]),
    ("dagwright-aws", &["kube*", "sqlx", "dagwright-state", "dagwright-crds"]),
    ("dagwright-telemetry", &["kube*", "sqlx", "dagwright-state", "dagwright-crds"]),
    ("dagwright-evm", &["tokio*", "kube*", "sqlx", "aws-*", "reqwest", "dagwright-state", "dagwright-crds"]),
    ("dagwright-worker", &["kube*", "sqlx", "dagwright-state"]),
    ("dagwright-egress", &["kube*", "sqlx", "dagwright-state"]),
    ("dagwright-query", &["kube*"]),
];

/// Who may see the API types.
const CRDS_USERS: &[&str] = &[
    "dagwright-controller",
    "dagwright-cli",
    "xtask",
    "dagwright-testkit",
    "dagwright-api-tests",
    "dagwright-e2e",
    "dagwright-crds",
];
/// Who may speak SQL. The command makes roles and databases of the local cluster, as Terraform does elsewhere; no tables.
const SQL_USERS: &[&str] = &[
    "dagwright-state",
    "dagwright-cli",
    "dagwright-testkit",
    "dagwright-e2e",
    "dagwright-bench",
    "dagwright-chaos",
];

pub(crate) fn run() -> anyhow::Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(crate::root())
        .output()
        .context("run cargo metadata")?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let mut wrong = vec![];
    let forbidden: BTreeMap<_, _> = FORBIDDEN.iter().copied().collect();
    for package in &metadata.packages {
        let manifest = std::fs::read_to_string(&package.manifest_path)?;
        if !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{}: takes no workspace lints", package.name));
        }
        let normal = || package.dependencies.iter().filter(|d| d.kind.is_none());
        for dependency in normal() {
            let hits = forbidden
                .get(package.name.as_str())
                .is_some_and(|f| f.iter().any(|p| matches(p, &dependency.name)));
            if hits {
                wrong.push(format!("{} must not depend on {}", package.name, dependency.name));
            }
            if dependency.name == "dagwright-crds" && !CRDS_USERS.contains(&package.name.as_str()) {
                wrong.push(format!("{} must not see the API types", package.name));
            }
        }
    }
    wrong.extend(stray_sql(&metadata)?);
    if !wrong.is_empty() {
        bail!("layering:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// Files outside `state` that run queries of their own.
fn stray_sql(metadata: &Metadata) -> anyhow::Result<Vec<String>> {
    let mut wrong = vec![];
    for package in
        metadata.packages.iter().filter(|p| !SQL_USERS.contains(&p.name.as_str()) && p.name != "xtask")
    {
        let source = std::path::Path::new(&package.manifest_path).with_file_name("src");
        let mut open = vec![source];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|e| e == "rs")
                    && std::fs::read_to_string(&path)?.contains("sqlx::query")
                {
                    wrong.push(format!("{}: SQL belongs to lib/state", path.display()));
                }
            }
        }
    }
    Ok(wrong)
}
