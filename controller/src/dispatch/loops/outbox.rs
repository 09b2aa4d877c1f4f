//! Messages leave for SQS: a bounded window per pool, by priority, then age.
//!
//! Each round sends some batches side by side and marks what SQS took in a short transaction of its own (I6): no row is locked while a
//! call to SQS is under way, so a claim never waits for it.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use dagwright_aws::queue_send::BATCH;
use dagwright_contracts::message::TaskMessage;
use dagwright_core::ids::PoolId;
use dagwright_state::{
    cursor::Cursor,
    outbox::{self, Due},
    pools,
};
use futures::{StreamExt as _, stream};
use sqlx::PgConnection;
use tokio::sync::broadcast::{Receiver, error::TryRecvError};

use super::{Failures, LoopError, Outcome, within};
use crate::dispatch::{
    Dispatcher,
    wake::{Wake, wait},
};

/// Pools that are published at once; each takes two connections of the loops'.
const POOLS: usize = 4;

/// A busy pool is left after this time, and looked at again with the others.
const TURN: Duration = Duration::from_secs(1);

/// For one pool. A message that was sent when it is over, and not marked, is sent again.
const LIMIT: Duration = Duration::from_secs(5);

/// Batches of one round, which are sent side by side.
const BATCHES: usize = 8;

/// All pools are looked at this often: retries fall due without a notification, and notifications get lost.
const TICK: Duration = Duration::from_secs(1);

/// Between looks from the beginning while there is enough to send without, and between glances back while these are dear.
const FULL_LOOK: Duration = Duration::from_secs(1);

pub(super) async fn run(dispatcher: Dispatcher) {
    let mut wakes = dispatcher.wakes.subscribe();
    let mut failures = Failures::new("outbox");
    let (mut woken, mut ticked) = (None, Instant::now());
    while !dispatcher.stop.is_cancelled() {
        let passed = pass(&dispatcher, woken.as_ref()).await;
        if matches!(passed, Ok(Left::More)) {
            woken = None;
            continue;
        }
        let failed = failures.note(passed.map(drop));
        if woken.is_none() {
            ticked = Instant::now();
        }
        let pause = if failed { failures.pause() } else { TICK.saturating_sub(ticked.elapsed()) };
        tokio::select! {
            () = dispatcher.stop.cancelled() => {}
            () = wait(&mut wakes, pause, |wake| !failed && pool_of(wake).is_some_and(|pool| {
                woken = Some(HashSet::from([pool]));
                true
            })) => {}
        }
        // What is announced goes out at once, but never so often that others are not looked at.
        woken = if ticked.elapsed() >= TICK { None } else { gather(&mut wakes, woken) };
    }
}

/// The pools that were announced meanwhile; none when all are to be looked at.
fn gather(wakes: &mut Receiver<Wake>, woken: Option<HashSet<PoolId>>) -> Option<HashSet<PoolId>> {
    let mut woken = woken.unwrap_or_default();
    loop {
        match wakes.try_recv() {
            Ok(wake) => woken.extend(pool_of(wake)),
            Err(TryRecvError::Lagged(_)) => return None,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Some(woken),
        }
    }
}

fn pool_of(wake: Wake) -> Option<PoolId> {
    match wake {
        Wake::Tasks(pool) | Wake::Room(pool) => Some(pool),
        Wake::Plan(_) | Wake::Gateway => None,
    }
}

/// What is left of a pool, or of all, when its turn is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing that can go out now.
    Nothing,
    /// Time was over first.
    More,
}

async fn pass(dispatcher: &Dispatcher, woken: Option<&HashSet<PoolId>>) -> Result<Left, LoopError> {
    if woken.is_some_and(HashSet::is_empty) {
        return Ok(Left::Nothing);
    }
    let busy = match woken {
        Some(woken) => woken.iter().copied().collect(),
        None => dispatcher.hints.busy(Instant::now()),
    };
    let mut tx = dispatcher.begin().await?;
    let pools = match woken {
        Some(_) => outbox::queues(&mut tx, &busy).await?,
        None => outbox::pools(&mut tx, &busy).await?,
    };
    dagwright_state::commit(tx).await?;
    let publishes = pools.iter().map(|(pool_id, url)| publish_admitted(dispatcher, *pool_id, url));
    let left: Vec<_> = stream::iter(publishes.collect::<Vec<_>>()).buffer_unordered(POOLS).collect().await;
    Ok(if left.contains(&Left::More) { Left::More } else { Left::Nothing })
}

async fn publish_admitted(dispatcher: &Dispatcher, pool_id: PoolId, url: &str) -> Left {
    let quarantine = &dispatcher.quarantines.publish;
    if !quarantine.admits(url) {
        return Left::Nothing;
    }
    let published = within(LIMIT, publish(dispatcher, pool_id, url)).await;
    let left = *published.as_ref().unwrap_or(&Left::Nothing);
    quarantine.note(url, published.map(drop));
    left
}

