//! Messages that were received too often without being finished.
//!
//! One that can be read ends its attempt and is then deleted: the task's own attempts tell the story from there. One that cannot
//! be read stays for people to look at, until the queue's retention ends it. A pool's `deadLetters` counts what lies in the queue.

use std::time::Duration;

use dagwright_aws::queue_receive::{QueueReceiver, ReceivedMessage};
use dagwright_contracts::message::TaskMessage;
use dagwright_core::ids::PoolId;
use dagwright_state::{claim::Offer, finish, pools};

use super::Outcome;
use crate::dispatch::{Dispatcher, context::jitter};

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let queues = pools::dead_letter_queues(&mut tx).await?;
    dagwright_state::commit(tx).await?;
    let quarantine = &dispatcher.quarantines.dead_letters;
    for (pool_id, url) in queues {
        if quarantine.admits(&url) {
            quarantine.note(&url, drain(&dispatcher, pool_id, &url).await);
        }
    }
    Ok(())
}

async fn drain(dispatcher: &Dispatcher, pool_id: PoolId, url: &str) -> Outcome {
    let queue = QueueReceiver::new(&dispatcher.aws, url);
    if dispatcher.sender.depth(url).await? > 0 {
        let received = queue.receive(10, Duration::ZERO).await?;
        for (message, offer) in received.into_iter().filter_map(readable) {
            let mut tx = dispatcher.begin().await?;
            let ended = finish::dead_letter(&mut tx, pool_id, offer, &mut jitter).await?;
            dagwright_state::commit(tx).await?;
            tracing::warn!(task = %offer.task_id, attempt = offer.attempt, ended, "a message reached the dead-letter queue");
            queue.delete(&[message.handle]).await?;
            metrics::counter!("dagwright_dead_letters_total").increment(1);
        }
    }
    let depth = dispatcher.sender.depth(url).await?;
    let mut tx = dispatcher.begin().await?;
    pools::set_dead_letters(&mut tx, pool_id, depth).await?;
    dagwright_state::commit(tx).await?;
    Ok(())
}

fn readable(message: ReceivedMessage) -> Option<(ReceivedMessage, Offer)> {
    let body: TaskMessage = serde_json::from_str(&message.body).ok()?;
    Some((message, Offer { task_id: body.task_id, attempt: body.attempt }))
}
