//! A token bucket that may be overdrawn: a batch larger than the bucket still passes, and what follows waits longer. Pure.

use std::time::{Duration, Instant};

/// Calls per second, with room for one second's worth at once.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: f64,
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, tokens: per_second, filled_at: now }
    }

    /// Takes `calls` tokens and says how long to wait before using them; takes nothing when that is longer than `patience`.
    pub fn take(&mut self, calls: usize, now: Instant, patience: Duration) -> Option<Duration> {
        let gained = now.saturating_duration_since(self.filled_at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.per_second);
        self.filled_at = now;
        let wait = if self.tokens >= 1.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64((1.0 - self.tokens) / self.per_second)
        };
        (wait <= patience).then(|| {
            #[expect(clippy::cast_precision_loss, reason = "a batch has at most a few hundred calls")]
            let calls = calls as f64;
            self.tokens -= calls;
            wait
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_debt_is_paid_back() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, start);
        let patience = Duration::from_secs(60);
        assert_eq!(bucket.take(30, start, patience), Some(Duration::ZERO), "larger than the bucket");
        let wait = bucket.take(1, start, patience).unwrap();
        assert!(
            (wait.as_secs_f64() - 2.1).abs() < 0.001,
            "20 in debt and one wanted at 10 a second: {wait:?}"
        );
        assert_eq!(bucket.take(1, start, Duration::from_secs(1)), None, "too long a wait takes nothing");
        let later = start + Duration::from_secs(100);
        assert_eq!(bucket.take(10, later, patience), Some(Duration::ZERO));
        assert!(
            bucket.take(1, later, patience).unwrap() > Duration::ZERO,
            "it never holds more than a second's worth"
        );
    }
}
