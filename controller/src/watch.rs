//! Watches: one task each, with a backoff and a store of its own.
//!
//! A watch that fails counts the failure and goes on; it holds no other watch up (kube's `Controller` polls all of its
//! watches behind one backoff, which has stopped operators for good). What leaves here is identity alone.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use dagwright_crds::{FINALIZER, PAUSED, REQUESTED_AT, RPC_KEY_LABEL};
use dagwright_telemetry::Check;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, ObjectMeta, PartialObjectMeta},
    runtime::{WatchStreamExt, reflector, watcher},
};
use tokio::sync::broadcast;

use crate::{engine::Kind, references::References};

/// Namespace and name of an object.
pub type Key = (String, String);

/// Something happened to an object that passes care about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Kind.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Whether it is no news for those who refer to the object: only what the state says of it moved.
    pub alone: bool,
}

/// The kind under which labelled Secrets are announced.
pub const SECRET: &str = "Secret";

/// The kind under which it is announced that a Dataset has its row: who names the Dataset can be written from then on.
pub const DATASET_ROW: &str = "row of a Dataset";

/// Starts watching a kind in all namespaces; `check` turns ready with the first complete list.
pub fn spawn<K: Kind>(
    client: &Client,
    changes: broadcast::Sender<Change>,
    references: Arc<References>,
    check: Check,
) -> reflector::Store<DeserializeGuard<K::Object>> {
    let (store, writer) = reflector::store();
    let api: Api<DeserializeGuard<K::Object>> = Api::all(client.clone());
    let events = watcher(api, watcher::Config::default().any_semantic()).default_backoff();
    let stream = events
        .modify(|object| {
            if let Ok(object) = &mut object.0 {
                object.managed_fields_mut().clear();
            }
        })
        .reflect(writer);
    let note = move |key: &Key, object: Option<&DeserializeGuard<K::Object>>| {
        let readable = object.and_then(|o| o.0.as_ref().ok());
        references.set(K::KIND, key, readable.map(K::references).unwrap_or_default());
    };
    tokio::spawn(follow(stream, K::KIND, note, changes, check));
    store
}

/// Starts watching the metadata of Secrets that may hold RPC URLs; their values stay in the API server.
pub fn spawn_secrets(client: &Client, changes: broadcast::Sender<Change>, check: Check) {
    let api: Api<PartialObjectMeta<Secret>> = Api::all(client.clone());
    let config = watcher::Config::default().labels(RPC_KEY_LABEL).any_semantic();
    let stream = watcher(api, config).default_backoff();
    tokio::spawn(follow(stream, SECRET, |_: &Key, _: Option<&PartialObjectMeta<Secret>>| (), changes, check));
}

/// An error that is not repeated for so long is over: a watch that was opened again says nothing until something happens.
const REOPENED: Duration = Duration::from_secs(60);

/// What readiness says of a watch.
struct Standing {
    check: Check,
    /// Whether the store was complete once.
    listed: bool,
    failed: bool,
}

impl Standing {
    fn well(&mut self) {
        self.failed = false;
        if self.listed {
            self.check.ready();
        }
    }

    fn ill(&mut self, why: String) {
        self.failed = true;
        self.check.failing(why);
    }
}

async fn follow<K>(
    stream: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>>,
    kind: &'static str,
    note: impl Fn(&Key, Option<&K>),
    changes: broadcast::Sender<Change>,
    check: Check,
) where
    K: Resource<DynamicType = ()>,
{
    pin_mut!(stream);
    let mut seen = Seen::default();
    let mut standing = Standing { check, listed: false, failed: false };
    loop {
        let patience = if standing.listed && standing.failed { REOPENED } else { Duration::MAX };
        let Ok(event) = tokio::time::timeout(patience, stream.next()).await else {
            standing.well();
            continue;
        };
        let Some(event) = event else { return };
        match event {
            Ok(event) => {
                standing.listed |= matches!(event, watcher::Event::InitDone);
                standing.well();
                match &event {
                    watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                        note(&key(object.meta()), Some(object));
                    }
                    watcher::Event::Init | watcher::Event::InitDone | watcher::Event::Delete(_) => {}
                }
                // Nobody listens before the controllers run, and then they read the whole store.
                for key in seen.take(event) {
                    if !seen.marks.contains_key(&key) {
                        note(&key, None);
                    }
                    let (namespace, name) = key;
                    let _ = changes.send(Change { kind, namespace, name, alone: false });
                }
            }
            Err(error) => {
                metrics::counter!("dagwright_controller_watch_errors_total", "kind" => kind).increment(1);
                tracing::warn!(kind, %error, "watch failed, it is opened again");
                standing.ill(format!("watch of {kind}: {error}"));
            }
        }
        if let Ok(age) = std::time::UNIX_EPOCH.elapsed() {
            metrics::gauge!("dagwright_controller_watch_last_event_timestamp_seconds", "kind" => kind)
                .set(age.as_secs_f64());
        }
    }
}

/// What was last seen of each object, as far as passes care: our own status writes change none of it.
#[derive(Default)]
struct Seen {
    marks: HashMap<Key, Mark>,
    /// During a list: the objects that are still there.
    listing: Option<HashMap<Key, Mark>>,
}

