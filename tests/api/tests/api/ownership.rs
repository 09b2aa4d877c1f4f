//! Who owns what: a manifest stays as written, and nobody fights over it.

use serde_json::{Value, json};

use crate::fixtures::{objects, ready};
use crate::server::Server;

fn version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}

#[tokio::test]
async fn applying_the_same_manifest_twice_changes_nothing() {
    let server = Server::start().await;
    for object in objects() {
        let first = server.apply(&object).await;
        let second = server.apply(&object).await;
        assert_eq!(first["metadata"]["generation"], second["metadata"]["generation"]);
        assert_eq!((&first["spec"], &first["status"]), (&second["spec"], &second["status"]));
        // From the second apply on: with it the default of the status, until then added on reading, enters etcd.
        let third = server.apply(&object).await;
        assert_eq!(version(&second), version(&third), "{}", object["kind"]);
    }
}

#[tokio::test]
async fn no_default_enters_what_the_user_wrote() {
    let server = Server::start().await;
    for object in objects() {
        let stored = server.apply(&object).await;
        assert_eq!(stored["spec"], object["spec"], "{}: GitOps tools would show a drift", object["kind"]);
        assert_eq!(stored["status"], json!({"observedGeneration": -1}), "{}", object["kind"]);
    }
}

#[tokio::test]
async fn the_controllers_status_does_not_touch_the_users_fields() {
    let server = Server::start().await;
    for object in objects() {
        let stored = server.apply(&object).await;
        let with_status = server.status(&object, &ready(&stored["metadata"]["generation"])).await;
        assert_eq!(with_status["metadata"]["generation"], stored["metadata"]["generation"]);
        let applied = server.apply(&object).await;
        assert_eq!(version(&applied), version(&with_status), "{}: a conflict or a change", object["kind"]);
        let owners = applied["metadata"]["managedFields"].as_array().unwrap();
        let of = |manager: &str| owners.iter().find(|owner| owner["manager"] == manager).unwrap();
        assert!(of("dagwright-controller")["fieldsV1"].get("f:spec").is_none());
        assert!(of("user")["fieldsV1"].get("f:status").is_none());
    }
}

#[tokio::test]
async fn writing_the_same_status_again_changes_nothing() {
    let server = Server::start().await;
    for object in objects() {
        let stored = server.apply(&object).await;
        let status = ready(&stored["metadata"]["generation"]);
        let first = server.status(&object, &status).await;
        let second = server.status(&object, &status).await;
        assert_eq!(version(&first), version(&second), "{}", object["kind"]);
    }
}

#[tokio::test]
async fn kubectl_apply_and_diff_agree() {
    let server = Server::start().await;
    let manifests =
        serde_json::to_string(&json!({"apiVersion": "v1", "kind": "List", "items": objects()})).unwrap();
    for manner in [&["--server-side"][..], &[]] {
        let apply: Vec<_> = ["apply", "--filename", "-"].iter().chain(manner).copied().collect();
        server.kubectl(&apply, &manifests).await;
        // It fails when there is a difference.
        let diff: Vec<_> = ["diff", "--filename", "-"].iter().chain(manner).copied().collect();
        assert_eq!(server.kubectl(&diff, &manifests).await, "");
    }
}
