//! The controllers under test, and how tests speak with the API server.

use std::{path::Path, sync::OnceLock, time::Duration};

use dagwright_testkit::{
    infrastructure::{Infrastructure, Process},
    wait::{wait_for_within, wait_until},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
    core::ApiResource,
};
use serde_json::{Value, json};
use sqlx::PgPool;

/// How long a test waits for what the controller does in a moment; a takeover has to fit.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace of its own in the shared world.
pub(crate) struct World {
    pub(crate) infra: &'static Infrastructure,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) state: PgPool,
}

/// What the tests' namespaces may name, and another one.
const ALLOWED_TASK_ROLES: &str =
    "test-*=arn:aws:iam::000000000000:role/team-*,else=arn:aws:iam::000000000000:role/else";

/// Starts a replica under a name.
pub(crate) fn controller(name: &str, lease_namespace: &str) -> Process {
    controller_with(name, lease_namespace, &[])
}

/// As [`controller`], with variables of its own.
pub(crate) fn controller_with(name: &str, lease_namespace: &str, own: &[(&str, String)]) -> Process {
    let infra = Infrastructure::shared();
    let settings = &infra.stack.settings;
    let role = |key: &str| infra.aws.role_arns[key].clone();
    let env = [
        ("KUBECONFIG", settings.controller_kubeconfig().display().to_string()),
        ("DAGWRIGHT_POD_NAME", name.to_owned()),
        ("DAGWRIGHT_LEASE_NAMESPACE", lease_namespace.to_owned()),
        ("DAGWRIGHT_STATE_DATABASE_URL", settings.database_url("dagwright_controller", "state")),
        ("DAGWRIGHT_ECS_CLUSTER", infra.aws.cluster.clone()),
        ("DAGWRIGHT_DEFAULT_SUBNETS", infra.aws.subnets.join(",")),
        ("DAGWRIGHT_DEFAULT_SECURITY_GROUPS", infra.aws.security_groups.join(",")),
        ("DAGWRIGHT_DEFAULT_TASK_ROLE_ARN", role("worker-task")),
        ("DAGWRIGHT_DEFAULT_EXECUTION_ROLE_ARN", role("worker-execution")),
        ("DAGWRIGHT_ALLOWED_TASK_ROLES", ALLOWED_TASK_ROLES.to_owned()),
        ("DAGWRIGHT_DISPATCHER_URL", "http://127.0.0.1:9".to_owned()),
        ("DAGWRIGHT_RPC_URL", "http://127.0.0.1:9".to_owned()),
        ("DAGWRIGHT_WORKER_LOG_GROUP", "/dagwright/test/workers".to_owned()),
    ];
    let env: Vec<_> = env.into_iter().chain(own.iter().cloned()).collect();
    infra.spawn(name, Path::new(env!("CARGO_BIN_EXE_dagwright-controller")), "controller", &env)
}

/// The two replicas that all tests share.
pub(crate) fn replicas() -> &'static [Process; 2] {
    static REPLICAS: OnceLock<[Process; 2]> = OnceLock::new();
    REPLICAS.get_or_init(|| ["controller-a", "controller-b"].map(|name| controller(name, "dagwright-system")))
}

