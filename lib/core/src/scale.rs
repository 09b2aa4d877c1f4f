//! How many workers a pool wants, from our own backlog: never from SQS's approximate counts. Which of them may go,
//! how single tasks are launched, and how long a pool rests that cannot start any, is decided in [`roster`], [`launch`], [`backoff`].

pub mod backoff;
pub mod launch;
pub mod roster;

use time::{Duration, OffsetDateTime};

/// `spec.run` of a WorkerPool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// An ECS service that the scaler sizes.
    Service(Service),
    /// RunTask per batch of backlog; workers end by themselves when they are idle.
    OnDemand(OnDemand),
}

impl Run {
    /// Workers at most; bounds how many messages may be outstanding.
    #[must_use]
    pub fn max_workers(&self) -> u32 {
        match self {
            Self::Service(service) => service.max,
            Self::OnDemand(on_demand) => on_demand.max,
        }
    }

    /// Tasks that justify one worker.
    #[must_use]
    pub fn tasks_per_worker(&self) -> u32 {
        match self {
            Self::Service(service) => service.tasks_per_worker,
            Self::OnDemand(on_demand) => on_demand.tasks_per_worker,
        }
    }
}

/// Bounds of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Workers at least, even without work.
    pub min: u32,
    /// Workers at most.
    pub max: u32,
    /// Tasks that justify one worker.
    pub tasks_per_worker: u32,
    /// How long fewer must do before workers are stopped.
    pub cooldown: Duration,
}

/// Bounds of single tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnDemand {
    /// Workers at most.
    pub max: u32,
    /// Tasks that justify one worker.
    pub tasks_per_worker: u32,
}

/// What the scaler knows of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Tasks that wait and are due, and tasks that run.
    pub demand: u64,
    /// How long the oldest of those that wait has been due.
    pub waiting: Duration,
    /// The count that was wanted last.
    pub desired: u32,
    /// When the demand last justified that count.
    pub needed_at: Option<OffsetDateTime>,
}

/// What to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Desired count.
    pub desired: u32,
    /// Whether the demand justifies it now; the cooldown counts from the last time that it did.
    pub needed: bool,
}

/// A due task that waits so long has workers that are slower than their backlog says.
const PATIENCE: Duration = Duration::seconds(60);

/// Workers that the demand justifies. Each time that [`PATIENCE`] passes without the oldest due task being taken, half as many tasks
/// justify a worker, until each task has its own: a short backlog of long tasks gets workers too.
#[must_use]
pub fn justified(demand: u64, waiting: Duration, tasks_per_worker: u32) -> u32 {
    let halvings =
        u32::try_from(waiting.whole_seconds().max(0) / PATIENCE.whole_seconds()).unwrap_or(u32::MAX);
    let per_worker = tasks_per_worker.checked_shr(halvings).unwrap_or(0).max(1);
    u32::try_from(demand.div_ceil(u64::from(per_worker))).unwrap_or(u32::MAX)
}

/// Up at once, down after the cooldown. What runs is part of the demand, so a busy pool is never sized below its work.
#[must_use]
pub fn decide(service: &Service, observed: &Observed, now: OffsetDateTime) -> Decision {
    let workers = justified(observed.demand, observed.waiting, service.tasks_per_worker);
    let wanted = workers.max(service.min).min(service.max);
    let current = observed.desired.min(service.max).max(service.min);
    if wanted >= current {
        return Decision { desired: wanted, needed: true };
    }
    let cooled = observed.needed_at.is_none_or(|at| now - at >= service.cooldown);
    if cooled {
        Decision { desired: wanted, needed: true }
    } else {
        Decision { desired: current, needed: false }
    }
}

/// Workers that are to run as single tasks. Fewer need no doing: who is idle ends by itself.
#[must_use]
pub fn decide_on_demand(on_demand: &OnDemand, observed: &Observed) -> u32 {
    justified(observed.demand, observed.waiting, on_demand.tasks_per_worker).min(on_demand.max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const SERVICE: Service =
        Service { min: 0, max: 20, tasks_per_worker: 8, cooldown: Duration::seconds(120) };

    fn observed(demand: u64, desired: u32, needed_at: Option<OffsetDateTime>) -> Observed {
        Observed { demand, waiting: Duration::ZERO, desired, needed_at }
    }

    #[test]
    fn one_task_starts_one_worker_at_once() {
        assert_eq!(decide(&SERVICE, &observed(1, 0, None), T0), Decision { desired: 1, needed: true });
        assert_eq!(decide(&SERVICE, &observed(9, 1, Some(T0)), T0).desired, 2);
        assert_eq!(decide(&SERVICE, &observed(10_000, 1, Some(T0)), T0).desired, 20, "at most max");
    }

    #[test]
    fn fewer_workers_only_after_the_cooldown() {
        let busy = observed(0, 5, Some(T0));
        let early = decide(&SERVICE, &busy, T0 + Duration::seconds(119));
        assert_eq!(early, Decision { desired: 5, needed: false });
        assert_eq!(decide(&SERVICE, &busy, T0 + Duration::seconds(120)).desired, 0);
    }

    #[test]
    fn a_lowered_maximum_holds_at_once_and_min_stays() {
        let service = Service { min: 1, max: 3, ..SERVICE };
        assert_eq!(decide(&service, &observed(100, 9, Some(T0)), T0).desired, 3);
        assert_eq!(decide(&service, &observed(0, 0, None), T0).desired, 1);
    }

    #[test]
    fn a_backlog_that_is_not_taken_gets_a_worker_per_task() {
        let sized = |seconds| justified(9, Duration::seconds(seconds), 8);
        assert_eq!([0, 59, 60, 120, 180, 100_000].map(sized), [2, 2, 3, 5, 9, 9]);
        let on_demand = OnDemand { max: 4, tasks_per_worker: 8 };
        let waiting = Observed { waiting: Duration::seconds(120), ..observed(9, 0, None) };
        assert_eq!(decide_on_demand(&on_demand, &waiting), 4, "at most max");
        assert_eq!(decide_on_demand(&on_demand, &observed(0, 3, None)), 0, "nothing when idle");
    }

    proptest! {
        #[test]
        fn age_never_asks_for_less_nor_for_more_than_a_worker_per_task(demand in any::<u64>(), age in 0i64..100_000, more in 0i64..100_000, per in any::<u32>()) {
            let (young, old) = (justified(demand, Duration::seconds(age), per), justified(demand, Duration::seconds(age + more), per));
            prop_assert!(young <= old);
            prop_assert!(u64::from(old) <= demand);
            prop_assert_eq!(demand > 0, young > 0, "work always has a worker");
        }

        #[test]
        fn the_count_stays_within_bounds(demand in any::<u64>(), desired in any::<u32>(), min in 0u32..5, more in 0u32..50, per in any::<u32>()) {
            let service = Service { min, max: min + more, tasks_per_worker: per, cooldown: Duration::minutes(1) };
            let decision = decide(&service, &observed(demand, desired, Some(T0)), T0);
            prop_assert!((service.min..=service.max).contains(&decision.desired));
        }
    }
}
