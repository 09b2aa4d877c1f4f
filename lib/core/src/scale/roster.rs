//! Which workers go when fewer are wanted or a new revision replaces them: only those that have nothing in hand.
//!
//! A worker that is to go is told to *drain*: it claims nothing more, ends what it holds, and says that it is *drained*. Only then
//! is it stopped, and only then does the desired count fall. So ECS never has a reason to choose a victim itself.

use time::OffsetDateTime;

use super::backoff::Allowance;
use crate::ids::WorkerId;

/// Where a worker is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It claims tasks.
    Active,
    /// It was told to claim nothing more.
    Draining,
    /// It said that it holds nothing and claims nothing.
    Drained,
}

/// A worker that was heard of lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub id: WorkerId,
    /// Where on its way out.
    pub phase: Phase,
    /// Whether it holds a lease.
    pub busy: bool,
    /// Whether it was started with what the pool is now.
    pub current: bool,
    /// Since when it is known.
    pub since: OffsetDateTime,
}

/// What to do with a pool's workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Tell these to drain.
    pub drain: Vec<WorkerId>,
    /// Tell these to go on.
    pub resume: Vec<WorkerId>,
    /// Stop these: they are drained.
    pub stop: Vec<WorkerId>,
    /// The service's desired count, to be set after they were stopped.
    pub desired: u32,
}

/// The moves of a service that is to have `wanted` workers and whose desired count is `ecs_desired`. Absolute: applied twice they do
/// nothing more.
#[must_use]
pub fn moves(wanted: u32, ecs_desired: u32, members: &[Member], allowance: Allowance) -> Moves {
    let (mut current, old): (Vec<_>, Vec<_>) = members.iter().copied().partition(|m| m.current);
    // Who is furthest on its way out goes first; then the idle ones, the youngest first: they have the least to lose.
    current.sort_by_key(|m| {
        let way = match m.phase {
            Phase::Drained => 0,
            Phase::Draining => 1,
            Phase::Active if !m.busy => 2,
            Phase::Active => 3,
        };
        (way, std::cmp::Reverse(m.since), m.id)
    });
    let live = count(current.len());
    let surplus = current.len().saturating_sub(usize::try_from(wanted).unwrap_or(usize::MAX));
    let (going, staying) = current.split_at(surplus);
    let mut moves = Moves {
        drain: ids(going, |m| m.phase == Phase::Active),
        stop: ids(going, |m| m.phase == Phase::Drained),
        // With fewer desired than there are, ECS is stopping one that was drained: it must not claim again.
        resume: ids(staying, |m| {
            m.phase == Phase::Draining || (m.phase == Phase::Drained && ecs_desired >= live)
        }),
        desired: 0,
    };
    // Old ones work on until somebody can take over.
    if live > 0 || wanted == 0 {
        moves.drain.extend(ids(&old, |m| m.phase == Phase::Active));
    }
    moves.stop.extend(ids(&old, |m| m.phase == Phase::Drained));
    let kept = live - count(going.iter().filter(|m| m.phase == Phase::Drained).count());
    let desired = wanted.max(ecs_desired.min(kept));
    let desired = match allowance {
        Allowance::Any => desired,
        Allowance::Probe => desired.min(kept.saturating_add(1)),
        Allowance::None => desired.min(kept),
    };
    // A service of zero stops the tasks of every deployment at once.
    let old_work = old.iter().any(|m| m.phase != Phase::Drained);
    moves.desired = if old_work { desired.max(ecs_desired.min(1)) } else { desired };
    moves
}

/// Workers of a pool of single tasks end by themselves when they are idle or drained; those of an older revision are drained, so that
/// long work never runs on an image that was replaced.
#[must_use]
pub fn outdated(members: &[Member]) -> Vec<WorkerId> {
    ids(members, |m| !m.current && m.phase == Phase::Active)
}

fn ids(members: &[Member], which: impl Fn(&Member) -> bool) -> Vec<WorkerId> {
    members.iter().filter(|m| which(m)).map(|m| m.id).collect()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
