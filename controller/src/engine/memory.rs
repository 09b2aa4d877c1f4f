use std::time::{Duration, Instant};

use dashmap::DashMap;
use rand::Rng;

/// What passes remember of objects between them, by uid: failures in a row, when the status was last written, and since when its
/// numbers stand still.
#[derive(Default)]
pub struct PassMemory {
    failures: DashMap<String, u32>,
    written: DashMap<String, Instant>,
    numbers: DashMap<String, (Vec<i64>, Instant)>,
    unsaid: DashMap<String, (i64, Instant)>,
}

/// First wait after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait between tries.
const LONGEST: Duration = Duration::from_secs(300);

impl PassMemory {
    /// Notes a failure; returns how many there were in a row and how long to wait: exponential with full jitter.
    pub fn failed(&self, uid: &str) -> (u32, Duration) {
        let mut count = self.failures.entry(uid.to_owned()).or_insert(0);
        *count += 1;
        let most = FIRST.saturating_mul(1 << count.min(10)).min(LONGEST);
        (*count, jitter(most / 2, most))
    }

    /// Notes a pass that went through.
    pub fn succeeded(&self, uid: &str) {
        self.failures.remove(uid);
    }

    /// Notes a status write.
    pub fn wrote(&self, uid: &str) {
        self.written.insert(uid.to_owned(), Instant::now());
        self.unsaid.remove(uid);
    }

    /// How long nothing has been said of a generation; counted from the first question.
    #[must_use]
    pub fn unsaid(&self, uid: &str, generation: i64) -> Duration {
        let mut since = self.unsaid.entry(uid.to_owned()).or_insert_with(|| (generation, Instant::now()));
        if since.0 != generation {
            *since = (generation, Instant::now());
        }
        since.1.elapsed()
    }

    /// How long ago the status was written by this process.
    #[must_use]
    pub fn since_written(&self, uid: &str) -> Duration {
        self.written.get(uid).map_or(Duration::MAX, |at| at.elapsed())
    }

    /// For how long these numbers have been seen, and no others.
    pub fn still(&self, uid: &str, numbers: Vec<i64>) -> Duration {
        let mut seen = self.numbers.entry(uid.to_owned()).or_insert_with(|| (vec![], Instant::now()));
        if seen.0 != numbers {
            *seen = (numbers, Instant::now());
        }
        seen.1.elapsed()
    }

    /// Forgets a deleted object.
    pub fn forget(&self, uid: &str) {
        self.failures.remove(uid);
        self.written.remove(uid);
        self.numbers.remove(uid);
        self.unsaid.remove(uid);
    }
}

/// A duration between two.
#[must_use]
pub(crate) fn jitter(least: Duration, most: Duration) -> Duration {
    least + (most.saturating_sub(least)).mul_f64(rand::rng().random::<f64>())
}