impl World {
    pub(crate) async fn start() -> Self {
        let infra = Infrastructure::shared();
        replicas();
        let client = infra.client().await;
        let namespace = format!("test-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let object = json!({ "metadata": { "name": namespace } });
        let object: Namespace = serde_json::from_value(object).unwrap();
        Api::all(client.clone()).create(&Default::default(), &object).await.unwrap();
        Self { infra, client, namespace, state: infra.state() }
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let (group, version, plural) = match kind {
            "Secret" => ("", "v1", "secrets".to_owned()),
            "Event" => ("events.k8s.io", "v1", "events".to_owned()),
            kind => ("dagwright.dev", "v1alpha1", format!("{}s", kind.to_lowercase())),
        };
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version,
            kind: kind.into(),
            plural,
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Server-side apply, as a user. Answers the object as it was right after.
    pub(crate) async fn apply(&self, object: &Value) -> Value {
        self.try_apply(object).await.unwrap()
    }

    pub(crate) async fn try_apply(&self, object: &Value) -> Result<Value, kube::Error> {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let params = PatchParams::apply("user").force();
        let written = self.api(kind).patch(name, &params, &Patch::Apply(object)).await?;
        Ok(serde_json::to_value(written).unwrap())
    }

    pub(crate) async fn annotate(&self, kind: &str, name: &str, key: &str, value: Option<&str>) {
        let patch = json!({ "metadata": { "annotations": { key: value } } });
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn label(&self, kind: &str, name: &str, key: &str, value: &str) {
        let patch = json!({ "metadata": { "labels": { key: value } } });
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let found = self.api(kind).get_opt(name).await.unwrap();
        found.map(|o| serde_json::to_value(o).unwrap())
    }

    /// Waits until an object is as wanted; what is missing is told when it never is.
    pub(crate) async fn wait(
        &self,
        kind: &str,
        name: &str,
        check: impl Fn(&Value) -> Result<(), String>,
    ) -> Value {
        wait_for_within(PATIENCE, &format!("{kind} {name}"), async || {
            let object = self.get(kind, name).await.ok_or_else(|| "it is not there".to_owned())?;
            match check(&object) {
                Ok(()) => Ok(object),
                Err(missing) => {
                    let logs = ["controller-a", "controller-b"].map(|n| self.infra.log(n)).join("\n--\n");
                    Err(format!("{missing}\n{:#}\n{logs}", object["status"]))
                }
            }
        })
        .await
    }

    /// Waits for a condition of the object's own generation.
    pub(crate) async fn condition(
        &self,
        kind: &str,
        name: &str,
        type_: &str,
        status: &str,
        reason: &str,
    ) -> Value {
        self.wait(kind, name, |o| {
            let generation = &o["metadata"]["generation"];
            let found = conditions(o).iter().find(|c| c["type"] == type_);
            match found {
                Some(c)
                    if c["status"] == status
                        && c["reason"] == reason
                        && c["observedGeneration"] == *generation =>
                {
                    Ok(())
                }
                other => {
                    Err(format!("{type_} is not {status} {reason} for generation {generation} but {other:?}"))
                }
            }
        })
        .await
    }

    pub(crate) async fn ready(&self, kind: &str, name: &str) -> Value {
        self.condition(kind, name, "Ready", "True", "Succeeded").await
    }

    pub(crate) async fn stalled(&self, kind: &str, name: &str, reason: &str) -> String {
        let object = self.condition(kind, name, "Stalled", "True", reason).await;
        message(&object, "Stalled")
    }

    pub(crate) async fn gone(&self, kind: &str, name: &str) {
        wait_for_within(PATIENCE, &format!("{kind} {name} to be gone"), async || {
            self.get(kind, name).await.map_or(Ok(()), |object| Err(format!("{:#}", object["status"])))
        })
        .await;
    }

    /// Reasons of the Events about an object.
    pub(crate) async fn events(&self, kind: &str, name: &str) -> Vec<String> {
        let all = self.api("Event").list(&Default::default()).await.unwrap();
        let about = all
            .items
            .iter()
            .filter(|e| e.data["regarding"]["kind"] == kind && e.data["regarding"]["name"] == name);
        about.map(|e| e.data["reason"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the leader has gone over objects of a kind so many times more.
    pub(crate) async fn passes(&self, kind: &str, before: f64, more: f64) {
        let what = format!("a pass over {kind}");
        wait_until(PATIENCE, &what, async || passes(kind).await >= before + more).await;
    }
}

/// Passes over a kind, of both replicas.
pub(crate) async fn passes(kind: &str) -> f64 {
    let mut sum = 0.0;
    for process in replicas() {
        let kind = format!("kind=\"{kind}\"");
        sum += process.metric("dagwright_controller_reconcile_total", &[&kind]).await.unwrap_or(0.0);
    }
    sum
}

pub(crate) fn conditions(object: &Value) -> &[Value] {
    object["status"]["conditions"].as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn message(object: &Value, type_: &str) -> String {
    let condition = conditions(object).iter().find(|c| c["type"] == type_);
    condition.and_then(|c| c["message"].as_str()).unwrap_or_default().to_owned()
}
