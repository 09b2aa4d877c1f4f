//! Writes as the API server counts them.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::Client;

/// Writes since the API server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Writes {
    /// By the controller, to our objects and of Events. The runner applies objects and does nothing else to them; the
    /// controller never does that.
    pub(super) controller: u64,
    /// Of Leases.
    pub(super) lease: u64,
}

impl Writes {
    pub(super) async fn read(client: &Client) -> anyhow::Result<Self> {
        let request = http::Request::get("/metrics").body(vec![]).context("build a request")?;
        let text = client.request_text(request).await.context("read the API server's metrics")?;
        Ok(Self::of(&text))
    }

    fn of(metrics: &str) -> Self {
        let mut writes = Self::default();
        for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\""))?;
                rest.split('"').next()
            };
            let count = line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a counter of requests"
            )]
            let count = count as u64;
            let verb = label("verb").unwrap_or_default();
            let writes_something = matches!(verb, "APPLY" | "PATCH" | "PUT" | "POST" | "DELETE");
            let user = verb == "APPLY" && label("subresource") == Some("");
            match label("group") {
                Some("dagwright.dev") if writes_something && !user => writes.controller += count,
                Some("events.k8s.io") if writes_something => writes.controller += count,
                Some("coordination.k8s.io") if writes_something => writes.lease += count,
                _ => {}
            }
        }
        writes
    }

    /// Waits until the controller has written nothing for so long.
    pub(super) async fn when_quiet(client: &Client, quiet: Duration) -> anyhow::Result<Self> {
        let (mut last, mut since) = (Self::read(client).await?, Instant::now());
        let mut looks = tokio::time::interval(Duration::from_secs(1));
        while since.elapsed() < quiet {
            looks.tick().await;
            let now = Self::read(client).await?;
            if now.controller != last.controller {
                (last, since) = (now, Instant::now());
            }
        }
        Self::read(client).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runner_applies_is_not_the_controllers() {
        let text = r#"
apiserver_request_total{code="200",component="apiserver",dry_run="",group="dagwright.dev",resource="datasets",scope="resource",subresource="",verb="APPLY",version="v1alpha1"} 5
apiserver_request_total{code="201",component="apiserver",dry_run="",group="dagwright.dev",resource="datasets",scope="resource",subresource="",verb="APPLY",version="v1alpha1"} 2500
apiserver_request_total{code="200",component="apiserver",dry_run="",group="dagwright.dev",resource="datasets",scope="resource",subresource="status",verb="APPLY",version="v1alpha1"} 2501
apiserver_request_total{code="409",component="apiserver",dry_run="",group="dagwright.dev",resource="datasets",scope="resource",subresource="",verb="PATCH",version="v1alpha1"} 3
apiserver_request_total{code="200",component="apiserver",dry_run="",group="dagwright.dev",resource="datasets",scope="cluster",subresource="",verb="LIST",version="v1alpha1"} 7
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 9
"#;
        assert_eq!(Writes::of(text), Writes { controller: 2504, lease: 9 });
    }
}
