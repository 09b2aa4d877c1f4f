//! The admin server: /healthz (the process runs), /readyz (it can work; else which check fails and why), /metrics.

use std::net::SocketAddr;

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Health, Telemetry};

/// Binds and serves in the background until `stop` is cancelled. Returns the bound address.
///
/// # Errors
/// When the address cannot be bound.
pub async fn spawn(
    listen: SocketAddr,
    telemetry: &Telemetry,
    health: Health,
    stop: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let bound = listener.local_addr()?;
    let app = router(health, telemetry.metrics());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await {
            tracing::error!(%error, "admin server ended");
        }
    });
    tracing::info!(address = %bound, "admin server listens");
    Ok(bound)
}

fn router(health: Health, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { readiness(&health) }))
        .route(
            "/metrics",
            get(move || async move {
                metrics.run_upkeep();
                ([("content-type", "text/plain; version=0.0.4")], metrics.render())
            }),
        )
}

fn readiness(health: &Health) -> (StatusCode, String) {
    let failing = health.failing();
    if failing.is_empty() {
        return (StatusCode::OK, "ok\n".into());
    }
    let lines = failing.iter().map(|(name, why)| format!("{name}: {why}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}
