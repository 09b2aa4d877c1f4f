//! Being there: the worker checks in every few seconds, hears whether it is to drain, and ends when it was started on demand and
//! has nothing to do.
//!
//! A draining worker claims nothing more and ends what it holds. It calls itself drained only when no claim is under way and
//! nothing is held, so that whoever stops it then interrupts nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dagwright_contracts::workers::{CheckInRequest, CheckInResponse};
use tokio_util::sync::CancellationToken;

use crate::{
    identity::{self, Identity},
    protection::Protection,
    tasks_api::ApiError,
    worker::{Shared, give_back_messages},
};

/// Between check-ins.
const PERIOD: Duration = Duration::from_secs(3);
/// While it drains: somebody waits for it.
const SOON: Duration = Duration::from_millis(500);

/// What presence knows between two check-ins.
struct Presence {
    shared: Arc<Shared>,
    http: reqwest::Client,
    identity: Option<Identity>,
    protection: Protection,
    /// A worker that is idle for so long ends; none: it stays.
    idle_exit: Option<Duration>,
    /// What the dispatcher said last.
    draining: bool,
}

/// Checks in until `stop`; cancels it when the worker has nothing more to do.
pub async fn keep(shared: Arc<Shared>, idle_exit: Option<Duration>, stop: CancellationToken) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
    let protection = Protection::from_env(http.clone());
    let mut presence = Presence { shared, http, identity: None, protection, idle_exit, draining: false };
    loop {
        let leaving = presence.idle();
        let once = async {
            let pause = presence.step(leaving, &stop).await;
            tokio::time::sleep(pause).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = once => {}
        }
    }
}

impl Presence {
    /// Whether this worker was idle for as long as it may be.
    fn idle(&self) -> bool {
        let held = !self.shared.leases().is_empty();
        if held {
            self.shared.gate.worked();
        }
        self.idle_exit.is_some_and(|limit| !held && self.shared.gate.worked_at().elapsed() >= limit)
    }

    /// One check-in and what follows from it. Answers when the next one is due.
    async fn step(&mut self, leaving: bool, stop: &CancellationToken) -> Duration {
        let drained = (self.draining || leaving) && self.drained().await;
        if drained && self.idle_exit.is_some() {
            tracing::info!(idle = leaving, "nothing more to do, ending");
            stop.cancel();
            return SOON;
        }
        self.protection.set(!drained).await;
        let started = Instant::now();
        match self.check_in(drained).await {
            Ok(answer) => {
                if answer.draining != self.draining {
                    tracing::info!(
                        draining = answer.draining,
                        "the dispatcher changed its mind about this worker"
                    );
                }
                self.draining = answer.draining;
                self.shared.gate.set(!(self.draining || leaving));
            }
            Err(error) => {
                tracing::debug!(error = %crate::chain(&error), "check-in failed");
                metrics::counter!("dagwright_worker_check_in_failures_total").increment(1);
            }
        }
        let period = if self.draining || leaving { SOON } else { PERIOD };
        period.saturating_sub(started.elapsed())
    }

    /// Shuts the gate; true when nothing is under way any more.
    async fn drained(&self) -> bool {
        self.shared.gate.set(false);
        if !self.shared.inbox().is_empty() {
            give_back_messages(&self.shared).await;
        }
        self.shared.gate.is_quiet() && self.shared.leases().is_empty() && self.shared.inbox().is_empty()
    }

    async fn check_in(&mut self, drained: bool) -> Result<CheckInResponse, ApiError> {
        if self.identity.is_none() {
            match identity::ask(&self.http).await {
                Ok(identity) => self.identity = Some(identity),
                Err(error) => tracing::debug!(error = %crate::chain(&error), "ECS does not say who this is"),
            }
        }
        let identity = self.identity.clone().unwrap_or_default();
        let request = CheckInRequest {
            worker_id: self.shared.worker_id,
            task_arn: identity.task_arn,
            task_definition: identity.task_definition,
            drained,
            leaving: false,
        };
        self.shared.api.check_in(&request).await
    }
}

/// The last word, when everything is handed back. A dispatcher that does not hear it finds out by itself.
pub async fn farewell(shared: &Shared) {
    let request = CheckInRequest {
        worker_id: shared.worker_id,
        task_arn: None,
        task_definition: None,
        drained: true,
        leaving: true,
    };
    if let Err(error) = shared.api.check_in(&request).await {
        tracing::debug!(error = %crate::chain(&error), "the dispatcher did not hear the farewell");
    }
}
