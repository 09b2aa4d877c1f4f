//! What `kubectl get` shows.

use serde_json::{Value, json};

use crate::fixtures::{condition, objects, ready};
use crate::server::{Run, Server};

/// Columns and the one row of a table that kubectl printed.
fn table(printed: &str) -> (Vec<&str>, Vec<&str>) {
    let mut lines = printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    (lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
}

fn plural(object: &Value) -> String {
    format!("{}s", object["kind"].as_str().unwrap().to_lowercase())
}

/// The number that matters for the kind, as a status has it and as its column shows it.
fn number(kind: &str) -> (Value, &'static str, &'static str) {
    match kind {
        "ChainSync" => (json!({"progress": "5/10"}), "PROGRESS", "5/10"),
        "Dag" => (json!({"progress": "120/460"}), "PROGRESS", "120/460"),
        "Dataset" => (json!({"rows": 42}), "ROWS", "42"),
        "RpcPool" => (json!({"healthy": "1/1"}), "HEALTHY", "1/1"),
        _ => (json!({"backlog": 7, "workers": {"desired": 1, "running": 3, "busy": 0}}), "BACKLOG", "7"),
    }
}

#[tokio::test]
async fn a_row_says_whether_why_and_how_far() {
    let server = Server::start().await;
    for object in objects() {
        let stored = server.create(&object, Run::Real).await.unwrap();
        let generation = &stored["metadata"]["generation"];
        let kind = object["kind"].as_str().unwrap();
        let (more, column, shown) = number(kind);
        let mut status = ready(generation);
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        if kind == "ChainSync" {
            // Otherwise an empty cell would move the cells behind it.
            let synced = condition("Synced", "False", "CatchingUp", generation);
            status["conditions"].as_array_mut().unwrap().push(synced);
        }
        if kind == "RpcPool" {
            status["head"] = json!(18_000_000);
        }
        server.status(&object, &status).await;

        let printed = server.kubectl(&["get", &plural(&object)], "").await;
        let (columns, row) = table(&printed);
        let cell = |name: &str| {
            let index = columns.iter().position(|found| *found == name);
            row[index.unwrap_or_else(|| panic!("{kind} has no column {name}:\n{printed}"))]
        };
        assert_eq!(columns.first(), Some(&"NAME"));
        assert_eq!(columns.last(), Some(&"AGE"));
        assert_eq!(
            (cell("NAME"), cell("READY"), cell("REASON")),
            ("sample", "True", "Succeeded"),
            "{printed}"
        );
        assert_eq!(cell(column), shown, "{printed}");
        assert!(cell("AGE").ends_with('s') || cell("AGE").ends_with('m'), "{printed}");

        let wide = server.kubectl(&["get", &plural(&object), "--output", "wide"], "").await;
        assert!(wide.contains("MESSAGE") && wide.contains("said by a test"), "{wide}");
    }
}

#[tokio::test]
async fn the_category_lists_every_kind() {
    let server = Server::start().await;
    for object in objects() {
        server.create(&object, Run::Real).await.unwrap();
    }
    let printed = server.kubectl(&["get", "dagwright", "--output", "name"], "").await;
    let mut listed: Vec<_> = printed.lines().collect();
    listed.sort_unstable();
    let expected =
        ["chainsync", "dag", "dataset", "rpcpool", "workerpool"].map(|k| format!("{k}.dagwright.dev/sample"));
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn short_names_work_and_kubectl_waits_for_ready() {
    let server = Server::start().await;
    let object = objects().remove(0);
    let stored = server.create(&object, Run::Real).await.unwrap();
    assert!(server.kubectl(&["get", "csync"], "").await.contains("sample"));
    let wait = ["wait", "--for=condition=Ready", "chainsync/sample", "--timeout=60s"];
    let becomes = ready(&stored["metadata"]["generation"]);
    let (waited, _) = tokio::join!(server.kubectl(&wait, ""), server.status(&object, &becomes));
    assert!(waited.contains("condition met"), "{waited}");
}
