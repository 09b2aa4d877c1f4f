//! What Flux and other tools that follow kstatus read in an object of every state.

use dagwright_crds::kstatus::{Kstatus, evaluate};
use http::Method;
use serde_json::{Value, json};

use crate::fixtures::{condition, objects, ready};
use crate::server::{Run, Server};

/// Type, status and reason of a condition.
type Is = (&'static str, &'static str, &'static str);

fn generation(object: &Value) -> &Value {
    &object["metadata"]["generation"]
}

fn status(object: &Value, conditions: &[Is]) -> Value {
    let generation = generation(object);
    let conditions: Vec<_> =
        conditions.iter().map(|(kind, is, why)| condition(kind, is, why, generation)).collect();
    json!({"observedGeneration": generation, "conditions": conditions})
}

#[tokio::test]
async fn an_object_that_nobody_looked_at_is_in_progress() {
    let server = Server::start().await;
    for object in objects() {
        server.create(&object, Run::Real).await.unwrap();
        let stored = server.get(&object).await;
        assert_eq!(stored["status"]["observedGeneration"], -1, "{}", object["kind"]);
        assert_eq!(evaluate(&stored), Kstatus::InProgress, "{}", object["kind"]);
    }
}

#[tokio::test]
async fn every_state_that_the_controller_writes_is_read_as_meant() {
    let server = Server::start().await;
    let ready = ("Ready", "True", "Succeeded");
    let states: [(&str, &[Is], Kstatus); 5] = [
        (
            "new",
            &[("Ready", "Unknown", "Progressing"), ("Reconciling", "True", "Progressing")],
            Kstatus::InProgress,
        ),
        (
            "tried again",
            &[("Ready", "False", "ProgressingWithRetry"), ("Reconciling", "True", "ProgressingWithRetry")],
            Kstatus::InProgress,
        ),
        (
            "a human must act",
            &[("Ready", "False", "DependencyMissing"), ("Stalled", "True", "DependencyMissing")],
            Kstatus::Failed,
        ),
        ("done", &[ready], Kstatus::Current),
        ("suspended", &[ready, ("Suspended", "True", "SuspendedBySpec")], Kstatus::Current),
    ];
    for object in objects() {
        let stored = server.create(&object, Run::Real).await.unwrap();
        for (what, conditions, expected) in states {
            let written = server.status(&object, &status(&stored, conditions)).await;
            assert_eq!(evaluate(&written), expected, "{}, {what}", object["kind"]);
        }
    }
}

#[tokio::test]
async fn a_changed_spec_is_in_progress_until_it_is_observed() {
    let server = Server::start().await;
    for mut object in objects() {
        let stored = server.apply(&object).await;
        server.status(&object, &ready(generation(&stored))).await;
        change(&mut object);
        let changed = server.apply(&object).await;
        assert_ne!(generation(&changed), generation(&stored), "{}", object["kind"]);
        assert_eq!(evaluate(&changed), Kstatus::InProgress, "{}", object["kind"]);
        let observed = server.status(&object, &ready(generation(&changed))).await;
        assert_eq!(evaluate(&observed), Kstatus::Current, "{}", object["kind"]);
    }
}

#[tokio::test]
async fn an_object_that_waits_for_its_finalizer_is_terminating() {
    let server = Server::start().await;
    for mut object in objects() {
        object["metadata"]["finalizers"] = json!([dagwright_crds::FINALIZER]);
        server.apply(&object).await;
        let path = server.path(&object, Some(""), Run::Real);
        server.send(Method::DELETE, &path, "application/json", &Value::Null).await.unwrap();
        assert_eq!(evaluate(&server.get(&object).await), Kstatus::Terminating, "{}", object["kind"]);
        object["metadata"]["finalizers"] = json!([]);
        server.apply(&object).await;
    }
}

/// A change that every kind permits.
fn change(object: &mut Value) {
    match object["kind"].as_str().unwrap() {
        "ChainSync" | "Dag" => object["spec"]["suspend"] = json!(true),
        "Dataset" => object["spec"]["readRoles"] = json!(["analyst"]),
        "RpcPool" => object["spec"]["timeout"] = json!("20s"),
        _ => object["spec"]["slots"] = json!(8),
    }
}
