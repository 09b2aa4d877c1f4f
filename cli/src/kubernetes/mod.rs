//! The local control plane: its certificates, its kubeconfig files, and applying manifests to it.

mod apply;
mod pki;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

pub use apply::{Applied, apply, parse, wait_for_crds};
pub use pki::{ensure as ensure_pki, write_kubeconfig};

/// User name of the controller, to which `deploy/rbac/controller.yaml` grants its rights.
pub const CONTROLLER_USER: &str = "dagwright-controller";

/// The rights of the controller.
pub const CONTROLLER_RBAC: &str = include_str!("../../../deploy/rbac/controller.yaml");

/// A client of the API server that a kubeconfig names.
pub async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig).with_context(|| format!("read {}", kubeconfig.display()))?;
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("use {}", kubeconfig.display()))?;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.proxy_url = None;
    Client::try_from(config).context("create the Kubernetes client")
}

/// Whether the API server says that it is ready.
pub async fn is_ready(kubeconfig: &Path) -> bool {
    let Ok(client) = client(kubeconfig).await else { return false };
    let Ok(request) = http::Request::get("/readyz").body(vec![]) else { return false };
    client.request_text(request).await.is_ok_and(|text| text == "ok")
}
