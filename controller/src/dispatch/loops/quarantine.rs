//! One tenant's broken queue or chain must not slow the others: what fails is left alone for a while, by name.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{LoopError, chain};

/// Longest time that something is left alone.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// What failed last time, and until when it is left alone.
pub(crate) struct Quarantine {
    work: &'static str,
    broken: Mutex<HashMap<String, Broken>>,
}

struct Broken {
    failures: u32,
    until: Instant,
}

impl Quarantine {
    /// Of one kind of work, such as `publish`.
    pub(crate) fn new(work: &'static str) -> Self {
        Self { work, broken: Mutex::default() }
    }

    /// Whether `name` is to be tried now.
    pub(crate) fn admits(&self, name: &str) -> bool {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get(name).is_none_or(|b| b.until <= Instant::now())
    }

    /// Notes how it went. The first failure of a row of them is logged, and their end.
    pub(crate) fn note(&self, name: &str, outcome: Result<(), LoopError>) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = outcome else {
            if let Some(was) = broken.remove(name) {
                tracing::info!(work = self.work, name, failures = was.failures, "works again");
            }
            return;
        };
        metrics::counter!("dagwright_dispatcher_failures_total", "work" => self.work).increment(1);
        let entry = broken.entry(name.to_owned()).or_insert(Broken { failures: 0, until: Instant::now() });
        if entry.failures == 0 {
            tracing::warn!(work = self.work, name, error = chain(&error), "failed, trying on");
        }
        entry.failures = entry.failures.saturating_add(1);
        let pause = Duration::from_millis(500).saturating_mul(2u32.saturating_pow(entry.failures.min(8)));
        entry.until = Instant::now() + pause.min(MAX_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Result<(), LoopError> {
        Err(LoopError::Rpc { pool: "demo/chain".into(), message: "refused".into() })
    }

    #[test]
    fn what_fails_is_left_alone_and_nothing_else() {
        let quarantine = Quarantine::new("head");
        quarantine.note("a", failure());
        assert!(!quarantine.admits("a") && quarantine.admits("b"));
        quarantine.note("a", Ok(()));
        assert!(quarantine.admits("a"));
    }
}
