//! How long a failed attempt waits: exponential with full jitter, so that a thousand tasks that failed together do not
//! come back together.

use time::Duration;

/// First wait and longest wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the wait after the first failure.
    pub first: Duration,
    /// Upper bound of every wait.
    pub cap: Duration,
}

impl Backoff {
    /// The wait after the `spent`th failure (from 1): `jitter` (0..1) of `first * 2^(spent - 1)`, at most `jitter` of `cap`.
    #[must_use]
    pub fn wait(&self, spent: u32, jitter: f64) -> Duration {
        let doublings = i32::try_from(spent.saturating_sub(1).min(62)).unwrap_or(62);
        let bound =
            (self.first.as_seconds_f64() * 2f64.powi(doublings)).min(self.cap.as_seconds_f64()).max(0.0);
        Duration::seconds_f64(bound * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::seconds(5), cap: Duration::seconds(600) };

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let bounds: Vec<_> = (1..=9).map(|spent| BACKOFF.wait(spent, 1.0).whole_seconds()).collect();
        assert_eq!(bounds, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_zero_and_the_cap(spent in any::<u32>(), jitter in 0.0f64..1.0) {
            let wait = BACKOFF.wait(spent, jitter);
            prop_assert!(wait >= Duration::ZERO && wait <= BACKOFF.cap);
        }
    }
}
