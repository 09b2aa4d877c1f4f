//! Looks at a round while it goes on: what must hold at any moment must hold in the middle of faults.

use std::{convert::Infallible, time::Duration};

use dagwright_e2e::World;

use super::{
    Facts, Violation,
    judge::{always, shrunk},
    state,
};

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What was seen of one namespace.
#[derive(Debug, Default)]
pub struct Watch {
    /// How often Postgres answered.
    pub looks: u64,
    pub violations: Vec<Violation>,
    before: Facts,
}

impl Watch {
    /// Looks until it is dropped.
    pub async fn go_on(&mut self, world: &World, namespace: &str) -> Infallible {
        let mut tick = ticks();
        loop {
            self.look(&mut tick, world, namespace).await;
        }
    }

    /// Looks until a promise is broken.
    pub async fn until_broken(&mut self, world: &World, namespace: &str) {
        let mut tick = ticks();
        while self.violations.is_empty() {
            self.look(&mut tick, world, namespace).await;
        }
    }

    /// Postgres may be away: then there is nothing to see.
    async fn look(&mut self, tick: &mut tokio::time::Interval, world: &World, namespace: &str) {
        tick.tick().await;
        if let Ok(facts) = state::read(world, namespace).await {
            self.learn(facts);
        }
    }

    fn learn(&mut self, facts: Facts) {
        self.looks += 1;
        for violation in always(&facts).into_iter().chain(shrunk(&self.before, &facts)) {
            if !self.violations.contains(&violation) {
                self.violations.push(violation);
            }
        }
        self.before = facts;
    }
}

fn ticks() -> tokio::time::Interval {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick
}
