use super::{
    observe::Observed,
    validate::{Copy, Wanted},
};

/// The tag that says which version of a Kubernetes Secret a copy was made from.
pub(super) const SOURCE_TAG: &str = "dagwright.dev/source";

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create(Copy),
    Update(Copy),
    /// A provider that the spec no longer has.
    Remove(String),
}

/// What differs. Copies are compared by the version of their source: their value is never read back.
pub(super) fn decide(wanted: &Wanted, seen: &Observed) -> Vec<Action> {
    let mut actions = vec![];
    for (provider, copy) in &wanted.copies {
        match seen.copies.get(provider) {
            None => actions.push(Action::Create(copy.clone())),
            Some(state) if state.tags.get(SOURCE_TAG) != Some(&copy.version) => {
                actions.push(Action::Update(copy.clone()));
            }
            Some(_) => {}
        }
    }
    let kept = |name: &String| wanted.copies.values().any(|c| c.name == *name);
    actions.extend(seen.stored_copies.iter().filter(|n| !kept(n)).cloned().map(Action::Remove));
    actions
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dagwright_aws::secrets::SecretState;

    use super::*;
    use crate::reconcile::rpc_pool::observe::Url;

    fn copy(version: &str) -> Copy {
        Copy { name: "dagwright/c/n/p/a".into(), url: Url("http://x".into()), version: version.into() }
    }

    fn seen(version: Option<&str>, stored: &[&str]) -> Observed {
        let state = |v: &str| SecretState {
            arn: "arn".into(),
            version: Some("1".into()),
            tags: BTreeMap::from([(SOURCE_TAG.into(), v.into())]),
        };
        Observed {
            sources: BTreeMap::new(),
            copies: version.map(|v| ("a".to_owned(), state(v))).into_iter().collect(),
            stored_copies: stored.iter().map(|s| (*s).to_owned()).collect(),
            health: vec![],
        }
    }

    #[test]
    fn copies_follow_their_source_and_vanish_with_their_provider() {
        let wanted = Wanted { copies: BTreeMap::from([("a".to_owned(), copy("2"))]) };
        assert_eq!(decide(&wanted, &seen(None, &[])), [Action::Create(copy("2"))]);
        assert_eq!(decide(&wanted, &seen(Some("1"), &[])), [Action::Update(copy("2"))]);
        let gone = decide(&wanted, &seen(Some("2"), &["dagwright/c/n/p/a", "dagwright/c/n/p/b"]));
        assert_eq!(gone, [Action::Remove("dagwright/c/n/p/b".into())]);
        assert!(decide(&wanted, &seen(Some("2"), &["dagwright/c/n/p/a"])).is_empty());
    }
}
