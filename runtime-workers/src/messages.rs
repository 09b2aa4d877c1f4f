//! What is still to be done to messages, apart from the work that they brought: deleting those that did theirs, hiding those whose
//! lease goes on. Neither may hold anybody up, and neither is needed for a right result: a message that was not deleted comes again and is
//! stale, one that was not hidden is told "not now".

use std::{sync::Arc, time::Duration};

use dagwright_aws::queue_receive::{BATCH, QueueReceiver, ReceiptHandle};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

/// Messages that may wait for their deletion.
const WAITING: usize = 4096;
/// Messages that are deleted in one go.
const AT_ONCE: usize = 10 * BATCH;
/// A call takes ten messages; so long the first may wait for the others.
const GATHER: Duration = Duration::from_millis(20);

/// Messages that are done with.
#[derive(Clone, Debug)]
pub struct Done(mpsc::Sender<ReceiptHandle>);

impl Done {
    /// The sending and the receiving end.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<ReceiptHandle>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Has messages deleted, soon.
    pub fn put(&self, handles: impl IntoIterator<Item = ReceiptHandle>) {
        for handle in handles {
            if self.0.try_send(handle).is_err() {
                metrics::counter!("dagwright_worker_messages_left_total").increment(1);
            }
        }
    }
}

/// Deletes messages until all senders are gone.
pub async fn delete_all(queue: QueueReceiver, mut done: mpsc::Receiver<ReceiptHandle>) {
    let mut handles = Vec::with_capacity(AT_ONCE);
    while done.recv_many(&mut handles, AT_ONCE).await > 0 {
        let short = BATCH.saturating_sub(handles.len());
        if short > 0 {
            // Whether it timed out or the senders are gone, what is there is to be deleted.
            let _ = timeout(GATHER, done.recv_many(&mut handles, short)).await;
        }
        if let Err(error) = queue.delete(&handles).await {
            tracing::warn!(%error, "messages not deleted");
        }
        handles.clear();
    }
}

/// Hides messages beside the heartbeat, which must not wait for the queue.
#[derive(Clone, Debug)]
pub struct Hiding {
    queue: QueueReceiver,
    turn: Arc<Semaphore>,
}

impl Hiding {
    /// Hides messages of `queue`.
    #[must_use]
    pub fn new(queue: QueueReceiver) -> Self {
        // As many as a heartbeat has calls: with the queue away, no more than that piles up.
        Self { queue, turn: Arc::new(Semaphore::new(4)) }
    }

    /// Hides messages for `length` from now, unless earlier ones are still being hidden.
    pub fn start(&self, handles: Vec<ReceiptHandle>, length: Duration) {
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            tracing::warn!(
                messages = handles.len(),
                "messages not extended: the queue still has not answered"
            );
            return;
        };
        let queue = self.queue.clone();
        tokio::spawn(async move {
            if let Err(error) = queue.hide(&handles, length).await {
                tracing::warn!(%error, "messages not extended");
            }
            drop(turn);
        });
    }
}