/// What passes care about of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    rest: u64,
    /// Whether our finalizer is set. The pass that sets it goes on with the object, so only its loss is news.
    finalized: bool,
}

impl Mark {
    fn is_news_after(self, before: Option<&Self>) -> bool {
        before.is_none_or(|b| b.rest != self.rest || (b.finalized && !self.finalized))
    }
}

impl Seen {
    /// The objects that an event changed.
    fn take<K: Resource<DynamicType = ()>>(&mut self, event: watcher::Event<K>) -> Vec<Key> {
        match event {
            watcher::Event::Init => {
                self.listing = Some(HashMap::new());
                vec![]
            }
            watcher::Event::InitApply(object) => {
                let (key, mark) = (key(object.meta()), mark(object.meta()));
                self.listing.get_or_insert_default().insert(key, mark);
                vec![]
            }
            watcher::Event::InitDone => {
                let new = self.listing.take().unwrap_or_default();
                let changed =
                    new.iter().filter(|(k, m)| m.is_news_after(self.marks.get(*k))).map(|(k, _)| k.clone());
                let gone = self.marks.keys().filter(|k| !new.contains_key(*k)).cloned();
                let keys = changed.chain(gone).collect();
                self.marks = new;
                keys
            }
            watcher::Event::Apply(object) => {
                let (key, mark) = (key(object.meta()), mark(object.meta()));
                let before = self.marks.insert(key.clone(), mark);
                if mark.is_news_after(before.as_ref()) { vec![key] } else { vec![] }
            }
            watcher::Event::Delete(object) => {
                let key = key(object.meta());
                self.marks.remove(&key);
                vec![key]
            }
        }
    }
}

fn key(meta: &ObjectMeta) -> Key {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Generation alone would hide final deletes and finalizers; a Secret has no generation, so its version stands in.
fn mark(meta: &ObjectMeta) -> Mark {
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    meta.generation.hash(&mut hasher);
    if meta.generation.is_none() {
        meta.resource_version.hash(&mut hasher);
    }
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    let (ours, others): (Vec<_>, Vec<_>) =
        meta.finalizers.iter().flatten().partition(|f| f.as_str() == FINALIZER);
    others.hash(&mut hasher);
    for annotation in [PAUSED, REQUESTED_AT] {
        meta.annotations.as_ref().and_then(|a| a.get(annotation)).hash(&mut hasher);
    }
    Mark { rest: hasher.finish(), finalized: !ours.is_empty() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, generation: i64, version: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("n".into()),
                generation: Some(generation),
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    #[tokio::test]
    async fn a_watch_that_goes_on_after_an_error_is_ready_again_without_a_new_list() {
        let health = dagwright_telemetry::Health::new();
        let failing_after = async |events: Vec<watcher::Result<watcher::Event<ConfigMap>>>| {
            let changes = broadcast::Sender::new(16);
            let check = health.check("watch");
            follow(
                futures::stream::iter(events),
                "ConfigMap",
                |_: &Key, _: Option<&ConfigMap>| (),
                changes,
                check,
            )
            .await;
            !health.failing().is_empty()
        };
        let listed = || vec![Ok(watcher::Event::Init), Ok(watcher::Event::InitDone)];
        let error = || Err(watcher::Error::NoResourceVersion);
        let news = || Ok(watcher::Event::Apply(object("a", 1, "1")));
        assert!(!failing_after(listed()).await);
        assert!(failing_after(listed().into_iter().chain([error()]).collect()).await);
        assert!(!failing_after(listed().into_iter().chain([error(), news()]).collect()).await);
        assert!(failing_after(vec![error(), news()]).await, "the store was never complete");
    }

    #[test]
    fn status_writes_are_not_news_and_deletes_during_a_relist_are() {
        let mut seen = Seen::default();
        assert_eq!(seen.take(watcher::Event::Apply(object("a", 1, "1"))).len(), 1);
        assert!(seen.take(watcher::Event::Apply(object("a", 1, "2"))).is_empty(), "only the status changed");
        assert_eq!(seen.take(watcher::Event::Apply(object("a", 2, "3"))).len(), 1);
        let mut finalized = object("a", 2, "4");
        finalized.metadata.finalizers = Some(vec!["x".into()]);
        assert_eq!(seen.take(watcher::Event::Apply(finalized.clone())).len(), 1, "a finalizer is news");
        finalized.metadata.finalizers = Some(vec!["x".into(), FINALIZER.into()]);
        assert!(seen.take(watcher::Event::Apply(finalized.clone())).is_empty(), "but our own is set by us");
        finalized.metadata.finalizers = Some(vec!["x".into()]);
        assert_eq!(seen.take(watcher::Event::Apply(finalized)).len(), 1, "its loss is news");
        seen.take(watcher::Event::<ConfigMap>::Init);
        seen.take(watcher::Event::InitApply(object("b", 1, "5")));
        let mut keys = seen.take(watcher::Event::<ConfigMap>::InitDone);
        keys.sort();
        assert_eq!(keys, [("n".into(), "a".into()), ("n".into(), "b".into())]);
        assert_eq!(seen.take(watcher::Event::Delete(object("b", 1, "6"))).len(), 1);
    }
}
