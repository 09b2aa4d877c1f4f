//! Who refers to whom, so that a change finds the objects that it concerns without a look at all others.

use std::collections::BTreeSet;

use dashmap::DashMap;

use crate::watch::{Change, Key};

/// Something that an object refers to: kind, namespace and name; an empty name stands for every object of the kind there.
pub type Target = (&'static str, String, String);

/// An object that refers to something: its kind and key.
type Source = (&'static str, Key);

/// The references of all watched objects.
#[derive(Debug, Default)]
pub struct References {
    targets: DashMap<Source, Vec<Target>>,
    sources: DashMap<Target, BTreeSet<Source>>,
}

impl References {
    /// Replaces what an object refers to.
    pub fn set(&self, kind: &'static str, key: &Key, targets: Vec<Target>) {
        let source = (kind, key.clone());
        let before = match self.targets.get(&source) {
            Some(before) if *before == targets => return,
            Some(before) => before.clone(),
            None => vec![],
        };
        for target in before.iter().filter(|t| !targets.contains(t)) {
            self.forget(target, &source);
        }
        for target in &targets {
            self.sources.entry(target.clone()).or_default().insert(source.clone());
        }
        if targets.is_empty() {
            self.targets.remove(&source);
        } else {
            self.targets.insert(source, targets);
        }
    }

    /// The objects of a kind that a change concerns.
    #[must_use]
    pub fn concerned(&self, kind: &'static str, change: &Change) -> Vec<Key> {
        let mut found = BTreeSet::new();
        for name in [change.name.clone(), String::new()] {
            if let Some(sources) = self.sources.get(&(change.kind, change.namespace.clone(), name)) {
                found.extend(sources.iter().filter(|(k, _)| *k == kind).map(|(_, key)| key.clone()));
            }
        }
        found.into_iter().collect()
    }

    fn forget(&self, target: &Target, source: &Source) {
        if let Some(mut sources) = self.sources.get_mut(target) {
            sources.remove(source);
        }
        self.sources.remove_if(target, |_, sources| sources.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("demo".into(), name.into())
    }

    fn target(kind: &'static str, name: &str) -> Target {
        (kind, "demo".into(), name.into())
    }

    fn change(kind: &'static str, namespace: &str, name: &str) -> Change {
        Change { kind, namespace: namespace.into(), name: name.into(), alone: false }
    }

    #[test]
    fn a_change_concerns_who_names_it_or_its_whole_kind_and_nobody_afterwards() {
        let all = References::default();
        all.set("ChainSync", &key("a"), vec![target("Dataset", "blocks")]);
        all.set("ChainSync", &key("b"), vec![target("Dataset", "")]);
        all.set("RpcPool", &key("r"), vec![target("Dataset", "blocks")]);
        assert_eq!(all.concerned("ChainSync", &change("Dataset", "demo", "blocks")), [key("a"), key("b")]);
        assert_eq!(all.concerned("ChainSync", &change("Dataset", "demo", "logs")), [key("b")]);
        assert!(all.concerned("ChainSync", &change("Dataset", "other", "blocks")).is_empty());
        all.set("ChainSync", &key("a"), vec![target("Dataset", "logs")]);
        all.set("ChainSync", &key("b"), vec![]);
        assert!(all.concerned("ChainSync", &change("Dataset", "demo", "blocks")).is_empty());
        assert_eq!(all.concerned("ChainSync", &change("Dataset", "demo", "logs")), [key("a")]);
        all.set("ChainSync", &key("a"), vec![]);
        all.set("RpcPool", &key("r"), vec![]);
        assert!(all.targets.is_empty() && all.sources.is_empty(), "nothing is left behind");
    }
}
