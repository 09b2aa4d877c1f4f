//! Whether this worker claims. The gate is closed before the first check-in, and while the worker drains.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Shut at first.
#[derive(Debug)]
pub struct Gate {
    open: watch::Sender<bool>,
    /// The claiming loop stands before the shut gate: no claim of it is under way.
    parked: AtomicBool,
    worked_at: Mutex<Instant>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            open: watch::Sender::new(false),
            parked: AtomicBool::new(false),
            worked_at: Mutex::new(Instant::now()),
        }
    }
}

impl Gate {
    /// Waits until the gate is open; false when the worker stops first.
    pub async fn is_open(&self, stop: &CancellationToken) -> bool {
        let mut open = self.open.subscribe();
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            opened = open.wait_for(|open| *open) => opened.is_ok(),
        }
    }

    /// As [`Self::is_open`], for the claiming loop: between two of its passes it claims at most once.
    pub async fn pass(&self, stop: &CancellationToken) -> bool {
        if !*self.open.borrow() {
            self.parked.store(true, Ordering::SeqCst);
        }
        let open = self.is_open(stop).await;
        self.parked.store(false, Ordering::SeqCst);
        open
    }

    /// Opens or shuts the gate.
    pub fn set(&self, open: bool) {
        self.open.send_if_modified(|now| std::mem::replace(now, open) != open);
    }

    /// Whether the gate is shut and no claim is under way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !*self.open.borrow() && self.parked.load(Ordering::SeqCst)
    }

    /// Notes that there is work.
    pub fn worked(&self) {
        *self.worked_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When there last was work.
    #[must_use]
    pub fn worked_at(&self) -> Instant {
        *self.worked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn it_is_quiet_only_when_shut_and_reached() {
        let (gate, stop) = (Arc::new(Gate::default()), CancellationToken::new());
        gate.set(true);
        assert!(gate.pass(&stop).await, "an open gate lets pass");
        gate.set(false);
        assert!(!gate.is_quiet(), "a claim may be under way");
        let (waiting, token) = (Arc::clone(&gate), stop.clone());
        let passed = tokio::spawn(async move { waiting.pass(&token).await });
        while !gate.is_quiet() {
            tokio::task::yield_now().await;
        }
        gate.set(true);
        assert!(passed.await.unwrap());
        assert!(!gate.is_quiet());
        gate.set(false);
        stop.cancel();
        assert!(!gate.pass(&stop).await);
    }
}
