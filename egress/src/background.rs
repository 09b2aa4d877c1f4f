//! What runs beside the API: the config feed, the probes, the health reports.

use std::{future::Future, sync::Arc, time::Duration};

use dagwright_contracts::gateway::{HealthReport, ProviderState};
use dagwright_telemetry::Check;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    dispatcher::Dispatcher,
    pool::{provider::Provider, registry::Registry},
};

/// Between tries while the dispatcher is away, doubling up to this.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// A healthy provider is asked for its head this often, one in trouble more often, so that it comes back soon.
const PROBE_HEALTHY: Duration = Duration::from_secs(15);
const PROBE_TROUBLED: Duration = Duration::from_secs(3);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The dispatcher hears of everything at least this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Follows the config until `stop`. While the dispatcher is away the last config stays in use.
pub async fn follow_config(
    dispatcher: Dispatcher,
    registry: Arc<Registry>,
    reprobe: Arc<Notify>,
    check: Check,
    stop: CancellationToken,
) {
    let (mut known, mut pause) = (None, Duration::from_millis(200));
    while !stop.is_cancelled() {
        let polled = tokio::select! {
            () = stop.cancelled() => return,
            polled = dispatcher.config(known) => polled,
        };
        match polled {
            Ok(config) => {
                pause = Duration::from_millis(200);
                if known != Some(config.revision) {
                    tracing::info!(revision = config.revision, pools = config.pools.len(), "took new config");
                    known = Some(config.revision);
                    registry.replace(config);
                    reprobe.notify_one();
                    check.ready();
                }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "config poll failed, keeping the last config");
                if known.is_none() {
                    check.failing(format!("no config yet: {}", chain(&error)));
                }
                pause_for(pause, &stop).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

/// Probes every provider now and then until `stop`.
pub async fn probe(registry: Arc<Registry>, reprobe: Arc<Notify>, stop: CancellationToken) {
    let mut probed = std::collections::HashMap::<usize, Instant>::new();
    loop {
        let providers: Vec<Arc<Provider>> =
            registry.snapshot().pools.values().flat_map(|pool| pool.providers.clone()).collect();
        // Providers live as long as the config that names them, so their addresses tell them apart.
        let key = |p: &Arc<Provider>| Arc::as_ptr(p).addr();
        probed.retain(|known, _| providers.iter().any(|p| key(p) == *known));
        let due: Vec<_> = providers.into_iter().filter(|p| is_due(p, probed.get(&key(p)).copied())).collect();
        probed.extend(due.iter().map(|p| (key(p), Instant::now())));
        futures::future::join_all(due.iter().map(|p| p.probe(PROBE_TIMEOUT))).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = reprobe.notified() => {}
            () = tokio::time::sleep(PROBE_TROUBLED) => {}
        }
    }
}

fn is_due(provider: &Provider, last: Option<Instant>) -> bool {
    let every = match provider.state() {
        ProviderState::Healthy => PROBE_HEALTHY,
        ProviderState::Degraded | ProviderState::Refused | ProviderState::Unknown => PROBE_TROUBLED,
        ProviderState::Cordoned => return false,
    };
    !provider.is_limited() && last.is_none_or(|last| last.elapsed() >= every)
}

/// Reports every few seconds and on every change of a state until `stop`.
pub async fn report(
    dispatcher: Dispatcher,
    registry: Arc<Registry>,
    changed: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => {}
            () = tokio::time::sleep(REPORT_EVERY) => {}
        }
        let snapshot = registry.snapshot();
        let providers: Vec<_> =
            snapshot.pools.values().flat_map(|p| &p.providers).map(|p| p.report()).collect();
        if providers.is_empty() {
            continue;
        }
        let reported = until_stopped(dispatcher.report(&HealthReport { providers }), &stop).await;
        if let Some(Err(error)) = reported {
            tracing::warn!(error = %chain(&error), "health report failed");
        }
    }
}

async fn until_stopped<T>(work: impl Future<Output = T>, stop: &CancellationToken) -> Option<T> {
    tokio::select! {
        () = stop.cancelled() => None,
        done = work => Some(done),
    }
}

async fn pause_for(pause: Duration, stop: &CancellationToken) {
    let _ = until_stopped(tokio::time::sleep(pause), stop).await;
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}
