//! Waiting between tries: doubling, with jitter, so that many workers do not return at once; and as long as a server asks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rand::Rng as _;

/// A growing pause.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// From `first`, doubling up to `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, first, max }
    }

    /// The next pause: between half and all of the current step.
    pub fn pause(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Longest hold that a server's `Retry-After` makes: what a stray proxy says must not silence a worker for an hour.
const MAX_HOLD: Duration = Duration::from_secs(60);

/// What a server asked to leave alone for a while, by kind of call. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Holds(Arc<Mutex<HashMap<&'static str, Instant>>>);

impl Holds {
    /// Leaves calls of this kind for `length` and up to half of it more, so that all who were told the same do not return at once.
    pub fn hold(&self, kind: &'static str, length: Duration, now: Instant) {
        let until = now + length.min(MAX_HOLD).mul_f64(rand::rng().random_range(1.0..=1.5));
        let mut holds = self.lock();
        let hold = holds.entry(kind).or_insert(until);
        *hold = until.max(*hold);
    }

    /// How long calls of this kind are still to wait.
    #[must_use]
    pub fn left(&self, kind: &'static str, now: Instant) -> Duration {
        self.lock().get(kind).map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_as_long_as_was_asked_and_of_its_kind_alone() {
        let (holds, now) = (Holds::default(), Instant::now());
        assert_eq!(holds.left("claim", now), Duration::ZERO);
        holds.clone().hold("claim", Duration::from_secs(4), now);
        let left = holds.left("claim", now);
        assert!(left >= Duration::from_secs(4) && left <= Duration::from_secs(6), "{left:?}");
        assert_eq!(holds.left("heartbeat", now), Duration::ZERO);
        assert_eq!(holds.left("claim", now + Duration::from_secs(6)), Duration::ZERO);
        holds.hold("claim", Duration::from_secs(1), now);
        assert!(holds.left("claim", now) >= Duration::from_secs(4), "a shorter one ends no longer one");
        holds.hold("claim", Duration::from_secs(86_400), now);
        assert!(holds.left("claim", now) <= MAX_HOLD.mul_f64(1.5));
    }

    #[test]
    fn it_doubles_up_to_its_maximum_and_resets() {
        let (first, max) = (Duration::from_millis(100), Duration::from_millis(300));
        let mut backoff = Backoff::new(first, max);
        for step in [100, 200, 300, 300] {
            let pause = backoff.pause();
            assert!(
                pause <= Duration::from_millis(step) && pause >= Duration::from_millis(step / 2),
                "{pause:?}"
            );
        }
        backoff.reset();
        assert!(backoff.pause() <= first);
    }
}
