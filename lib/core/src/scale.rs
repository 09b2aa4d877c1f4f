//! How many workers a pool's service wants, from our own backlog: never from SQS's approximate counts.

use time::{Duration, OffsetDateTime};

/// `spec.run` of a WorkerPool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// An ECS service that the scaler sizes.
    Service(Service),
    /// RunTask per batch of backlog.
    OnDemand {
        /// Workers at most.
        max: u32,
    },
}

impl Run {
    /// Workers at most; bounds how many messages may be outstanding.
    #[must_use]
    pub fn max_workers(&self) -> u32 {
        match self {
            Self::Service(service) => service.max,
            Self::OnDemand { max } => *max,
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

/// What the scaler knows of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Tasks that wait and are due, and tasks that run.
    pub demand: u64,
    /// The desired count that was last set.
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

/// Up at once, down after the cooldown. What runs is part of the demand, so a busy pool is never sized below its work.
#[must_use]
pub fn decide(service: &Service, observed: &Observed, now: OffsetDateTime) -> Decision {
    let per_worker = u64::from(service.tasks_per_worker.max(1));
    let workers = u32::try_from(observed.demand.div_ceil(per_worker)).unwrap_or(u32::MAX);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const SERVICE: Service =
        Service { min: 0, max: 20, tasks_per_worker: 8, cooldown: Duration::seconds(120) };

    fn observed(demand: u64, desired: u32, needed_at: Option<OffsetDateTime>) -> Observed {
        Observed { demand, desired, needed_at }
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

    proptest! {
        #[test]
        fn the_count_stays_within_bounds(demand in any::<u64>(), desired in any::<u32>(), min in 0u32..5, more in 0u32..50, per in any::<u32>()) {
            let service = Service { min, max: min + more, tasks_per_worker: per, cooldown: Duration::minutes(1) };
            let decision = decide(&service, &observed(demand, desired, Some(T0)), T0);
            prop_assert!((service.min..=service.max).contains(&decision.desired));
        }
    }
}
