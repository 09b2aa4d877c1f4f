//! Messages leave for SQS: a bounded window per pool, by priority, then age.

use dagwright_aws::queue_send::BATCH;
use dagwright_contracts::message::TaskMessage;
use dagwright_core::ids::PoolId;
use dagwright_state::{claim::Offer, outbox, pools};

use super::{LoopError, Outcome};
use crate::dispatch::Dispatcher;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let mut conn = dispatcher.begin().await?;
    let pools = outbox::pools(&mut conn).await?;
    dagwright_state::commit(conn).await?;
    let quarantine = &dispatcher.quarantines.publish;
    for (pool_id, url) in pools {
        if quarantine.admits(&url) {
            quarantine.note(&url, publish(&dispatcher, pool_id, &url).await);
        }
    }
    Ok(())
}

async fn publish(dispatcher: &Dispatcher, pool_id: PoolId, url: &str) -> Result<(), LoopError> {
    let mut tx = dispatcher.begin().await?;
    if !outbox::try_lock(&mut tx, pool_id).await? {
        return Ok(());
    }
    let window = pools::window(&mut tx, pool_id).await?;
    let due = outbox::due(&mut tx, pool_id, window).await?;
    for batch in due.chunks(BATCH) {
        let sent = send(dispatcher, url, batch).await?;
        outbox::mark_sent(&mut tx, &sent).await?;
        metrics::counter!("dagwright_outbox_sent_total").increment(sent.len() as u64);
    }
    dagwright_state::commit(tx).await?;
    Ok(())
}

/// Sends one batch and says which SQS took. A batch whose answer is lost is sent again: a second message is stale and deleted.
async fn send(dispatcher: &Dispatcher, url: &str, batch: &[Offer]) -> Result<Vec<Offer>, LoopError> {
    let body = |offer: &Offer| {
        let message = TaskMessage { v: 1, task_id: offer.task_id, attempt: offer.attempt };
        serde_json::to_string(&message).expect("ids and numbers are JSON")
    };
    let bodies: Vec<String> = batch.iter().map(body).collect();
    let unsent = dispatcher.sender.send(url, &bodies).await?;
    for failure in &unsent {
        metrics::counter!("dagwright_outbox_refused_total").increment(1);
        tracing::warn!(queue = url, why = failure.why, "a message was not taken, it will be sent again");
    }
    let taken = batch.iter().enumerate().filter(|(n, _)| unsent.iter().all(|u| u.index != *n));
    Ok(taken.map(|(_, offer)| *offer).collect())
}
