//! What is known of a provider, and the state that follows from it. Pure: instants come from outside.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use dagwright_contracts::gateway::ProviderState;

use crate::rpc::answer::{Outcome, Verdict};

/// So many faults in a row make a provider the last choice; one success makes it a first choice again.
const DEGRADED_AFTER: u32 = 3;
/// The error rate looks back over this many slots of half a minute.
const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_secs(30);
/// Longest pause after being told that we are too fast.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// What is known of a provider.
#[derive(Debug, Default)]
pub struct Health {
    asked: bool,
    cordoned_until: Option<Instant>,
    refused: bool,
    limited_until: Option<Instant>,
    limited_in_a_row: u32,
    faults_in_a_row: u32,
    /// (start, requests, faults), newest last.
    slots: VecDeque<(Instant, u32, u32)>,
    message: String,
    /// Head height that it last told.
    pub head: Option<u64>,
}

impl Health {
    /// Takes note of how a request went.
    pub fn record(&mut self, verdict: &Verdict, retry_after: Option<Duration>, now: Instant) {
        if verdict.outcome == Outcome::Busy {
            return;
        }
        let fault = verdict.outcome.is_fault();
        self.count(fault, now);
        self.asked = true;
        self.refused = matches!(verdict.outcome, Outcome::WrongChain | Outcome::NoUrl);
        if fault {
            self.faults_in_a_row += 1;
            self.message.clone_from(&verdict.detail);
        } else {
            self.faults_in_a_row = 0;
            self.limited_in_a_row = 0;
            self.limited_until = None;
        }
        if verdict.outcome == Outcome::RateLimited {
            let backoff = Duration::from_secs(1 << self.limited_in_a_row.min(5));
            self.limited_in_a_row += 1;
            self.limited_until = Some(now + retry_after.unwrap_or(backoff).min(MAX_BACKOFF));
        }
    }

    /// Wrong data: not to be used for a while.
    pub fn cordon(&mut self, until: Instant, message: String) {
        self.cordoned_until = self.cordoned_until.max(Some(until));
        self.message = message;
    }

    /// The state at `now`.
    #[must_use]
    pub fn state(&self, now: Instant) -> ProviderState {
        if self.cordoned_until.is_some_and(|until| until > now) {
            ProviderState::Cordoned
        } else if self.refused {
            ProviderState::Refused
        } else if !self.asked {
            ProviderState::Unknown
        } else if self.faults_in_a_row >= DEGRADED_AFTER || self.is_limited(now) {
            ProviderState::Degraded
        } else {
            ProviderState::Healthy
        }
    }

    /// Whether we were told to slow down, and the time is not over.
    #[must_use]
    pub fn is_limited(&self, now: Instant) -> bool {
        self.limited_until.is_some_and(|until| until > now)
    }

    /// Why it is not healthy; empty when it is.
    #[must_use]
    pub fn message(&self, now: Instant) -> &str {
        if self.state(now) == ProviderState::Healthy { "" } else { &self.message }
    }

    /// Errors per hundred requests over the last five minutes.
    #[must_use]
    pub fn error_rate_percent(&self, now: Instant) -> f64 {
        let recent =
            self.slots.iter().filter(|(start, ..)| now.saturating_duration_since(*start) < SLOT * 10);
        let (requests, faults) = recent.fold((0u32, 0u32), |sum, slot| (sum.0 + slot.1, sum.1 + slot.2));
        if requests == 0 { 0.0 } else { f64::from(faults) * 100.0 / f64::from(requests) }
    }

    fn count(&mut self, fault: bool, now: Instant) {
        if self.slots.back().is_none_or(|(start, ..)| now.saturating_duration_since(*start) >= SLOT) {
            self.slots.push_back((now, 0, 0));
            if self.slots.len() > SLOTS {
                self.slots.pop_front();
            }
        }
        if let Some((_, requests, faults)) = self.slots.back_mut() {
            *requests += 1;
            *faults += u32::from(fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(outcome: Outcome) -> Verdict {
        Verdict::new(outcome, "why")
    }

    #[test]
    fn three_faults_degrade_and_one_answer_heals() {
        let now = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.state(now), ProviderState::Unknown);
        for expected in [ProviderState::Healthy, ProviderState::Healthy, ProviderState::Degraded] {
            health.record(&verdict(Outcome::Timeout), None, now);
            assert_eq!(health.state(now), expected);
        }
        assert_eq!(health.message(now), "why");
        health.record(&verdict(Outcome::Answered), None, now);
        assert_eq!((health.state(now), health.message(now)), (ProviderState::Healthy, ""));
        assert!((health.error_rate_percent(now) - 75.0).abs() < f64::EPSILON);
        assert!(health.error_rate_percent(now + Duration::from_secs(301)).abs() < f64::EPSILON);
    }

    #[test]
    fn a_cordon_ends_by_itself_and_is_not_lifted_by_answers() {
        let now = Instant::now();
        let mut health = Health::default();
        health.cordon(now + Duration::from_secs(10), "wrong receipts root".into());
        health.record(&verdict(Outcome::Answered), None, now);
        assert_eq!(health.state(now), ProviderState::Cordoned);
        assert_eq!(health.state(now + Duration::from_secs(10)), ProviderState::Healthy);
    }

    #[test]
    fn a_rate_limit_is_respected_for_longer_and_longer() {
        let now = Instant::now();
        let mut health = Health::default();
        health.record(&verdict(Outcome::RateLimited), None, now);
        assert_eq!(health.state(now), ProviderState::Degraded);
        assert!(!health.is_limited(now + Duration::from_secs(1)));
        health.record(&verdict(Outcome::RateLimited), None, now);
        assert!(health.is_limited(now + Duration::from_millis(1900)));
        health.record(&verdict(Outcome::RateLimited), Some(Duration::from_secs(600)), now);
        assert!(!health.is_limited(now + MAX_BACKOFF), "a provider cannot send us away for ever");
    }

    #[test]
    fn another_chain_refuses_until_it_is_right_again() {
        let now = Instant::now();
        let mut health = Health::default();
        health.record(&verdict(Outcome::WrongChain), None, now);
        assert_eq!(health.state(now), ProviderState::Refused);
        health.record(&verdict(Outcome::Answered), None, now);
        assert_eq!(health.state(now), ProviderState::Healthy);
    }
}
