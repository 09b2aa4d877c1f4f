//! Leader election on a Lease.
//!
//! Timing as in client-go: a lease of 15 s, renewed every 2 s, given up when it could not be renewed for 10 s. Expiry is judged by the
//! local clock since the holder's record was last seen to change; two clocks are never compared. A Lease is advisory, so every
//! write to Postgres carries an epoch taken after winning, and a process that loses the Lease ends.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams, core::ObjectMeta};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a record holds after its last renewal.
const LEASE: Duration = Duration::from_secs(15);
/// How long the holder tries to renew before it gives up, well before others may take over.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between tries.
const RETRY: Duration = Duration::from_secs(2);
/// Longest single call: the client's own retries would outlive the lease.
const CALL: Duration = Duration::from_secs(3);

/// One process's part in the election.
pub struct Election {
    api: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
}

/// A Lease that is held, until it is lost or released.
pub struct Held {
    /// How long it surely holds.
    pub clock: LeaseClock,
    /// Cancelled when it is lost.
    pub lost: CancellationToken,
    renewer: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

/// Until when the Lease surely holds, by the local clock.
#[derive(Clone)]
pub struct LeaseClock(watch::Receiver<Instant>);

impl LeaseClock {
    /// A clock that follows what is sent.
    #[must_use]
    pub fn new(until: watch::Receiver<Instant>) -> Self {
        Self(until)
    }

    /// What is left of the Lease; nothing when less than a second is.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.0.borrow().saturating_duration_since(Instant::now());
        (left > Duration::from_secs(1)).then_some(left)
    }
}

/// What was last seen of the record, and when it was seen to change.
#[derive(Clone, Debug, Default)]
struct Sighting {
    record: Option<(Option<String>, Option<MicroTime>)>,
    at: Option<Instant>,
}

/// What to do about a Lease as it was just read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Take,
    Wait,
}

impl Sighting {
    /// Decides, by the local clock alone.
    fn look(&mut self, lease: &Lease, me: &str, now: Instant) -> Step {
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|h| !h.is_empty());
        if holder.is_none() || holder.as_deref() == Some(me) {
            return Step::Take;
        }
        let record = (holder, spec.renew_time);
        if self.record.as_ref() != Some(&record) {
            self.record = Some(record);
            self.at = Some(now);
        }
        let lasts = spec
            .lease_duration_seconds
            .and_then(|s| u64::try_from(s).ok())
            .map_or(LEASE, Duration::from_secs);
        if self.at.is_some_and(|at| now.duration_since(at) > lasts) { Step::Take } else { Step::Wait }
    }
}

impl Election {
    /// An election of the Lease `namespace/name`. The client should be nobody else's.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
        }
    }

    /// Waits until the Lease is ours; `None` when stopped before. `answered` hears after each try whether the API answers.
    pub async fn acquire(
        self,
        stop: &CancellationToken,
        answered: impl Fn(Result<(), String>),
    ) -> Option<Held> {
        let mut sighting = Sighting::default();
        loop {
            let asked = Instant::now();
            match self.attempt(&mut sighting).await {
                Ok(Some(lease)) => {
                    answered(Ok(()));
                    return Some(self.hold(lease, asked));
                }
                Ok(None) => answered(Ok(())),
                Err(why) => {
                    tracing::warn!(lease = self.name, why, "lease not read");
                    answered(Err(why));
                }
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// One try to take the Lease: our record, or nothing when somebody else holds it.
    async fn attempt(&self, sighting: &mut Sighting) -> Result<Option<Lease>, String> {
        let Some(lease) = call(self.api.get_opt(&self.name)).await? else {
            let new = Lease { metadata: self.meta(), spec: Some(self.record(None)) };
            return won(call_raw(self.api.create(&PostParams::default(), &new)).await);
        };
        match sighting.look(&lease, &self.identity, Instant::now()) {
            Step::Wait => Ok(None),
            Step::Take => {
                let taken = Lease { spec: Some(self.record(lease.spec.as_ref())), ..lease };
                won(call_raw(self.api.replace(&self.name, &PostParams::default(), &taken)).await)
            }
        }
    }

    fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        }
    }

    fn record(&self, old: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mine = old.is_some_and(|o| o.holder_identity.as_deref() == Some(&self.identity));
        let changes = old.and_then(|o| o.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: if mine { old.and_then(|o| o.acquire_time.clone()) } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if mine { changes } else { changes + 1 }),
            ..LeaseSpec::default()
        }
    }

    fn hold(self, lease: Lease, asked: Instant) -> Held {
        let (until, clock) = watch::channel(asked + LEASE);
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        let renewer = tokio::spawn(renew(self, lease, until, lost.clone(), stop.clone()));
        Held { clock: LeaseClock(clock), lost, renewer, stop }
    }
}

