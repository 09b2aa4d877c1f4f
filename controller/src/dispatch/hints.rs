//! What this replica remembers of queues, to look less: how far it read them, and how many messages are out. Hints alone: a replica that
//! remembers nothing, or something wrong, does the same, later.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dagwright_core::ids::PoolId;
use dagwright_state::cursor::{Cursor, Hint, Place};

/// A pool that published nothing for so long is looked for like any other.
const BUSY: Duration = Duration::from_secs(60);

/// Counting outstanding messages, and looking for all leases that are over, may take one part of the time in so many: an estimate drifts
/// with each claim, and somebody waits for the task of a lease.
const SHARE: u32 = 20;

/// Per pool.
#[derive(Default)]
pub(crate) struct Hints {
    claims: Mutex<HashMap<PoolId, Hint>>,
    outboxes: Mutex<HashMap<PoolId, Outbox>>,
    scouts: Mutex<HashMap<PoolId, Scout>>,
    /// Where waiting tasks begin, for who counts them.
    backlogs: Mutex<HashMap<PoolId, Hint>>,
    /// When all leases that are over were looked for, and how long that took.
    leases: Mutex<Option<(Instant, Duration)>>,
}

/// Of the claims of a pool that wait, the one that looks for work.
pub(crate) type Scout = Arc<tokio::sync::Mutex<()>>;

/// A pool's outbox.
#[derive(Clone, Copy, Default)]
pub(crate) struct Outbox {
    /// How far it was read.
    pub(crate) hint: Hint,
    /// Messages that are out, as far as this replica knows.
    outstanding: u64,
    counted: Option<(Instant, Duration)>,
    published: Option<Instant>,
}

impl Outbox {
    /// The messages that are out; none when it is time to count them.
    pub(crate) fn outstanding(&self, now: Instant) -> Option<u64> {
        is_good(self.counted?, now).then_some(self.outstanding)
    }

    pub(crate) fn counted(&mut self, outstanding: u64, now: Instant, cost: Duration) {
        (self.outstanding, self.counted) = (outstanding, Some((now, cost)));
    }

    pub(crate) fn sent(&mut self, messages: u64, now: Instant) {
        self.outstanding = self.outstanding.saturating_add(messages);
        self.published = Some(now);
    }
}

impl Hints {
    /// What is remembered of a pool's tasks.
    pub(crate) fn claims(&self, pool: PoolId) -> Hint {
        lock(&self.claims).get(&pool).copied().unwrap_or_default()
    }

    /// Changes it.
    pub(crate) fn note_claims(&self, pool: PoolId, note: impl FnOnce(&mut Hint)) {
        note(lock(&self.claims).entry(pool).or_default());
    }

    /// Where to count a pool's waiting tasks from, at `now`: from the beginning as often as that is cheap, else from a little before the
    /// first that was seen.
    pub(crate) fn backlog(&self, pool: PoolId, now: Instant) -> Cursor {
        let hint = lock(&self.backlogs).get(&pool).copied().unwrap_or_default();
        if hint.due_in(now, Duration::ZERO).is_zero() { Cursor::START } else { hint.cursor().back() }
    }

    /// Notes where the first of them were, by a look that began and ended then.
    pub(crate) fn saw_backlog(&self, pool: PoolId, first: &[Place], began: Instant, ended: Instant) {
        let mut backlogs = lock(&self.backlogs);
        let hint = backlogs.entry(pool).or_default();
        if hint.due_in(began, Duration::ZERO).is_zero() {
            hint.began_anew(first, false, ended, ended - began);
        } else {
            hint.went_on(first);
        }
        // They still wait, and are to be counted again.
        first.iter().for_each(|place| hint.left_behind(place));
    }

    /// Whether it is time to look at all leases that are over, and not only at those that ended lately.
    pub(crate) fn looks_at_all_leases(&self, now: Instant) -> bool {
        !lock(&self.leases).is_some_and(|looked| is_good(looked, now))
    }

    /// Notes such a look.
    pub(crate) fn looked_at_all_leases(&self, now: Instant, cost: Duration) {
        *lock(&self.leases) = Some((now, cost));
    }

    /// Whose turn it is to look for a pool's work.
    pub(crate) fn scout(&self, pool: PoolId) -> Scout {
        Arc::clone(lock(&self.scouts).entry(pool).or_default())
    }

    /// What is remembered of a pool's outbox.
    pub(crate) fn outbox(&self, pool: PoolId) -> Outbox {
        lock(&self.outboxes).get(&pool).copied().unwrap_or_default()
    }

    /// Changes it.
    pub(crate) fn note_outbox(&self, pool: PoolId, note: impl FnOnce(&mut Outbox)) {
        note(lock(&self.outboxes).entry(pool).or_default());
    }

    /// Claims took tasks, whose messages are out no more.
    pub(crate) fn claimed(&self, pool: PoolId, tasks: u64) {
        if let Some(outbox) = lock(&self.outboxes).get_mut(&pool) {
            outbox.outstanding = outbox.outstanding.saturating_sub(tasks);
        }
    }

    /// Pools that published lately; the others are forgotten.
    pub(crate) fn busy(&self, now: Instant) -> Vec<PoolId> {
        let mut outboxes = lock(&self.outboxes);
        outboxes.retain(|_, o| o.published.is_some_and(|at| now.saturating_duration_since(at) < BUSY));
        outboxes.keys().copied().collect()
    }
}

/// Whether what was found at a moment, at such a cost, has to do for longer.
fn is_good((at, cost): (Instant, Duration), now: Instant) -> bool {
    now.saturating_duration_since(at) < cost * SHARE
}

/// Each entry is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use dagwright_core::ids::{PoolId, TaskId};
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn waiting_tasks_are_counted_from_the_first_on_while_the_beginning_is_dear() {
        let (hints, pool, began) = (Hints::default(), PoolId(Uuid::nil()), Instant::now());
        let at = |second: i64| Place {
            priority: 1,
            not_before: OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second),
            task_id: TaskId(Uuid::nil()),
        };
        let seen = |place: Place| {
            let mut cursor = Cursor::START;
            cursor.pass(&place);
            cursor.keep(&place);
            cursor.back()
        };
        assert_eq!(hints.backlog(pool, began), Cursor::START, "never looked");
        let ended = began + Duration::from_secs(1);
        hints.saw_backlog(pool, &[at(100)], began, ended);
        assert_eq!(hints.backlog(pool, ended), seen(at(100)));
        hints.saw_backlog(pool, &[at(200)], ended, ended);
        assert_eq!(hints.backlog(pool, ended), seen(at(200)));
        assert_eq!(hints.backlog(pool, ended + Duration::from_secs(1000)), Cursor::START);
    }

    #[test]
    fn outstanding_messages_are_counted_as_often_as_it_is_cheap() {
        let (hints, pool, now) = (Hints::default(), PoolId(Uuid::nil()), Instant::now());
        assert_eq!(hints.outbox(pool).outstanding(now), None, "never counted");
        hints.note_outbox(pool, |o| o.counted(100, now, Duration::from_millis(10)));
        hints.note_outbox(pool, |o| o.sent(20, now));
        hints.claimed(pool, 50);
        assert_eq!(hints.outbox(pool).outstanding(now + Duration::from_millis(199)), Some(70));
        assert_eq!(hints.outbox(pool).outstanding(now + Duration::from_millis(200)), None);
        assert_eq!(hints.busy(now), [pool]);
        assert_eq!(hints.busy(now + BUSY), []);
    }
}
