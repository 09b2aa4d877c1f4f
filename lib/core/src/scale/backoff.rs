//! How long a pool rests that cannot start workers: ECS is asked less and less often, but always again.

use time::{Duration, OffsetDateTime};

/// After the first failure.
const FIRST: Duration = Duration::seconds(10);
/// Longest rest: a cause that goes is noticed within it.
pub const LONGEST: Duration = Duration::seconds(300);

/// Failures of a pool to start workers, in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// Failures since a worker last came up.
    pub failures: u32,
    /// When the last of them was noted.
    pub failed_at: Option<OffsetDateTime>,
}

/// How many more workers may be started now than are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// As many as are wanted.
    Any,
    /// One, to see whether the cause is gone.
    Probe,
    /// None until the rest is over.
    None,
}

/// The rest after so many failures.
#[must_use]
pub fn rest(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST
            .checked_mul(2i32.saturating_pow(n.saturating_sub(1).min(16)))
            .unwrap_or(LONGEST)
            .min(LONGEST),
    }
}

impl Starts {
    /// What may be started at `now`.
    #[must_use]
    pub fn allowance(&self, now: OffsetDateTime) -> Allowance {
        match self.failed_at {
            _ if self.failures == 0 => Allowance::Any,
            Some(at) if now - at < rest(self.failures) => Allowance::None,
            _ => Allowance::Probe,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn a_pool_that_fails_rests_longer_each_time_and_then_tries_one() {
        assert_eq!([0, 1, 2, 3, 6, 99].map(|n| rest(n).whole_seconds()), [0, 10, 20, 40, 300, 300]);
        let starts = Starts { failures: 2, failed_at: Some(T0) };
        assert_eq!(starts.allowance(T0 + Duration::seconds(19)), Allowance::None);
        assert_eq!(starts.allowance(T0 + Duration::seconds(20)), Allowance::Probe);
        assert_eq!(Starts::default().allowance(T0), Allowance::Any);
    }

    proptest! {
        #[test]
        fn rests_grow_and_are_bounded(n in any::<u32>()) {
            prop_assert!(rest(n) <= rest(n.saturating_add(1)) && rest(n) <= LONGEST);
        }
    }
}
