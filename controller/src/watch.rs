//! Watches: one task each, with a backoff and a store of its own.
//!
//! A watch that fails counts the failure and goes on; it holds no other watch up (kube's `Controller` polls all of its
//! watches behind one backoff, which has stopped operators for good). What leaves here is identity alone.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use dagwright_crds::{PAUSED, REQUESTED_AT, RPC_KEY_LABEL};
use dagwright_telemetry::Check;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, ObjectMeta, PartialObjectMeta},
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

/// Something happened to an object that passes care about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Kind.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The kind under which labelled Secrets are announced.
pub const SECRET: &str = "Secret";

/// Starts watching a kind in all namespaces; `check` turns ready with the first complete list.
pub fn spawn<K>(
    client: &Client,
    kind: &'static str,
    changes: broadcast::Sender<Change>,
    check: Check,
) -> reflector::Store<DeserializeGuard<K>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let events = watcher(api, watcher::Config::default().any_semantic()).default_backoff();
    let stream = events
        .modify(|object| {
            if let Ok(object) = &mut object.0 {
                object.managed_fields_mut().clear();
            }
        })
        .reflect(writer);
    tokio::spawn(follow(stream, kind, changes, check));
    store
}

/// Starts watching the metadata of Secrets that may hold RPC URLs; their values stay in the API server.
pub fn spawn_secrets(client: &Client, changes: broadcast::Sender<Change>, check: Check) {
    let api: Api<PartialObjectMeta<Secret>> = Api::all(client.clone());
    let config = watcher::Config::default().labels(RPC_KEY_LABEL).any_semantic();
    let stream = watcher(api, config).default_backoff();
    tokio::spawn(follow(stream, SECRET, changes, check));
}

async fn follow<K>(
    stream: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>>,
    kind: &'static str,
    changes: broadcast::Sender<Change>,
    check: Check,
) where
    K: Resource<DynamicType = ()>,
{
    pin_mut!(stream);
    let mut seen = Seen::default();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                if matches!(event, watcher::Event::InitDone) {
                    check.ready();
                }
                // Nobody listens before the controllers run, and then they read the whole store.
                for (namespace, name) in seen.take(event) {
                    let _ = changes.send(Change { kind, namespace, name });
                }
            }
            Err(error) => {
                metrics::counter!("dagwright_controller_watch_errors_total", "kind" => kind).increment(1);
                tracing::warn!(kind, %error, "watch failed, it is opened again");
                check.failing(format!("watch of {kind}: {error}"));
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
    marks: HashMap<(String, String), u64>,
    /// During a list: the objects that are still there.
    listing: Option<HashMap<(String, String), u64>>,
}

impl Seen {
    /// The objects that an event changed.
    fn take<K: Resource<DynamicType = ()>>(&mut self, event: watcher::Event<K>) -> Vec<(String, String)> {
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
                    new.iter().filter(|(k, m)| self.marks.get(*k) != Some(*m)).map(|(k, _)| k.clone());
                let gone = self.marks.keys().filter(|k| !new.contains_key(*k)).cloned();
                let keys = changed.chain(gone).collect();
                self.marks = new;
                keys
            }
            watcher::Event::Apply(object) => {
                let (key, mark) = (key(object.meta()), mark(object.meta()));
                if self.marks.insert(key.clone(), mark) == Some(mark) { vec![] } else { vec![key] }
            }
            watcher::Event::Delete(object) => {
                let key = key(object.meta());
                self.marks.remove(&key);
                vec![key]
            }
        }
    }
}

fn key(meta: &ObjectMeta) -> (String, String) {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Generation alone would hide final deletes and finalizers; a Secret has no generation, so its version stands in.
fn mark(meta: &ObjectMeta) -> u64 {
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    meta.generation.hash(&mut hasher);
    if meta.generation.is_none() {
        meta.resource_version.hash(&mut hasher);
    }
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    meta.finalizers.hash(&mut hasher);
    for annotation in [PAUSED, REQUESTED_AT] {
        meta.annotations.as_ref().and_then(|a| a.get(annotation)).hash(&mut hasher);
    }
    hasher.finish()
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

    #[test]
    fn status_writes_are_not_news_and_deletes_during_a_relist_are() {
        let mut seen = Seen::default();
        assert_eq!(seen.take(watcher::Event::Apply(object("a", 1, "1"))).len(), 1);
        assert!(seen.take(watcher::Event::Apply(object("a", 1, "2"))).is_empty(), "only the status changed");
        assert_eq!(seen.take(watcher::Event::Apply(object("a", 2, "3"))).len(), 1);
        let mut finalized = object("a", 2, "4");
        finalized.metadata.finalizers = Some(vec!["x".into()]);
        assert_eq!(seen.take(watcher::Event::Apply(finalized)).len(), 1, "a finalizer is news");
        seen.take(watcher::Event::<ConfigMap>::Init);
        seen.take(watcher::Event::InitApply(object("b", 1, "5")));
        let mut keys = seen.take(watcher::Event::<ConfigMap>::InitDone);
        keys.sort();
        assert_eq!(keys, [("n".into(), "a".into()), ("n".into(), "b".into())]);
        assert_eq!(seen.take(watcher::Event::Delete(object("b", 1, "6"))).len(), 1);
    }
}
