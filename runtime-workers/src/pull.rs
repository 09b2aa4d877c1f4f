//! Getting work. Two loops: one receives messages into the inbox, one claims for free slots.
//!
//! Only the claiming loop takes slots, so a worker never leases more than it can run. With nothing in the inbox it waits at
//! the dispatcher, which hears of new tasks at once: that is the hot path. Messages start cold workers and cover lost wakes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dagwright_aws::queue_receive::{BATCH, ReceiptHandle, ReceivedMessage};
use dagwright_contracts::tasks::{ClaimRequest, ClaimResponse};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    inbox::{self, Offered},
    leases::Known,
    tasks_api::ApiError,
    worker::{Shared, start_attempt},
};

/// A claim waits this long; messages that come meanwhile wait for its end.
const CLAIM_WAIT: Duration = Duration::from_secs(10);
/// An SQS long poll.
const RECEIVE_WAIT: Duration = Duration::from_secs(20);
/// When a poison message is seen again: soon, so that it reaches the dead-letter queue while somebody remembers why.
const POISON_HIDDEN: Duration = Duration::from_secs(1);
/// A message that was "not now" so often is deleted, before any queue's `maxReceiveCount` is used up.
const NOT_NOW_RECEIVES: u32 = 2;
/// Between claims that came back empty at once.
const EMPTY_PAUSE: Duration = Duration::from_millis(500);

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(250), Duration::from_secs(10))
}

/// Receives messages until `stop`.
pub async fn receive(shared: Arc<Shared>, stop: CancellationToken) {
    let mut backoff = backoff();
    while shared.gate.is_open(&stop).await {
        let room = shared.inbox_limit.saturating_sub(shared.inbox().len());
        let received = tokio::select! {
            () = stop.cancelled() => return,
            () = shared.inbox_drained.notified(), if room == 0 => continue,
            received = shared.queue.receive(room.min(BATCH), RECEIVE_WAIT), if room > 0 => received,
        };
        match received {
            Ok(messages) => {
                backoff.reset();
                shared.queue_check.ready();
                sort(&shared, messages).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot receive messages");
                shared.queue_check.failing(error.to_string());
                pause(backoff.pause(), &stop).await;
            }
        }
    }
}

async fn sort(shared: &Shared, messages: Vec<ReceivedMessage>) {
    let (mut ended, mut poison) = (vec![], vec![]);
    for message in messages {
        match inbox::read(&message) {
            Ok(offered) => match shared.leases().attach(offered.offer, &offered.handle) {
                Known::Held => {}
                Known::Ended => ended.push(offered.handle),
                Known::No => ended.extend(shared.inbox().put(offered)),
            },
            Err(why) => {
                tracing::warn!(
                    id = message.id,
                    receives = message.receive_count,
                    why,
                    "message cannot be read, leaving it to the dead-letter queue"
                );
                metrics::counter!("dagwright_worker_poison_messages_total").increment(1);
                poison.push(message.handle);
            }
        }
    }
    forget(shared, ended).await;
    if let Err(error) = shared.queue.hide(&poison, POISON_HIDDEN).await {
        tracing::warn!(%error, "cannot show messages again");
    }
}

/// Claims for free slots until `stop`.
pub async fn claim(shared: Arc<Shared>, stop: CancellationToken) {
    let mut backoff = backoff();
    loop {
        let Some(mut slots) = free_slots(&shared, &stop).await else { return };
        if !shared.gate.pass(&stop).await {
            return;
        }
        let offered = shared.inbox().take(slots.len());
        shared.inbox_drained.notify_one();
        let request = request(&shared, &offered, slots.len());
        let asked = Instant::now();
        // A claim with offers answers at once and is worth waiting for even when stopping: its leases can be handed back.
        let claimed = tokio::select! {
            () = stop.cancelled(), if offered.is_empty() => return,
            claimed = shared.api.claim(&request) => claimed,
        };
        match claimed {
            Ok(response) => {
                backoff.reset();
                shared.dispatcher_check.ready();
                let idle = response.leases.is_empty() && offered.is_empty() && asked.elapsed() < EMPTY_PAUSE;
                // The lease began somewhere in the wait; the answer's arrival is the only moment known to lie behind it.
                begin(&shared, response, offered, &mut slots, Instant::now()).await;
                if idle {
                    pause(EMPTY_PAUSE, &stop).await;
                }
            }
            Err(error) => {
                refused(&shared, &error, offered).await;
                pause(backoff.pause(), &stop).await;
            }
        }
    }
}

/// Waits for a free slot, then takes all that are free.
async fn free_slots(shared: &Shared, stop: &CancellationToken) -> Option<Vec<OwnedSemaphorePermit>> {
    let first = tokio::select! {
        () = stop.cancelled() => return None,
        permit = Arc::clone(&shared.slots).acquire_owned() => permit.ok()?,
    };
    let mut slots = vec![first];
    while let Ok(permit) = Arc::clone(&shared.slots).try_acquire_owned() {
        slots.push(permit);
    }
    Some(slots)
}

fn request(shared: &Shared, offered: &[Offered], slots: usize) -> ClaimRequest {
    let further = slots.saturating_sub(offered.len());
    ClaimRequest {
        worker_id: shared.worker_id,
        offered: offered.iter().map(|offered| offered.offer).collect(),
        max_further: u32::try_from(further).unwrap_or(u32::MAX),
        wait_ms: if offered.is_empty() { u64::try_from(CLAIM_WAIT.as_millis()).unwrap_or(0) } else { 0 },
    }
}

async fn begin(
    shared: &Arc<Shared>,
    response: ClaimResponse,
    offered: Vec<Offered>,
    slots: &mut Vec<OwnedSemaphorePermit>,
    got: Instant,
) {
    for lease in response.leases {
        let message = offered
            .iter()
            .find(|o| o.offer.task_id == lease.fence.task_id && o.offer.attempt == lease.attempt);
        let message = message.map(|offered| offered.handle.clone());
        start_attempt(shared, lease, message, got, slots.pop());
    }
    let done_with = offered.into_iter().filter(|offered| {
        // What is "not now" stays in the queue and comes again, but not for ever: a task that runs long elsewhere must not
        // end in the dead-letter queue. Nothing is lost, because a task that falls free is published anew.
        let not_now = response.not_now.contains(&offered.offer) && offered.receive_count >= NOT_NOW_RECEIVES;
        not_now || response.stale.contains(&offered.offer)
    });
    forget(shared, done_with.map(|offered| offered.handle).collect()).await;
}

async fn refused(shared: &Shared, error: &ApiError, offered: Vec<Offered>) {
    tracing::warn!(error = %crate::chain(error), "claim failed");
    shared.dispatcher_check.failing(error.to_string());
    if error.is_retryable() {
        let doubled = {
            let mut inbox = shared.inbox();
            offered.into_iter().filter_map(|offered| inbox.put(offered)).collect()
        };
        forget(shared, doubled).await;
    } else if let Err(error) = shared
        .queue
        .hide(&offered.into_iter().map(|offered| offered.handle).collect::<Vec<_>>(), POISON_HIDDEN)
        .await
    {
        // A message that names a task of another pool does not belong here: the dead-letter queue is its place.
        tracing::warn!(%error, "cannot show messages again");
    }
}

async fn forget(shared: &Shared, handles: Vec<ReceiptHandle>) {
    if let Err(error) = shared.queue.delete(&handles).await {
        tracing::warn!(%error, "messages not deleted");
    }
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}