/// Fills a pool's window, as far as its turn lasts.
async fn publish(dispatcher: &Dispatcher, pool_id: PoolId, url: &str) -> Result<Left, LoopError> {
    // This transaction holds the pool's lock and nothing else.
    let mut right = dispatcher.begin().await?;
    if !outbox::try_lock(&mut right, pool_id).await? {
        return Ok(Left::Nothing);
    }
    let (window, began) = (pools::window(&mut right, pool_id).await?, Instant::now());
    let mut left = Left::More;
    while began.elapsed() < TURN {
        let room = window.saturating_sub(outstanding(dispatcher, &mut right, pool_id).await?);
        let due = choose(dispatcher, &mut right, pool_id, room.min((BATCH * BATCHES) as u64)).await?;
        if due.is_empty() || dispatcher.stop.is_cancelled() {
            left = Left::Nothing;
            break;
        }
        round(dispatcher, pool_id, url, &due).await?;
    }
    dagwright_state::commit(right).await?;
    Ok(left)
}

async fn outstanding(
    dispatcher: &Dispatcher,
    conn: &mut PgConnection,
    pool_id: PoolId,
) -> Result<u64, LoopError> {
    let began = Instant::now();
    if let Some(outstanding) = dispatcher.hints.outbox(pool_id).outstanding(began) {
        return Ok(outstanding);
    }
    let outstanding = outbox::outstanding(conn, pool_id).await?;
    dispatcher.hints.note_outbox(pool_id, |o| o.counted(outstanding, Instant::now(), began.elapsed()));
    Ok(outstanding)
}

/// The next messages, from where the last round ended, or a little before. The beginning of the queue is looked at once in a while, and
/// whenever nothing else is found.
async fn choose(
    dispatcher: &Dispatcher,
    conn: &mut PgConnection,
    pool_id: PoolId,
    limit: u64,
) -> Result<Vec<Due>, LoopError> {
    if limit == 0 {
        return Ok(vec![]);
    }
    let hint = dispatcher.hints.outbox(pool_id).hint;
    if !hint.due_in(Instant::now(), FULL_LOOK).is_zero() {
        let glance = hint.glance(Instant::now(), FULL_LOOK);
        let due = outbox::due(conn, pool_id, &glance.unwrap_or(hint.cursor()), limit).await?;
        if glance.is_some() {
            dispatcher.hints.note_outbox(pool_id, |o| o.hint.glanced(Instant::now()));
        }
        if !due.is_empty() || !hint.due_in(Instant::now(), Duration::ZERO).is_zero() {
            return Ok(due);
        }
    }
    let began = Instant::now();
    let mut due = outbox::lost(conn, pool_id, limit).await?;
    let left = limit.saturating_sub(due.len() as u64);
    let unsent = outbox::due(conn, pool_id, &Cursor::START, left).await?;
    let places: Vec<_> = unsent.iter().map(|due| due.place).collect();
    let full = unsent.len() as u64 == left;
    dispatcher
        .hints
        .note_outbox(pool_id, |o| o.hint.began_anew(&places, full, Instant::now(), began.elapsed()));
    due.extend(unsent);
    Ok(due)
}

/// Sends messages, side by side in batches, and marks those that SQS took, whatever became of the others.
async fn round(dispatcher: &Dispatcher, pool_id: PoolId, url: &str, due: &[Due]) -> Outcome {
    let mut sends = Vec::with_capacity(BATCHES);
    for batch in due.chunks(BATCH) {
        sends.push(send(dispatcher, url, batch));
    }
    let (mut taken, mut left, mut failure) = (Vec::new(), Vec::new(), None);
    let outcomes: Vec<_> = stream::iter(sends).buffered(BATCHES).collect().await;
    for (batch, outcome) in due.chunks(BATCH).zip(outcomes) {
        match outcome {
            Ok(unsent) => {
                for (n, due) in batch.iter().enumerate() {
                    if unsent.contains(&n) { left.push(due.place) } else { taken.push(due.offer) }
                }
            }
            Err(error) => {
                left.extend(batch.iter().map(|due| due.place));
                failure = Some(error);
            }
        }
    }
    if !taken.is_empty() {
        let mut tx = dispatcher.begin().await?;
        outbox::mark_sent(&mut tx, &taken).await?;
        dagwright_state::commit(tx).await?;
        metrics::counter!("dagwright_outbox_sent_total").increment(taken.len() as u64);
    }
    dispatcher.hints.note_outbox(pool_id, |o| {
        o.hint.went_on(&due.iter().map(|due| due.place).collect::<Vec<_>>());
        left.iter().for_each(|place| o.hint.left_behind(place));
        o.sent(taken.len() as u64, Instant::now());
    });
    match failure {
        Some(error) => Err(error),
        // Nothing went out, and trying again at once would fare no better.
        None if taken.is_empty() => Err(LoopError::Refused { queue: url.to_owned() }),
        None => Ok(()),
    }
}

/// Sends one batch and says which messages SQS did not take. A batch whose answer is lost is sent again: a second message is stale
/// and deleted.
async fn send(dispatcher: &Dispatcher, url: &str, batch: &[Due]) -> Result<HashSet<usize>, LoopError> {
    let body = |due: &Due| {
        let message = TaskMessage { v: 1, task_id: due.offer.task_id, attempt: due.offer.attempt };
        serde_json::to_string(&message).expect("ids and numbers are JSON")
    };
    let bodies: Vec<String> = batch.iter().map(body).collect();
    let unsent = dispatcher.sender.send(url, &bodies).await?;
    for failure in &unsent {
        metrics::counter!("dagwright_outbox_refused_total").increment(1);
        tracing::warn!(queue = url, why = failure.why, "a message was not taken, it will be sent again");
    }
    Ok(unsent.into_iter().map(|failure| failure.index).collect())
}
