//! Waiting between tries: doubling, with jitter, so that many workers do not return at once.

use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use super::*;

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
