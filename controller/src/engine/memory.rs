use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use dashmap::DashMap;
use rand::Rng;

use super::RESYNC;

/// What passes remember of objects between them, by uid: failures in a row, when the status was last written, since when its
/// numbers stand still, what was written to the state, and the version that our own last write made of the object.
#[derive(Default)]
pub struct PassMemory {
    failures: DashMap<String, u32>,
    written: DashMap<String, Instant>,
    numbers: DashMap<String, (Vec<i64>, Instant)>,
    unsaid: DashMap<String, (i64, Instant)>,
    applied: DashMap<String, (u64, Instant)>,
    versions: DashMap<String, (u64, Instant)>,
}

/// First wait after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait between tries.
const LONGEST: Duration = Duration::from_secs(300);
/// A watch that has not shown our own write after so long is not merely late.
const LATE: Duration = Duration::from_secs(10);

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

    /// Whether the state holds exactly this for an object: written by this process, and not so long ago that it has to be looked at
    /// again.
    pub fn is_applied(&self, uid: &str, wanted: &impl Hash) -> bool {
        self.applied.get(uid).is_some_and(|a| a.0 == fingerprint(wanted) && a.1.elapsed() < RESYNC)
    }

    /// Notes what was written to the state for an object.
    pub fn applied(&self, uid: &str, wanted: &impl Hash) {
        self.applied.insert(uid.to_owned(), (fingerprint(wanted), Instant::now()));
    }

    /// Notes the version that a write of ours made of an object.
    pub fn made(&self, uid: &str, resource_version: Option<&str>) {
        if let Some(version) = resource_version.and_then(|v| v.parse().ok()) {
            self.versions.insert(uid.to_owned(), (version, Instant::now()));
        }
    }

    /// Whether this version of an object is older than what our own write made of it a moment ago.
    pub fn is_behind(&self, uid: &str, resource_version: Option<&str>) -> bool {
        let Some(version) = resource_version.and_then(|v| v.parse::<u64>().ok()) else { return false };
        self.versions.get(uid).is_some_and(|made| version < made.0 && made.1.elapsed() < LATE)
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

    /// For how long the numbers of the last status had been seen by now.
    #[must_use]
    pub fn at_rest(&self, uid: &str) -> Duration {
        self.numbers.get(uid).map_or(Duration::ZERO, |seen| seen.1.elapsed())
    }

    /// Forgets a deleted object.
    pub fn forget(&self, uid: &str) {
        self.failures.remove(uid);
        self.written.remove(uid);
        self.numbers.remove(uid);
        self.unsaid.remove(uid);
        self.applied.remove(uid);
        self.versions.remove(uid);
    }
}

fn fingerprint(wanted: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    wanted.hash(&mut hasher);
    hasher.finish()
}

/// A duration between two.
#[must_use]
pub(crate) fn jitter(least: Duration, most: Duration) -> Duration {
    least + (most.saturating_sub(least)).mul_f64(rand::rng().random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_known_until_it_differs() {
        let memory = PassMemory::default();
        assert!(!memory.is_applied("uid", &1));
        memory.applied("uid", &1);
        assert!(
            memory.is_applied("uid", &1) && !memory.is_applied("uid", &2) && !memory.is_applied("other", &1)
        );
        memory.forget("uid");
        assert!(!memory.is_applied("uid", &1));
    }

    #[test]
    fn an_object_older_than_our_own_write_is_behind() {
        let memory = PassMemory::default();
        assert!(!memory.is_behind("uid", Some("5")));
        memory.made("uid", Some("7"));
        assert!(memory.is_behind("uid", Some("5")));
        assert!(!memory.is_behind("uid", Some("7")) && !memory.is_behind("uid", Some("100")));
        assert!(!memory.is_behind("uid", Some("not a number")) && !memory.is_behind("uid", None));
    }
}
