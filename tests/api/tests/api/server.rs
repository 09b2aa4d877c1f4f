//! The API server as these tests use it: JSON in, its own answer out, with the strict reading that kubectl asks for.

use dagwright_testkit::control_plane::ControlPlane;
use http::{Method, Request};
use kube::Client;
use kube::core::Status;
use serde_json::{Value, json};

/// A namespace to write in.
pub(crate) struct Server {
    pub(crate) namespace: String,
    pub(crate) client: Client,
}

/// What is done with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    Dry,
    Real,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let (namespace, client) = ControlPlane::namespace().await;
        Self { namespace, client }
    }

    pub(crate) async fn create(&self, object: &Value, run: Run) -> Result<Value, Status> {
        self.send(Method::POST, &self.path(object, None, run), "application/json", object).await
    }

    pub(crate) async fn replace(&self, object: &Value, run: Run) -> Result<Value, Status> {
        self.send(Method::PUT, &self.path(object, Some(""), run), "application/json", object).await
    }

    pub(crate) async fn get(&self, object: &Value) -> Value {
        let path = self.path(object, Some(""), Run::Real);
        self.send(Method::GET, &path, "application/json", &Value::Null).await.unwrap()
    }

    /// Server-side apply by a user.
    pub(crate) async fn apply(&self, object: &Value) -> Value {
        let path = format!("{}&fieldManager=user", self.path(object, Some(""), Run::Real));
        self.send(Method::PATCH, &path, "application/apply-patch+yaml", object).await.unwrap()
    }

    /// Writes the status as the controller does, with the controller's rights.
    pub(crate) async fn status(&self, object: &Value, status: &Value) -> Value {
        let patch = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"],
            "metadata": {"name": object["metadata"]["name"]}, "status": status,
        });
        let path = format!(
            "{}&fieldManager=dagwright-controller&force=true",
            self.path(object, Some("/status"), Run::Real)
        );
        let controller = ControlPlane::shared().controller_client().await;
        send(&controller, Method::PATCH, &path, "application/apply-patch+yaml", &patch).await.unwrap()
    }

    pub(crate) async fn kubectl(&self, args: &[&str], input: &str) -> String {
        let args: Vec<_> = args.iter().copied().chain(["--namespace", &self.namespace]).collect();
        let printed = ControlPlane::shared().kubectl(&args, input).await;
        assert!(printed.ok, "kubectl {}: {}{}", args.join(" "), printed.stdout, printed.stderr);
        printed.stdout
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: &Value,
    ) -> Result<Value, Status> {
        send(&self.client, method, path, content, body).await
    }

    /// `below` is what stands behind the object's name; without it, the path is that of the kind.
    pub(crate) fn path(&self, object: &Value, below: Option<&str>, run: Run) -> String {
        let kind = object["kind"].as_str().unwrap();
        let crds = dagwright_crds::all();
        let crd = crds
            .iter()
            .find(|crd| crd.spec.names.kind == kind)
            .unwrap_or_else(|| panic!("{kind} is not ours"));
        let name = below.map(|below| format!("/{}{below}", object["metadata"]["name"].as_str().unwrap()));
        format!(
            "/apis/dagwright.dev/v1alpha1/namespaces/{}/{}{}?fieldValidation=Strict{}",
            self.namespace,
            crd.spec.names.plural,
            name.unwrap_or_default(),
            if run == Run::Dry { "&dryRun=All" } else { "" },
        )
    }
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    content: &str,
    body: &Value,
) -> Result<Value, Status> {
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    let request =
        Request::builder().method(method).uri(path).header("content-type", content).body(body).unwrap();
    match client.request(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(error) => panic!("{path}: {error}"),
    }
}
