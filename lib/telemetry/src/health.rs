use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Whether a process can do its work, as a set of named checks. Without any check it is ready.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

/// One named check; not ready until it says so.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    health: Health,
}

impl Health {
    /// No checks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that is not ready yet.
    #[must_use]
    pub fn check(&self, name: &'static str) -> Check {
        let check = Check { name, health: self.clone() };
        check.failing("not ready yet");
        check
    }

    /// The checks that fail, with why.
    #[must_use]
    pub fn failing(&self) -> Vec<(&'static str, String)> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.iter().filter_map(|(name, why)| why.clone().map(|why| (*name, why))).collect()
    }

    fn set(&self, name: &'static str, why: Option<String>) {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).insert(name, why);
    }
}

impl Check {
    /// Now ready.
    pub fn ready(&self) {
        self.health.set(self.name, None);
    }

    /// Not ready, and why, for people.
    pub fn failing(&self, why: impl Into<String>) {
        self.health.set(self.name, Some(why.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_check_is() {
        let health = Health::new();
        assert!(health.failing().is_empty());
        let (a, b) = (health.check("a"), health.check("b"));
        a.ready();
        assert_eq!(health.failing(), vec![("b", "not ready yet".to_owned())]);
        b.ready();
        assert!(health.failing().is_empty());
        a.failing("gone");
        assert_eq!(health.failing(), vec![("a", "gone".to_owned())]);
    }
}
