//! Where a look at a queue begins.
//!
//! Claimed rows leave dead index entries at a queue's head, and while an old snapshot lives anywhere in the database nobody can
//! clear them: each look from the beginning would read them all again. So a process remembers how far it came, and begins there. What
//! was left behind lately (a row that was locked, a transaction that committed late) is found by a glance back, once in a while; what
//! lies further behind (a job that was resumed) by a look from the beginning, which comes as often as its own cost allows. A cursor is
//! a hint: with a wrong one, or none, the same is found, later.

use std::time::{Duration, Instant};

use dagwright_core::ids::TaskId;
use time::OffsetDateTime;
use uuid::Uuid;

/// Priorities, from the most urgent.
const CLASSES: usize = 3;

/// Looks from the beginning may take one part of the time in so many. There are several kinds of them, and where they are dear, there is
/// most else to do.
const SHARE: u32 = 100;

/// A glance back finds what is due this much before the place of the last one: usually more than passes between drawing a due time and
/// its commit.
const BACK: time::Duration = time::Duration::seconds(2);

/// A row's place in its queue: by priority, then due time, then id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// 0 High, 1 Normal, 2 Low.
    pub priority: i16,
    /// When it is due.
    pub not_before: OffsetDateTime,
    /// The task.
    pub task_id: TaskId,
}

/// How far a queue was read, per priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor([(OffsetDateTime, TaskId); CLASSES]);

impl Cursor {
    /// The beginning of the queue.
    pub const START: Self = Self([(OffsetDateTime::UNIX_EPOCH, TaskId(Uuid::nil())); CLASSES]);

    /// Moves behind `place`, forwards only.
    pub fn pass(&mut self, place: &Place) {
        if let Some(at) = usize::try_from(place.priority).ok().and_then(|class| self.0.get_mut(class)) {
            *at = (*at).max((place.not_before, place.task_id));
        }
    }

    /// Moves before `place`, backwards only.
    pub fn keep(&mut self, place: &Place) {
        if let Some(at) = usize::try_from(place.priority).ok().and_then(|class| self.0.get_mut(class))
            && *at >= (place.not_before, place.task_id)
        {
            *at = (place.not_before - time::Duration::MICROSECOND, place.task_id);
        }
    }

    /// A little before it.
    #[must_use]
    pub fn back(self) -> Self {
        Self(self.0.map(|(time, _)| (time - BACK, TaskId(Uuid::nil()))))
    }

    /// As columns of an UNNEST.
    pub(crate) fn columns(&self) -> (Vec<i16>, Vec<OffsetDateTime>, Vec<Uuid>) {
        let classes = (0i16..).take(CLASSES).collect();
        (classes, self.0.iter().map(|at| at.0).collect(), self.0.iter().map(|at| at.1.0).collect())
    }
}

/// A cursor, when the last look from the beginning was, and when and where the last glance back.
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    cursor: Cursor,
    looked: Option<(Instant, Duration)>,
    glanced: Option<(Instant, Cursor)>,
}

impl Default for Hint {
    fn default() -> Self {
        Self { cursor: Cursor::START, looked: None, glanced: None }
    }
}

impl Hint {
    /// Where to go on.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Where to go on from instead, once in `pause`, to find what was left behind since the last time; none when it is not time.
    #[must_use]
    pub fn glance(&self, now: Instant, pause: Duration) -> Option<Cursor> {
        match self.glanced {
            Some((at, place)) => (now.saturating_duration_since(at) >= pause).then(|| place.back()),
            None => Some(self.cursor.back()),
        }
    }

    /// Notes such a look. What it could not take is left to the look from the beginning.
    pub fn glanced(&mut self, now: Instant) {
        self.glanced = Some((now, self.cursor));
    }

