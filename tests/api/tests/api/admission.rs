//! One break of a valid object at a time, each with the answer of the API server.

use std::fs;
use std::path::Path;

use dagwright_api_tests::{Case, Table};
use dagwright_crds::{ChainSync, Dag, Dataset, RpcPool, WorkerPool};
use kube::core::Status;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::server::{Run, Server};

const KINDS: [&str; 5] = ["chain_sync", "dag", "dataset", "rpc_pool", "worker_pool"];

fn table(kind: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/admission/{kind}.yaml"));
    serde_yaml::from_str(&fs::read_to_string(&path).unwrap())
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Fails with everything that went wrong, so that one run shows it all.
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[tokio::test]
async fn what_is_right_is_admitted_and_can_be_read() {
    let server = Server::start().await;
    let mut problems = Vec::new();
    for kind in KINDS {
        let table = table(kind);
        let mut objects = vec![("the valid object".to_owned(), table.valid.clone())];
        objects.extend(
            table.good.iter().map(|case| (case.what.clone(), case.applied_to(&table.valid).unwrap())),
        );
        for (what, object) in objects {
            match server.create(&object, Run::Dry).await {
                Ok(stored) => {
                    problems
                        .extend(unreadable(&stored).map(|e| format!("{kind}, {what}: not readable: {e}")));
                }
                Err(status) => problems.push(format!("{kind}, {what}: refused: {}", status.message)),
            }
        }
    }
    none(&problems);
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_field_with_a_reason() {
    let server = Server::start().await;
    let mut problems = Vec::new();
    let mut cases = 0;
    for kind in KINDS {
        let table = table(kind);
        for case in &table.bad {
            cases += 1;
            let object =
                case.applied_to(&table.valid).unwrap_or_else(|e| panic!("{kind}, {}: {e}", case.what));
            let answer = server.create(&object, Run::Dry).await;
            problems.extend(judged(kind, case, answer));
        }
    }
    none(&problems);
    assert!(cases >= 60, "{cases} bad specs");
}

#[tokio::test]
async fn what_must_not_change_does_not() {
    let server = Server::start().await;
    let mut problems = Vec::new();
    for kind in KINDS {
        let table = table(kind);
        let stored = server.create(&table.valid, Run::Real).await.unwrap();
        for case in &table.changes {
            let object = case.applied_to(&stored).unwrap_or_else(|e| panic!("{kind}, {}: {e}", case.what));
            let answer = server.replace(&object, Run::Dry).await;
            match (answer, &case.says) {
                (Ok(_), None) => {}
                (Err(status), None) => {
                    problems.push(format!("{kind}, {}: refused: {}", case.what, status.message));
                }
                (answer, Some(_)) => problems.extend(judged(kind, case, answer)),
            }
        }
    }
    none(&problems);
}

/// What is wrong with the answer to a bad object.
fn judged(kind: &str, case: &Case, answer: Result<Value, Status>) -> Option<String> {
    let says = case.says.as_deref().unwrap_or_else(|| panic!("{kind}, {}: `says` is missing", case.what));
    let Err(status) = answer else { return Some(format!("{kind}, {}: admitted", case.what)) };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let named = match &case.field {
        Some(field) => causes.clone().any(|cause| cause.field == *field && cause.message.contains(says)),
        None => status.message.contains(says),
    };
    (!named).then(|| format!("{kind}, {}: the answer does not say \"{says}\": {}", case.what, status.message))
}

/// The schema must be at least as strict as the types, or one object would stop the controller's watch.
fn unreadable(stored: &Value) -> Option<String> {
    match stored["kind"].as_str().unwrap() {
        "ChainSync" => read::<ChainSync>(stored),
        "Dag" => read::<Dag>(stored),
        "Dataset" => read::<Dataset>(stored),
        "RpcPool" => read::<RpcPool>(stored),
        "WorkerPool" => read::<WorkerPool>(stored),
        other => Some(format!("{other} is not ours")),
    }
}

fn read<T: DeserializeOwned>(stored: &Value) -> Option<String> {
    serde_json::from_value::<T>(stored.clone()).err().map(|error| error.to_string())
}