impl Held {
    /// Hands the Lease over, so that the next leader need not wait for it to end.
    pub async fn release(self) {
        self.stop.cancel();
        let _ = self.renewer.await;
    }
}

async fn renew(
    election: Election,
    mut lease: Lease,
    until: watch::Sender<Instant>,
    lost: CancellationToken,
    stop: CancellationToken,
) {
    let mut renewed = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(RETRY) => {}
        }
        let asked = Instant::now();
        let next = Lease { spec: Some(election.record(lease.spec.as_ref())), ..lease.clone() };
        match call_raw(election.api.replace(&election.name, &PostParams::default(), &next)).await {
            Ok(written) => {
                lease = written;
                renewed = asked;
                // Others may take over no sooner than a whole lease after they saw this record.
                until.send_replace(asked + LEASE);
            }
            // Somebody wrote the record between our writes: perhaps we did, and the answer was lost.
            Err(Failure::Conflict) => match call(election.api.get_opt(&election.name)).await {
                Ok(Some(now)) if holder(&now) == Some(&election.identity) => lease = now,
                Ok(_) => {
                    lost.cancel();
                    return;
                }
                Err(why) => tracing::warn!(why, "lease not read"),
            },
            Err(Failure::Other(why)) => tracing::warn!(why, "lease not renewed"),
        }
        if renewed.elapsed() > RENEW_DEADLINE {
            lost.cancel();
            return;
        }
    }
    let mut free = lease;
    if let Some(spec) = &mut free.spec {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
    }
    if call_raw(election.api.replace(&election.name, &PostParams::default(), &free)).await.is_err() {
        tracing::warn!("lease not released, it ends by itself");
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref().and_then(|s| s.holder_identity.as_ref())
}

enum Failure {
    Conflict,
    Other(String),
}

fn won(written: Result<Lease, Failure>) -> Result<Option<Lease>, String> {
    match written {
        Ok(lease) => Ok(Some(lease)),
        Err(Failure::Conflict) => Ok(None),
        Err(Failure::Other(why)) => Err(why),
    }
}

async fn call_raw<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
            Err(Failure::Conflict)
        }
        Ok(Err(error)) => Err(Failure::Other(error.to_string())),
        Err(_) => Err(Failure::Other("timed out".into())),
    }
}

async fn call<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    call_raw(call).await.map_err(|f| match f {
        Failure::Conflict => "conflict".into(),
        Failure::Other(why) => why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: i64) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_duration_seconds: Some(15),
                renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_it_was_seen_unchanged_for_its_whole_length() {
        let (mut sighting, start) = (Sighting::default(), Instant::now());
        // Its time is long past by the other clock, which proves nothing.
        assert_eq!(sighting.look(&lease("other", 1), "me", start), Step::Wait);
        assert_eq!(sighting.look(&lease("other", 1), "me", start + Duration::from_secs(14)), Step::Wait);
        assert_eq!(
            sighting.look(&lease("other", 2), "me", start + Duration::from_secs(16)),
            Step::Wait,
            "it was renewed"
        );
        assert_eq!(sighting.look(&lease("other", 2), "me", start + Duration::from_secs(32)), Step::Take);
    }

    #[test]
    fn a_free_lease_and_our_own_are_taken_at_once() {
        let mut sighting = Sighting::default();
        assert_eq!(sighting.look(&lease("", 1), "me", Instant::now()), Step::Take);
        assert_eq!(sighting.look(&lease("me", 1), "me", Instant::now()), Step::Take);
        assert_eq!(sighting.look(&Lease::default(), "me", Instant::now()), Step::Take);
    }
}
