//! Launches of single tasks: what became of each, and how many more are to be started.

use time::Duration;

use super::backoff::Allowance;

/// Tasks that one RunTask starts at most: AWS refuses more.
pub const BATCH: u32 = 10;
/// ECS may not know a task yet that it has just named.
const UNKNOWN_FOR: Duration = Duration::seconds(60);

/// A launch and what ECS shows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Tasks that it is to start.
    pub wanted: u32,
    /// Whether it is not known that the call went through.
    pub intended: bool,
    /// Whether it starts what the pool is now.
    pub current: bool,
    /// Tasks that have not stopped.
    pub alive: u32,
    /// Tasks that have.
    pub stopped: u32,
    /// Tasks that ECS named once and does not know.
    pub unknown: u32,
    /// Time since it was intended.
    pub age: Duration,
}

/// What is to be done about a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: its tasks run, or are about to.
    Keep,
    /// Its call went through although nobody heard the answer: note its tasks.
    Adopt,
    /// No task of it is to be found: call again, with the same token.
    Repeat,
    /// It is over.
    End,
}

impl Seen {
    /// What is to be done.
    #[must_use]
    pub fn next(&self) -> Next {
        if self.intended {
            return match self.alive + self.stopped {
                0 if self.current => Next::Repeat,
                0 => Next::End,
                _ => Next::Adopt,
            };
        }
        let about_to = self.unknown > 0 && self.age < UNKNOWN_FOR;
        if self.alive == 0 && !about_to { Next::End } else { Next::Keep }
    }

    /// Workers that it stands for.
    #[must_use]
    pub fn stands_for(&self) -> u32 {
        match self.next() {
            Next::Repeat => self.wanted,
            Next::End => 0,
            Next::Keep if self.age < UNKNOWN_FOR => self.alive + self.unknown,
            Next::Keep | Next::Adopt => self.alive,
        }
    }
}

/// How many more tasks to start: `current` run what the pool is now, `all` are there in all.
#[must_use]
pub fn missing(wanted: u32, max: u32, current: u32, all: u32, allowance: Allowance) -> u32 {
    let missing = wanted.saturating_sub(current).min(max.saturating_sub(all));
    match allowance {
        Allowance::Any => missing,
        Allowance::Probe => missing.min(1),
        Allowance::None => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CALLED: Seen = Seen {
        wanted: 3,
        intended: true,
        current: true,
        alive: 0,
        stopped: 0,
        unknown: 0,
        age: Duration::ZERO,
    };

    #[test]
    fn a_call_is_repeated_only_when_nothing_of_it_is_found() {
        assert_eq!((CALLED.next(), CALLED.stands_for()), (Next::Repeat, 3));
        let applied = Seen { alive: 2, stopped: 1, ..CALLED };
        assert_eq!((applied.next(), applied.stands_for()), (Next::Adopt, 2));
        assert_eq!(
            Seen { stopped: 3, ..CALLED }.next(),
            Next::Adopt,
            "it went through, though nothing is left"
        );
        assert_eq!(
            Seen { current: false, ..CALLED }.next(),
            Next::End,
            "nobody wants that revision any more"
        );
    }

    #[test]
    fn a_task_that_ecs_does_not_show_yet_is_counted_for_a_minute() {
        let young = Seen { intended: false, unknown: 3, age: Duration::seconds(59), ..CALLED };
        assert_eq!((young.next(), young.stands_for()), (Next::Keep, 3));
        assert_eq!(Seen { age: Duration::seconds(60), ..young }.next(), Next::End);
    }

    proptest! {
        #[test]
        fn never_more_than_max_nor_than_wanted(wanted in 0u32..100, max in 0u32..100, current in 0u32..100, old in 0u32..100) {
            let more = missing(wanted, max, current, current + old, Allowance::Any);
            prop_assert!(more == 0 || (current + old + more <= max && current + more <= wanted));
        }
    }
}
