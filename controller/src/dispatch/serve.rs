use std::time::Duration;

use anyhow::Context;
use dagwright_telemetry::{Check, Health, Telemetry, admin};
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Args, Dispatcher, loops, router};

/// How long requests and loops may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// A peer that is gone without a word is noticed after as long, and three unanswered questions.
const SILENCE: Duration = Duration::from_secs(60);

/// Runs a dispatcher until `stop` is cancelled.
///
/// # Errors
/// When an address cannot be bound or a flag is wrong. A database or AWS that is away is no error: readiness says so.
pub async fn run(args: Args, telemetry: Telemetry, stop: CancellationToken) -> anyhow::Result<()> {
    let app_name = format!("dagwright-dispatcher {}", args.common.cluster);
    let db = dagwright_state::connect(&args.state_database_url, &app_name)?;
    let health = Health::new();
    let (listen, admin_listen) = (args.listen.listen, args.common.admin_listen);
    admin::spawn(admin_listen, &telemetry, health.clone(), stop.clone())
        .await
        .with_context(|| format!("bind the admin server to {admin_listen}"))?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("bind the API to {listen}"))?;
    // Accepted connections have it from their listener.
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 6).with_retries(3);
    SockRef::from(&listener).set_tcp_keepalive(&keepalive).context("set TCP keepalive")?;
    tracing::info!(address = %listener.local_addr()?, "task API listens");

    let dispatcher = Dispatcher::new(args, &db, dagwright_aws::config().await, stop.clone());
    let db = dispatcher.db.clone();
    let check = health.check("state database");
    // Before the first call: Postgres refuses a row whose day is made while it is on its way to the default partition.
    loops::make_days(&dispatcher).await;
    let mut tasks = background(&dispatcher);
    tasks.spawn(watch_database(dispatcher.clone(), check));
    axum::serve(listener, router(dispatcher)).with_graceful_shutdown(stop.clone().cancelled_owned()).await?;
    stop.cancel();
    if tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("loops did not end in time");
    }
    db.close().await;
    Ok(())
}

/// Starts everything that a dispatcher does by itself; it ends when the dispatcher's `stop` is cancelled.
#[must_use]
pub fn background(dispatcher: &Dispatcher) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(dispatcher.wakes.clone().listen(dispatcher.db.clone(), dispatcher.stop.clone()));
    loops::spawn_all(dispatcher, &mut tasks);
    tasks
}

async fn watch_database(dispatcher: Dispatcher, check: Check) {
    while !dispatcher.stop.is_cancelled() {
        match dagwright_state::ping(&dispatcher.db).await {
            Ok(()) => check.ready(),
            Err(error) => check.failing(loops::chain(&error)),
        }
        tokio::select! {
            () = dispatcher.stop.cancelled() => {}
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}