    /// How long until a look from the beginning is due, at `now`: at least `pause` after the last one, and longer when that was dear.
    #[must_use]
    pub fn due_in(&self, now: Instant, pause: Duration) -> Duration {
        let Some((at, cost)) = self.looked else { return Duration::ZERO };
        pause.max(cost * SHARE).saturating_sub(now.saturating_duration_since(at))
    }

    /// Notes a look from where the cursor was, which found rows at `places`.
    pub fn went_on(&mut self, places: &[Place]) {
        places.iter().for_each(|place| self.cursor.pass(place));
    }

    /// Notes a look from the beginning that ended at `now`. One that found as much as it could take may have left more behind.
    pub fn began_anew(&mut self, places: &[Place], full: bool, now: Instant, cost: Duration) {
        self.looked = Some((now, cost));
        if full {
            // Classes that it did not come to stay where they were.
            for place in places {
                self.cursor.keep(place);
            }
        }
        self.went_on(places);
        self.glanced(now);
    }

    /// Notes that the row at `place` is still to be done.
    pub fn left_behind(&mut self, place: &Place) {
        self.cursor.keep(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(priority: i16, second: i64, id: u128) -> Place {
        let not_before = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second);
        Place { priority, not_before, task_id: TaskId(Uuid::from_u128(id)) }
    }

    fn at(hint: &Hint, class: usize) -> i64 {
        hint.cursor().columns().1[class].unix_timestamp()
    }

    #[test]
    fn a_cursor_moves_on_per_priority() {
        let mut hint = Hint::default();
        hint.went_on(&[place(1, 10, 1), place(1, 20, 2), place(0, 5, 3), place(1, 15, 4)]);
        assert_eq!([at(&hint, 0), at(&hint, 1), at(&hint, 2)], [5, 20, 0]);
        hint.left_behind(&place(1, 12, 9));
        assert_eq!([at(&hint, 0), at(&hint, 1)], [5, 11], "before it");
    }

    #[test]
    fn a_look_from_the_beginning_that_was_cut_short_goes_on_from_there() {
        let mut hint = Hint::default();
        hint.went_on(&[place(1, 100, 1), place(2, 100, 1)]);
        let now = Instant::now();
        hint.began_anew(&[place(1, 7, 2), place(1, 8, 3)], false, now, Duration::ZERO);
        assert_eq!(at(&hint, 1), 100, "it saw everything there is");
        hint.began_anew(&[place(1, 7, 2), place(1, 8, 3)], true, now, Duration::ZERO);
        assert_eq!([at(&hint, 1), at(&hint, 2)], [8, 100]);
    }

    #[test]
    fn dear_looks_come_seldom() {
        let (mut hint, now) = (Hint::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(hint.due_in(now, second), Duration::ZERO, "never looked");
        hint.began_anew(&[], false, now, Duration::from_millis(8));
        assert_eq!(hint.due_in(now, second), second);
        assert_eq!(hint.due_in(now + Duration::from_millis(750), Duration::ZERO), Duration::from_millis(50));
        hint.began_anew(&[], false, now, second);
        assert_eq!(hint.due_in(now, second), SHARE * second);
    }

    #[test]
    fn what_lies_a_little_behind_is_glanced_at_however_dear_the_beginning_is() {
        let (mut hint, now, second) = (Hint::default(), Instant::now(), Duration::from_secs(1));
        hint.went_on(&[place(1, 100, 1)]);
        hint.began_anew(&[], false, now, Duration::from_secs(60));
        assert_eq!(hint.glance(now, second), None, "it saw everything");
        hint.went_on(&[place(1, 500, 1)]);
        let from = hint.glance(now + second, second).expect("it is time");
        assert_eq!(from.columns().1[1].unix_timestamp(), 98, "from before where the last one was");
        hint.glanced(now + second);
        assert_eq!(hint.glance(now + second, second), None);
        let from = hint.glance(now + 2 * second, second).expect("it is time");
        assert_eq!(from.columns().1[1].unix_timestamp(), 498);
    }
}
