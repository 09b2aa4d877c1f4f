use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Resource,
    core::DeserializeGuard,
    runtime::{
        applier,
        controller::Action,
        reflector::{ObjectRef, Store},
    },
};
use tokio::sync::{broadcast, mpsc};

use super::{Kind, pass};
use crate::{context::Context, watch::Change};

/// Runs the controller of one kind until the process stops.
pub async fn run<K: Kind>(ctx: Arc<Context>, store: Store<DeserializeGuard<K::Object>>) {
    let (tx, rx) = mpsc::channel(1024);
    let feeder = tokio::spawn(feed::<K>(Arc::clone(&ctx), store.clone(), ctx.changes.subscribe(), tx));
    let queue =
        futures::stream::unfold(rx, |mut rx| async { rx.recv().await.map(|r| (Ok::<_, Infallible>(r), rx)) });
    // When the queue ends, no pass begins any more; those that run may end.
    let queue = queue.take_until(ctx.stopping.clone().cancelled_owned());
    let config =
        kube::runtime::Config::default().concurrency(K::CONCURRENCY).debounce(Duration::from_millis(50));
    let reconcile = |object: Arc<DeserializeGuard<K::Object>>, ctx: Arc<Context>| {
        Box::pin(async move { Ok::<_, Infallible>(pass::run::<K>(&ctx, object.0.as_ref()).await) })
    };
    let policy = |_: Arc<DeserializeGuard<K::Object>>, never: &Infallible, _: Arc<Context>| -> Action {
        match *never {}
    };
    applier(reconcile, policy, Arc::clone(&ctx), store, queue, config)
        // What ends in an error here is an object that is gone from the store.
        .for_each(|_| async {})
        .await;
    feeder.abort();
}

/// Turns changes of all kinds into objects of this one.
async fn feed<K: Kind>(
    ctx: Arc<Context>,
    store: Store<DeserializeGuard<K::Object>>,
    mut changes: broadcast::Receiver<Change>,
    queue: mpsc::Sender<ObjectRef<DeserializeGuard<K::Object>>>,
) {
    let all = || store.state().iter().map(|o| key(o.meta())).collect::<Vec<_>>();
    // What was listed before we listened.
    let mut keys = all();
    loop {
        for (namespace, name) in keys {
            if queue.send(ObjectRef::new(&name).within(&namespace)).await.is_err() {
                return;
            }
        }
        keys = match changes.recv().await {
            Ok(change) => {
                let mut keys = if change.alone { vec![] } else { ctx.references.concerned(K::KIND, &change) };
                if change.kind == K::KIND {
                    keys.push((change.namespace, change.name));
                }
                keys
            }
            // Too much at once to be told one by one.
            Err(broadcast::error::RecvError::Lagged(_)) => all(),
            Err(broadcast::error::RecvError::Closed) => return,
        };
    }
}

fn key(meta: &kube::core::ObjectMeta) -> (String, String) {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
