//! The running service.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use dagwright_telemetry::{Check, Health, admin, shutdown};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, App, Limits},
    auth::Authenticator,
    catalog::StateCatalog,
    config::Config,
    objects::ObjectGateway,
    pool::{EnginePool, EngineSpec},
};

/// How often what the service depends on is looked at.
const PROBE: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT; queries at work then have their time limit to end.
///
/// # Errors
/// When something that the service cannot do without is not there at the start.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let telemetry = dagwright_telemetry::init(&config.common, "dagwright-query")?;
    let (health, stop) = (Health::new(), shutdown::token()?);
    admin::spawn(config.common.admin_listen, &telemetry, health.clone(), stop.clone())
        .await
        .context("bind the admin address")?;
    // Engines and objects outlive the listener: queries at work still need them.
    let drained = CancellationToken::new();
    let app = Arc::new(app(&config, &health, &drained).await?);
    tokio::spawn(probe(app.clone(), health.check("keys"), health.check("catalog"), stop.clone()));
    let listener = TcpListener::bind(config.listen.listen).await.context("bind the API address")?;
    tracing::info!(address = %listener.local_addr()?, "query service listens");
    let served =
        axum::serve(listener, api::router(app)).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        result = served.into_future() => result.context("serve the API")?,
        () = async { stop.cancelled().await; tokio::time::sleep(config.limits.query_timeout + Duration::from_secs(2)).await } => {
            tracing::warn!("queries were still at work at the end of the shutdown time");
        }
    }
    drained.cancel();
    Ok(())
}

async fn app(config: &Config, health: &Health, drained: &CancellationToken) -> anyhow::Result<App> {
    let http =
        reqwest::Client::builder().timeout(Duration::from_secs(10)).build().context("make an HTTP client")?;
    let limits = &config.limits;
    let spec = EngineSpec {
        program: std::env::current_exe().context("find the service's own binary")?,
        extension_dir: config.duckdb_extension_dir.clone(),
        memory_mib: limits.query_memory_limit,
        threads: limits.query_threads,
    };
    let source = dagwright_aws::object_read::ObjectReader::new(&dagwright_aws::config().await);
    let spare = limits.query_spare_engines as usize;
    Ok(App {
        auth: Authenticator::new(
            config.key_source(),
            http,
            config.oidc_issuer.clone(),
            config.oidc_audience.clone(),
        ),
        catalog: Box::new(StateCatalog {
            pool: dagwright_state::connect(&config.state_database_url, "dagwright-query")?,
        }),
        objects: ObjectGateway::spawn(source, drained.clone()).await.context("start the object gateway")?,
        engines: EnginePool::spawn(spec, spare, health.check("engine"), drained.clone()),
        limits: Limits {
            timeout: limits.query_timeout,
            max_rows: limits.query_max_rows,
            max_bytes: limits.query_max_bytes,
        },
        slots: Arc::new(Semaphore::new(limits.query_concurrency as usize)),
    })
}

/// Keeps readiness true: keys that tokens can be checked with, a catalog that answers.
async fn probe(app: Arc<App>, keys: Check, catalog: Check, stop: CancellationToken) {
    let mut tick = tokio::time::interval(PROBE);
    let mut have_keys = false;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if !have_keys {
            match app.auth.load().await {
                Ok(()) => {
                    have_keys = true;
                    keys.ready();
                }
                Err(error) => keys.failing(chain(&error)),
            }
        }
        match app.catalog.datasets(&[]).await {
            Ok(_) => catalog.ready(),
            Err(error) => catalog.failing(chain(&error)),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
