//! Every process of the stack is its own role and nobody else.

use std::collections::BTreeMap;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use dagwright_e2e::{
    World,
    manifests::worker_pool,
    processes::{environment_of, listed, workers_of},
    wait_for,
};
use serde_json::Value;

/// A process of the product: what it is called here, its pid, the role that it must be.
struct Process {
    name: String,
    pid: i32,
    role: &'static str,
}

/// The root key opens everything at the local endpoint, whatever the secret: a process that held it would pass every
/// denial by accident. The keys that a process comes by are those of its role alone.
#[tokio::test]
async fn no_process_holds_the_root_key_and_each_gets_the_keys_of_its_role() {
    let world = World::enter().await;
    let namespace = "e2e-credentials";
    let mut pool = worker_pool(namespace);
    pool["spec"]["run"]["service"]["min"] = 1.into();
    world.apply(namespace, &[pool]).await;
    let workers = wait_for("a worker of the pool", || async {
        let workers = workers_of(&world, namespace);
        if workers.is_empty() { Err("no worker runs".to_owned()) } else { Ok(workers) }
    })
    .await;

    let (root_id, root_secret) = (world.url("AWS_ACCESS_KEY_ID"), world.url("AWS_SECRET_ACCESS_KEY"));
    assert!(is_root(&world, keys(root_id, root_secret, None)).await, "`dagwright env` prints the root key");
    let mut processes = products();
    processes.extend(workers.into_iter().map(|pid| Process {
        name: "worker".into(),
        pid,
        role: "worker-task",
    }));
    for part in ["controller", "dispatcher", "rpc", "query", "worker"] {
        assert!(processes.iter().any(|process| process.name.starts_with(part)), "no {part} runs");
    }
    let mut tokens = BTreeMap::new();
    for Process { name, pid, role } in &processes {
        let environment: BTreeMap<String, String> = environment_of(*pid)
            .into_iter()
            .filter_map(|entry| entry.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
            .collect();
        assert!(environment.contains_key("AWS_ENDPOINT_URL"), "{name}: its environment is readable");
        for (key, value) in &environment {
            let holds = value == root_id || value == root_secret;
            assert!(!holds, "{name} holds the root key in {key}");
            assert!(
                !key.starts_with("AWS_ACCESS_KEY") && !key.starts_with("AWS_SECRET"),
                "{name} holds a long-lived key in {key}"
            );
        }
        let given = given_keys(&world, &environment).await;
        let id = given.access_key_id().to_owned();
        assert_ne!(id, root_id, "{name}");
        let who = caller(&world, given).await.expect("the keys are known");
        assert!(
            who.contains(":assumed-role/dagwright-") && who.contains(&format!("-{role}/")),
            "{name} is {who}"
        );
        tokens.insert(*role, environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"].clone());
    }
    // One role's token opens no other role's keys.
    let query = processes.iter().find(|process| process.role == "query").expect("the query service runs");
    let environment = environment_of(query.pid);
    let url = environment.iter().find_map(|entry| entry.strip_prefix("AWS_CONTAINER_CREDENTIALS_FULL_URI="));
    for (role, token) in tokens {
        let answer = world.http.get(url.expect("a URL")).header("authorization", token).send().await;
        let status = answer.expect("the endpoint answers").status().as_u16();
        assert_eq!(status, if role == "query" { 200 } else { 401 }, "with the token of {role}");
    }
    world.delete("WorkerPool", namespace, "ingest").await;
}

fn products() -> Vec<Process> {
    let role = |name: &str| {
        ["controller", "dispatcher", "query", "rpc"].into_iter().find(|role| name.starts_with(role))
    };
    let known = listed().into_iter();
    known.filter_map(|(name, pid)| Some(Process { role: role(&name)?, name, pid })).collect()
}

/// What an SDK in that process would act with.
async fn given_keys(world: &World, environment: &BTreeMap<String, String>) -> Credentials {
    let answer = world
        .http
        .get(&environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
        .header("authorization", &environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
        .send()
        .await
        .expect("the credentials endpoint answers");
    let body: Value = answer.error_for_status().expect("keys").json().await.expect("keys as JSON");
    let text = |field: &str| body[field].as_str().expect("each part of the keys is text");
    keys(text("AccessKeyId"), text("SecretAccessKey"), Some(text("Token")))
}

fn keys(id: &str, secret: &str, token: Option<&str>) -> Credentials {
    Credentials::new(id, secret, token.map(str::to_owned), None, "a process of the stack")
}

async fn is_root(world: &World, keys: Credentials) -> bool {
    caller(world, keys).await.is_some_and(|who| who.ends_with(":root"))
}

/// Who the keys are.
async fn caller(world: &World, keys: Credentials) -> Option<String> {
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(world.url("AWS_ENDPOINT_URL"))
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .build();
    aws_sdk_sts::Client::new(&config).get_caller_identity().send().await.ok()?.arn
}
