use dagwright_aws::secrets::Secrets;
use serde_json::{Value, json};

use dagwright_testkit::wait::wait_until;

use crate::{
    objects::rpc_pool,
    world::{PATIENCE, World},
};

const KEYED: &str = "https://eth.example/v2/very-secret-key";

#[tokio::test]
async fn a_key_goes_to_secrets_manager_and_nowhere_else() {
    let world = World::start().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "rpc-keys" }, "stringData": { "alchemy": KEYED }
    });
    world.apply(&secret).await;
    let mut pool = rpc_pool("standard");
    pool["spec"]["providers"] =
        json!([{ "name": "alchemy", "url": { "secretKeyRef": { "name": "rpc-keys", "key": "alchemy" } } }]);
    world.apply(&pool).await;
    let text = world.stalled("RpcPool", "standard", "SecretNotLabelled").await;
    assert!(text.contains("kubectl label"), "{text}");
    world.label("Secret", "rpc-keys", "dagwright.dev/rpc-key", "true").await;
    let object = world.ready("RpcPool", "standard").await;

    let name = format!("dagwright/local/{}/standard/alchemy", world.namespace);
    let root = world.infra.root();
    let manager = aws_sdk_secretsmanager::Client::new(&root);
    let copy = manager.get_secret_value().secret_id(&name).send().await.unwrap();
    assert_eq!(copy.secret_string(), Some(KEYED));
    let config: Value = sqlx::query_scalar("SELECT config FROM rpc_pools WHERE namespace = $1")
        .bind(&world.namespace)
        .fetch_one(&world.state)
        .await
        .unwrap();
    assert_eq!(config["providers"][0]["url"]["secret"]["arn"], json!(copy.arn()));
    let everywhere =
        format!("{config}{object}{}", world.infra.log("controller-a") + &world.infra.log("controller-b"));
    assert!(!everywhere.contains("very-secret-key"), "the key leaked");

    let rotated = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "rpc-keys", "labels": { "dagwright.dev/rpc-key": "true" } },
        "stringData": { "alchemy": "https://eth.example/v2/rotated" }
    });
    let before = config["providers"][0]["url"]["secret"]["version"].clone();
    world.apply(&rotated).await;
    let state = world.state.clone();
    let namespace = world.namespace.clone();
    wait_until(PATIENCE, "the new version to be named", async || {
        let config: Value = sqlx::query_scalar("SELECT config FROM rpc_pools WHERE namespace = $1")
            .bind(&namespace)
            .fetch_one(&state)
            .await
            .unwrap();
        config["providers"][0]["url"]["secret"]["version"] != before
    })
    .await;

    world.delete("RpcPool", "standard").await;
    world.gone("RpcPool", "standard").await;
    assert_eq!(Secrets::new(&root).describe(&name).await.unwrap(), None);
}
