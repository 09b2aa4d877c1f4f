use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::{Mutex, MutexGuard};

use crate::wait_for;

/// Scenarios kill what others need: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The running stack, seen from outside.
pub struct World {
    pub env: BTreeMap<String, String>,
    pub kube: Client,
    /// As the migrating owner: the checker reads everything.
    pub state: PgPool,
    pub http: reqwest::Client,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// Waits for its turn and connects, starting the stack first when it does not run.
    pub async fn enter() -> Self {
        static STARTED: OnceLock<()> = OnceLock::new();
        let turn = ONE_AT_A_TIME.lock().await;
        STARTED.get_or_init(|| {
            let done = dagwright(&["up", "--detach"]).status().expect("run `dagwright up`");
            assert!(done.success(), "`dagwright up --detach` failed: {done}");
        });
        let world = Self::connect(&test_stack(), turn).await;
        world.unwrap_or_else(|error| panic!("connect to the stack: {error:#}"))
    }

    /// Starts a stack of another name with these arguments of `dagwright up`, and connects.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(stack: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let turn = ONE_AT_A_TIME.lock().await;
        let up = [&["up", "--detach", "--no-example"], arguments].concat();
        // Standard output is the caller's own.
        let done =
            dagwright_on(stack, &up).stdout(std::io::stderr()).status().context("run `dagwright up`")?;
        anyhow::ensure!(done.success(), "`dagwright {}` failed: {done}", up.join(" "));
        Self::connect(stack, turn).await
    }

    async fn connect(stack: &str, turn: MutexGuard<'static, ()>) -> anyhow::Result<Self> {
        let env = environment(stack)?;
        let kubeconfig =
            kube::config::Kubeconfig::read_from(&env["KUBECONFIG"]).context("read KUBECONFIG")?;
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let kube = Client::try_from(config.context("complete the kubeconfig")?)?;
        let state = PgPool::connect(&env["STATE_DATABASE_URL"]).await.context("reach the state database")?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { env, kube, state, http, _turn: turn })
    }

    /// The stack's folder.
    pub fn dir(&self) -> PathBuf {
        let kubeconfig = Path::new(self.url("KUBECONFIG"));
        kubeconfig.ancestors().nth(2).expect("the kubeconfig lies two folders deep").to_owned()
    }

    pub fn url(&self, variable: &str) -> &str {
        self.env.get(variable).unwrap_or_else(|| panic!("`dagwright env` does not print {variable}"))
    }

    /// Applies objects server-side, as a user would with `kubectl apply --server-side`.
    pub async fn apply(&self, namespace: &str, objects: &[Value]) {
        self.try_apply(namespace, objects).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// [`Self::apply`] for when the API server may be away.
    ///
    /// # Errors
    /// When it refuses an object, or is not there.
    pub async fn try_apply(&self, namespace: &str, objects: &[Value]) -> Result<(), String> {
        self.ensure_namespace(namespace).await?;
        for object in objects {
            let kind = object["kind"].as_str().expect("a manifest has a kind");
            let name = object["metadata"]["name"].as_str().expect("a manifest has a name");
            let params = PatchParams::apply("e2e").force();
            let applied = self.api(kind, namespace).patch(name, &params, &Patch::Apply(object)).await;
            applied.map_err(|e| format!("apply {kind} {namespace}/{name}: {e}"))?;
        }
        Ok(())
    }

    pub fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("dagwright.dev", "v1alpha1", kind));
        Api::namespaced_with(self.kube.clone(), namespace, &resource)
    }

    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value, String> {
        let object = self
            .api(kind, namespace)
            .get(name)
            .await
            .map_err(|e| format!("get {kind} {namespace}/{name}: {e}"))?;
        serde_json::to_value(&object).map_err(|e| e.to_string())
    }

    /// The condition `kind` of an object when it is `status` for the current generation.
    pub async fn condition(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        condition: &str,
        status: &str,
    ) -> Result<Value, String> {
        let object = self.get(kind, namespace, name).await?;
        let generation = object["metadata"]["generation"].clone();
        let found = object["status"]["conditions"]
            .as_array()
            .and_then(|all| all.iter().find(|c| c["type"] == condition))
            .cloned();
        match found {
            Some(c) if c["status"] == status && c["observedGeneration"] == generation => Ok(c),
            _ => Err(format!(
                "{kind} {namespace}/{name} wants {condition}={status}; status is {}",
                object["status"]
            )),
        }
    }

    pub async fn wait_condition(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        condition: &str,
        status: &str,
    ) -> Value {
        let what = format!("{kind} {namespace}/{name} {condition}={status}");
        wait_for(&what, || self.condition(kind, namespace, name, condition, status)).await
    }

    /// Runs a statement through the query service and gives its rows.
    pub async fn query(&self, sql: &str) -> Result<Vec<Vec<Value>>, String> {
        let answer = self
            .http
            .post(format!("{}/v1/query", self.url("DAGWRIGHT_QUERY_URL")))
            .bearer_auth(self.url("DAGWRIGHT_TOKEN"))
            .json(&json!({ "sql": sql, "maxRows": 1_000_000 }))
            .send()
            .await
            .map_err(|e| e.to_string())?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|e| format!("{status}: {e}"))?;
        if !status.is_success() {
            return Err(format!("{status}: {body}"));
        }
        assert_eq!(body["truncated"], false, "the answer to {sql} was cut");
        serde_json::from_value(body["rows"].clone()).map_err(|e| e.to_string())
    }

    /// Deletes objects of a scenario and waits until their finalizers are done.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let api = self.api(kind, namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return,
            Err(e) => panic!("delete {kind} {namespace}/{name}: {e}"),
        }
        wait_for(&format!("{kind} {namespace}/{name} to be gone"), || async {
            match api.get_opt(name).await {
                Ok(None) => Ok(()),
                Ok(Some(left)) => {
                    Err(format!("finalizers {:?}, status {}", left.finalizers(), left.data["status"]))
                }
                Err(e) => Err(e.to_string()),
            }
        })
        .await;
    }

    async fn ensure_namespace(&self, name: &str) -> Result<(), String> {
        let namespaces: Api<Namespace> = Api::all(self.kube.clone());
        let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        namespaces
            .patch(name, &PatchParams::apply("e2e"), &Patch::Apply(&body))
            .await
            .map_err(|e| format!("apply namespace {name}: {e}"))?;
        Ok(())
    }
}

/// The exports of `dagwright env`.
fn environment(stack: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let out =
        dagwright_on(stack, &["env"]).stderr(Stdio::inherit()).output().context("run `dagwright env`")?;
    anyhow::ensure!(out.status.success(), "`dagwright env` failed: {}", out.status);
    Ok(String::from_utf8_lossy(&out.stdout).lines().filter_map(export).collect())
}

/// The CLI with the test stack's name.
pub fn dagwright(args: &[&str]) -> Command {
    dagwright_on(&test_stack(), args)
}

/// The CLI with a stack's name. Its path comes from `./dev`.
pub fn dagwright_on(stack: &str, args: &[&str]) -> Command {
    let program = std::env::var("DAGWRIGHT_BIN").expect("DAGWRIGHT_BIN is set by `./dev`");
    let mut command = Command::new(program);
    command.args(args).env("DAGWRIGHT_STACK", stack);
    command
}

fn test_stack() -> String {
    std::env::var("DAGWRIGHT_TEST_STACK").unwrap_or_else(|_| "test".into())
}

fn export(line: &str) -> Option<(String, String)> {
    let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
    Some((name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
}
