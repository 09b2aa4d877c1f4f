//! What this worker holds: leases, the messages that belong to them, and what it finished lately. Pure bookkeeping; the
//! instants come from outside.
//!
//! A deadline is counted from when a heartbeat was *sent*, so that the worker's view of a lease ends before the dispatcher's,
//! whatever the two clocks say. Only a claim counts from its answer: it may have waited longer than a lease lasts.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dagwright_aws::queue_receive::ReceiptHandle;
use dagwright_contracts::tasks::{Beat, Extended, Fence, Offer, TaskLease};
use dagwright_core::ids::TaskId;
use tokio_util::sync::CancellationToken;

/// Attempts remembered after they ended, so that their late messages are deleted without asking.
const REMEMBERED: usize = 16_384;

/// Blocks that an attempt has done; shared between the operator and the heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// So many more.
    pub fn add(&self, blocks: u64) {
        self.0.fetch_add(blocks, Ordering::Relaxed);
    }

    /// So many in all.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A held lease.
#[derive(Debug)]
struct Held {
    fence: Fence,
    attempt: u32,
    length: Duration,
    deadline: Instant,
    progress: Progress,
    lost: CancellationToken,
    message: Option<ReceiptHandle>,
}

/// What a message's offer is to this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Being worked on: the message now belongs to the lease.
    Held,
    /// Ended here: the message can go.
    Ended,
    /// Not known.
    No,
}

/// All leases of this worker.
#[derive(Debug, Default)]
pub struct LeaseBook {
    held: HashMap<TaskId, Held>,
    ended: HashSet<Offer>,
    ended_order: VecDeque<Offer>,
}

impl LeaseBook {
    /// Enters a lease that came at `got`. Returns the operator's progress counter, and a token that is cancelled
    /// when the lease is lost.
    pub fn enter(
        &mut self,
        lease: &TaskLease,
        message: Option<ReceiptHandle>,
        got: Instant,
    ) -> (Progress, CancellationToken) {
        let length = Duration::from_secs(lease.lease_seconds.max(1).into());
        let held = Held {
            fence: lease.fence,
            attempt: lease.attempt,
            length,
            deadline: got + length,
            progress: Progress::default(),
            lost: CancellationToken::new(),
            message,
        };
        let handed = (held.progress.clone(), held.lost.clone());
        if let Some(before) = self.held.insert(lease.fence.task_id, held) {
            // The dispatcher gave us the task anew, so our older lease of it is over.
            before.lost.cancel();
        }
        handed
    }

    /// Gives a message to the lease that it belongs to.
    pub fn attach(&mut self, offer: Offer, message: &ReceiptHandle) -> Known {
        if self.ended.contains(&offer) {
            return Known::Ended;
        }
        match self.held.get_mut(&offer.task_id) {
            Some(held) if held.attempt == offer.attempt => {
                held.message = Some(message.clone());
                Known::Held
            }
            Some(held) if held.attempt > offer.attempt => Known::Ended,
            _ => Known::No,
        }
    }

    /// What the next heartbeat says.
    #[must_use]
    pub fn beats(&self) -> Vec<Beat> {
        self.held
            .values()
            .map(|held| Beat { fence: held.fence, blocks_done: held.progress.blocks() })
            .collect()
    }

    /// How often to beat: a third of the shortest lease, as its claim or its last heartbeat told. None: nothing is held.
    #[must_use]
    pub fn period(&self) -> Option<Duration> {
        self.held.values().map(|held| held.length / 3).min()
    }

    /// The leases that a heartbeat sent at `sent` extended. Returns the messages to hide as long, by lease length.
    ///
    /// An answer ends what was known before: a pool's lease that was made shorter ends sooner than the one that it replaces.
    pub fn extended(&mut self, tasks: &[Extended], sent: Instant) -> HashMap<Duration, Vec<ReceiptHandle>> {
        let mut messages: HashMap<Duration, Vec<ReceiptHandle>> = HashMap::new();
        for task in tasks {
            if let Some(held) = self.held.get_mut(&task.task_id) {
                held.length = Duration::from_secs(task.lease_seconds.max(1).into());
                held.deadline = sent + held.length;
                if let Some(message) = &held.message {
                    messages.entry(held.length).or_default().push(message.clone());
                }
            }
        }
        messages
    }

    /// Stops work on leases that the dispatcher calls lost.
    pub fn lost(&mut self, tasks: &[TaskId]) {
        for task in tasks {
            if let Some(held) = self.held.get(task) {
                held.lost.cancel();
            }
        }
    }

    /// Stops work on leases that nobody extended in time. Returns them once.
    pub fn expire(&mut self, now: Instant) -> Vec<TaskId> {
        let over = self.held.values().filter(|held| held.deadline <= now && !held.lost.is_cancelled());
        let over: Vec<TaskId> = over.map(|held| held.fence.task_id).collect();
        self.lost(&over);
        over
    }

    /// Whether a fence's lease can still be reported on.
    #[must_use]
    pub fn is_current(&self, fence: &Fence, now: Instant) -> bool {
        self.held.get(&fence.task_id).is_some_and(|held| held.fence == *fence && held.deadline > now)
    }

    /// Takes out a lease that ended. Returns its message.
    pub fn end(&mut self, fence: &Fence) -> Option<ReceiptHandle> {
        let held = self.take(fence)?;
        let offer = Offer { task_id: fence.task_id, attempt: held.attempt };
        if self.ended.insert(offer) {
            self.ended_order.push_back(offer);
        }
        if self.ended_order.len() > REMEMBERED
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        held.message
    }

    /// Takes out a lease that was lost. Its message stays in the queue: what it offers may be claimable again.
    pub fn forget(&mut self, fence: &Fence) {
        self.take(fence);
    }

    fn take(&mut self, fence: &Fence) -> Option<Held> {
        if self.held.get(&fence.task_id)?.fence != *fence {
            return None;
        }
        self.held.remove(&fence.task_id)
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests;
