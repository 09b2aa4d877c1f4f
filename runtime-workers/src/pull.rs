//! Getting work. Two loops: one receives messages into the inbox and keeps them hidden there, one claims for free slots.
//!
//! Only the claiming loop takes slots, so a worker never leases more than it can run. With nothing in the inbox it waits at
//! the dispatcher, which hears of new tasks at once: that is the hot path. Messages start cold workers and cover lost wakes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use dagwright_aws::queue_receive::{BATCH, ReceivedMessage};
use dagwright_contracts::tasks::{ClaimRequest, ClaimResponse, Offer};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::OwnedSemaphorePermit, time::MissedTickBehavior};
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
/// Long polls side by side.
const POLLS: usize = 4;
/// When a poison message is seen again: soon, so that it reaches the dead-letter queue while somebody remembers why.
const POISON_HIDDEN: Duration = Duration::from_secs(1);
/// A message that was "not now" so often is deleted, before any queue's `maxReceiveCount` is used up.
const NOT_NOW_RECEIVES: u32 = 2;
/// How often the inbox is looked through for messages to hide again.
const INBOX_LOOK: Duration = Duration::from_secs(1);
/// Between claims that came back empty at once.
const EMPTY_PAUSE: Duration = Duration::from_millis(500);

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(250), Duration::from_secs(10))
}

/// Receives messages until `stop`. One long poll waits while there is little; as long as answers are full, more are asked side by
/// side.
pub async fn receive(shared: Arc<Shared>, stop: CancellationToken) {
    let mut backoff = backoff();
    let (mut polls, mut wanted) = (FuturesUnordered::new(), 1);
    let mut looks = tokio::time::interval(INBOX_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared.gate.is_open(&stop).await {
        let room = shared.inbox_limit.saturating_sub(shared.inbox().len());
        while polls.len() < wanted && room > polls.len() * BATCH {
            polls.push(shared.queue.receive((room - polls.len() * BATCH).min(BATCH), RECEIVE_WAIT));
        }
        let received = tokio::select! {
            () = stop.cancelled() => return,
            () = shared.inbox_drained.notified(), if polls.len() < wanted => continue,
            _ = looks.tick() => {
                keep_hidden(&shared);
                continue;
            }
            Some(received) = polls.next(), if !polls.is_empty() => received,
        };
        match received {
            Ok(messages) => {
                backoff.reset();
                shared.queue_check.ready();
                wanted = match messages.len() {
                    0 => 1,
                    BATCH => (wanted + 1).min(POLLS),
                    _ => wanted,
                };
                sort(&shared, messages).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot receive messages");
                shared.queue_check.failing(error.to_string());
                wanted = 1;
                pause(backoff.pause(), &stop).await;
            }
        }
    }
}

/// Hides what waits for a slot, so that it is received once however long the slots are taken.
fn keep_hidden(shared: &Shared) {
    let waiting = shared.inbox().to_hide(Instant::now());
    if !waiting.is_empty() {
        shared.hiding.start(waiting, inbox::HIDDEN);
    }
}

async fn sort(shared: &Shared, messages: Vec<ReceivedMessage>) {
    let (mut ended, mut poison, now) = (vec![], vec![], Instant::now());
    for message in messages {
        match inbox::read(&message, now) {
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
    shared.done_with(ended);
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
                begin(&shared, response, offered, &mut slots, Instant::now());
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

fn begin(
    shared: &Arc<Shared>,
    response: ClaimResponse,
    offered: Vec<Offered>,
    slots: &mut Vec<OwnedSemaphorePermit>,
    got: Instant,
) {
    let mut offered: HashMap<_, _> = offered.into_iter().map(|offered| (offered.offer, offered)).collect();
    for lease in response.leases {
        let offer = Offer { task_id: lease.fence.task_id, attempt: lease.attempt };
        let message = offered.remove(&offer).map(|offered| offered.handle);
        start_attempt(shared, lease, message, got, slots.pop());
    }
    let stale: HashSet<_> = response.stale.into_iter().collect();
    let done_with = offered.into_values().filter(|offered| {
        // What is "not now" stays in the queue and comes again, but not for ever: a task that runs long elsewhere must not
        // end in the dead-letter queue. Nothing is lost, because a task that falls free is published anew.
        let not_now = response.not_now.contains(&offered.offer) && offered.receive_count >= NOT_NOW_RECEIVES;
        not_now || stale.contains(&offered.offer)
    });
    shared.done_with(done_with.map(|offered| offered.handle).collect());
}

async fn refused(shared: &Shared, error: &ApiError, offered: Vec<Offered>) {
    tracing::warn!(error = %crate::chain(error), "claim failed");
    shared.dispatcher_check.failing(error.to_string());
    if error.is_retryable() {
        let doubled = {
            let mut inbox = shared.inbox();
            offered.into_iter().filter_map(|offered| inbox.put(offered)).collect()
        };
        shared.done_with(doubled);
    } else if let Err(error) = shared
        .queue
        .hide(&offered.into_iter().map(|offered| offered.handle).collect::<Vec<_>>(), POISON_HIDDEN)
        .await
    {
        // A message that names a task of another pool does not belong here: the dead-letter queue is its place.
        tracing::warn!(%error, "cannot show messages again");
    }
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}

#[cfg(test)]
mod tests;
