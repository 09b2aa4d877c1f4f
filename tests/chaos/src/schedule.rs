//! What goes wrong, and when: a pure function of seed, round and length, so that a seed repeats a run.

use std::{collections::BTreeSet, time::Duration};

use rand::{Rng as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When, from the start of the round's faults.
    #[serde(serialize_with = "in_seconds")]
    pub at: Duration,
    pub fault: Fault,
}

/// What.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// SIGKILL, or SIGTERM where the process shall end in order.
    End { target: Target, gently: bool },
    /// SIGSTOP, and SIGCONT after a while.
    Freeze {
        target: Target,
        #[serde(serialize_with = "in_seconds")]
        lasting: Duration,
    },
    /// SIGKILL of one session's process: Postgres ends all the others and recovers from its log.
    CrashBackend,
    /// `pg_terminate_backend` of so many sessions, those in a transaction first.
    CutConnections { sessions: u32 },
    /// A rule of the proxy before AWS, for a while.
    Aws {
        service: Service,
        how: AwsFault,
        #[serde(serialize_with = "in_seconds")]
        lasting: Duration,
    },
    /// The process's clock is set forward or back.
    Clock { target: Target, seconds: i64 },
}

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// The nth of the workers that run.
    Worker(u8),
    Dispatcher(u8),
    Controller(u8),
    Postgres,
    Etcd,
    Apiserver,
    /// The AWS endpoint.
    Aws,
    Gateway,
    /// The chain's node.
    Node,
    Query,
}

/// An AWS service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    Sqs,
    S3,
    Sts,
    Ecs,
}

/// Of the round's pools: attempts of a killed worker come back after it.
pub const LEASE: Duration = Duration::from_secs(30);

/// A worker that was lost is missed and asked for anew within it.
const RUN_TASK_COMES: Duration = Duration::from_secs(15);

const SERVICES: [Service; 4] = [Service::Sqs, Service::S3, Service::Sts, Service::Ecs];

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AwsFault {
    /// Every connection is closed.
    Outage,
    /// Nothing is answered.
    Silence,
    Latency {
        milliseconds: u64,
    },
    /// Each `every`th request is refused with the service's own code.
    Throttling {
        every: u64,
    },
    /// Each `every`th request ends with a 5xx.
    Errors {
        every: u64,
    },
    /// Each `every`th request is applied and its answer thrown away.
    DroppedAnswers {
        every: u64,
    },
    /// Each `every`th answer is cut in its body.
    Truncation {
        every: u64,
    },
    /// SQS: messages come again.
    Redelivery,
    /// SQS: messages come late, and their visibility counts meanwhile.
    LateDelivery {
        milliseconds: u64,
    },
    /// SQS: deletes are applied late.
    HeldDeletes {
        milliseconds: u64,
    },
    /// SQS: half of each batch fails.
    PartialBatches,
    /// ECS: nothing can be started.
    NoCapacity,
}

fn in_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Every kind of fault once; a deck is dealt out before it is shuffled again, so that none waits for luck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill(Target),
    Terminate(Target),
    Freeze(Target),
    FreezePastLease,
    CrashBackend,
    CutConnections,
    Aws(Service, usize),
    Clock(Target),
}

/// Faults that every service knows, by their place in [`aws`].
const COMMON: usize = 7;

fn deck() -> Vec<Kind> {
    use Target::{Apiserver, Aws, Controller, Dispatcher, Etcd, Gateway, Node, Postgres, Query, Worker};
    let mut deck =
        vec![Kind::CrashBackend, Kind::CutConnections, Kind::CutConnections, Kind::FreezePastLease];
    let killed =
        [Worker(0), Worker(0), Dispatcher(0), Controller(0), Postgres, Etcd, Apiserver, Aws, Gateway, Query];
    deck.extend(killed.map(Kind::Kill));
    deck.push(Kind::Terminate(Aws));
    let frozen = [Worker(0), Dispatcher(0), Controller(0), Postgres, Etcd, Apiserver, Aws, Gateway, Node];
    deck.extend(frozen.map(Kind::Freeze));
    deck.extend([Worker(0), Dispatcher(0), Controller(0)].map(Kind::Clock));
    for service in SERVICES {
        deck.extend((0..COMMON).map(|how| Kind::Aws(service, how)));
    }
    deck.extend((COMMON..COMMON + 4).map(|how| Kind::Aws(Service::Sqs, how)));
    deck.push(Kind::Aws(Service::Ecs, COMMON + 4));
    deck
}

/// How many kinds there are: after so many events each has happened.
#[must_use]
pub fn kinds() -> usize {
    deck().len()
}

/// Under which names faults are counted.
#[must_use]
pub fn all_kinds() -> BTreeSet<String> {
    deck().into_iter().map(|kind| drawn(kind, &mut stream(0, 0)).kind()).collect()
}

/// The events of one round, in order of time.
#[must_use]
pub fn events(seed: u64, round: u32, count: usize, length: Duration) -> Vec<Event> {
    let mut rng = stream(seed, u64::from(round));
    let kinds = dealt(seed, round as usize * count, count);
    let mut events: Vec<Event> = kinds
        .into_iter()
        .map(|kind| Event { at: length.mul_f64(moment(kind, rng.random())), fault: drawn(kind, &mut rng) })
        .collect();
    for service in SERVICES {
        in_turn(events.iter_mut().filter(|event| event.fault.service() == Some(service)).collect(), length);
    }
    events.sort_by_key(|event| event.at);
    events
}

/// Which part of the round is over. An AWS endpoint that starts anew knows no worker and ends them all: late, so that there is work
/// until then, and a worker that is to outlive its lease gets through it.
fn moment(kind: Kind, drawn: f64) -> f64 {
    match kind {
        Kind::Kill(Target::Aws) | Kind::Terminate(Target::Aws) => 0.75 + drawn / 4.0,
        Kind::FreezePastLease => drawn / 10.0,
        _ => drawn,
    }
}

/// Faults of one service follow each other: of two at once only one strikes a request.
fn in_turn(mut faults: Vec<&mut Event>, length: Duration) {
    // Who has just been refused otherwise asks for no task for a while.
    faults.sort_by_key(|event| (!event.fault.is_no_capacity(), event.at));
    let slot = length / u32::try_from(faults.len()).unwrap_or(u32::MAX).max(1);
    for (n, event) in (0..).zip(faults) {
        let Fault::Aws { how, lasting, .. } = &mut event.fault else { continue };
        let most = if *how == AwsFault::NoCapacity { slot.max(RUN_TASK_COMES) } else { slot };
        *lasting = most.min(*lasting);
        let room = slot.saturating_sub(*lasting).as_secs_f64() / length.as_secs_f64().max(1.0);
        event.at = slot * n + event.at.mul_f64(room);
    }
}

fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Cards `from..from + count` of an endless row of shuffled decks.
fn dealt(seed: u64, from: usize, count: usize) -> Vec<Kind> {
    let size = kinds();
    let card = |n: usize| {
        let mut cards = deck();
        // Streams of decks and of rounds never meet.
        cards.shuffle(&mut stream(seed, (1 << 32) + (n / size) as u64));
        cards[n % size]
    };
    (from..from + count).map(card).collect()
}

fn seconds(rng: &mut ChaCha8Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from * 1000..=to * 1000))
}

fn drawn(kind: Kind, rng: &mut ChaCha8Rng) -> Fault {
    match kind {
        Kind::Kill(target) => Fault::End { target: one_of(target, rng), gently: false },
        Kind::Terminate(target) => Fault::End { target: one_of(target, rng), gently: true },
        Kind::Freeze(target) => {
            let target = one_of(target, rng);
            let lasting = match target {
                // Past the leader's lease of 15 s in half of the cases.
                Target::Controller(_) | Target::Dispatcher(_) => seconds(rng, 5, 35),
                Target::Worker(_) => seconds(rng, 2, 25),
                _ => seconds(rng, 2, 20),
            };
            Fault::Freeze { target, lasting }
        }
        Kind::FreezePastLease => {
            Fault::Freeze { target: one_of(Target::Worker(0), rng), lasting: LEASE + seconds(rng, 4, 9) }
        }
        Kind::CrashBackend => Fault::CrashBackend,
        Kind::CutConnections => Fault::CutConnections { sessions: rng.random_range(1..=8) },
        Kind::Aws(service, how) => {
            let how = aws(how, rng);
            // ECS is asked every few seconds, the others all the time.
            let least = if service == Service::Ecs { 15 } else { 4 };
            Fault::Aws { service, how, lasting: seconds(rng, least, 30) }
        }
        Kind::Clock(target) => {
            let seconds = rng.random_range(20..=240);
            let seconds = if rng.random() { seconds } else { -seconds };
            Fault::Clock { target: one_of(target, rng), seconds }
        }
    }
}

fn one_of(target: Target, rng: &mut ChaCha8Rng) -> Target {
    match target {
        Target::Worker(_) => Target::Worker(rng.random_range(0..4)),
        Target::Dispatcher(_) => Target::Dispatcher(rng.random_range(0..2)),
        Target::Controller(_) => Target::Controller(rng.random_range(0..2)),
        other => other,
    }
}

fn aws(how: usize, rng: &mut ChaCha8Rng) -> AwsFault {
    let every = rng.random_range(1..=3);
    match how {
        0 => AwsFault::Outage,
        1 => AwsFault::Silence,
        2 => AwsFault::Latency { milliseconds: rng.random_range(200..=4000) },
        3 => AwsFault::Throttling { every },
        4 => AwsFault::Errors { every },
        5 => AwsFault::DroppedAnswers { every },
        6 => AwsFault::Truncation { every },
        7 => AwsFault::Redelivery,
        8 => AwsFault::LateDelivery { milliseconds: rng.random_range(500..=8000) },
        9 => AwsFault::HeldDeletes { milliseconds: rng.random_range(1000..=20_000) },
        10 => AwsFault::PartialBatches,
        _ => AwsFault::NoCapacity,
    }
}

impl Fault {
    /// Whether a worker is stopped for longer than its pool's lease.
    #[must_use]
    pub fn is_past_lease(&self) -> bool {
        matches!(self, Self::Freeze { target: Target::Worker(_), lasting } if *lasting > LEASE)
    }

    fn is_no_capacity(&self) -> bool {
        matches!(self, Self::Aws { how: AwsFault::NoCapacity, .. })
    }

    fn service(&self) -> Option<Service> {
        match self {
            Self::Aws { service, .. } => Some(*service),
            _ => None,
        }
    }

    /// Under which name it is counted.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::End { target, gently: false } => format!("SIGKILL {}", target.kind()),
            Self::End { target, gently: true } => format!("SIGTERM {}", target.kind()),
            Self::Freeze { .. } if self.is_past_lease() => "SIGSTOP worker past its lease".to_owned(),
            Self::Freeze { target, .. } => format!("SIGSTOP {}", target.kind()),
            Self::CrashBackend => "SIGKILL Postgres backend".to_owned(),
            Self::CutConnections { .. } => "Postgres connections cut".to_owned(),
            Self::Clock { target, .. } => format!("clock step {}", target.kind()),
            Self::Aws { service, how, .. } => format!("{} {}", service.name(), how.kind()),
        }
    }
}

impl Target {
    fn kind(self) -> &'static str {
        match self {
            Self::Worker(_) => "worker",
            Self::Dispatcher(_) => "dispatcher",
            Self::Controller(_) => "controller",
            Self::Postgres => "Postgres",
            Self::Etcd => "etcd",
            Self::Apiserver => "apiserver",
            Self::Aws => "AWS endpoint",
            Self::Gateway => "RPC gateway",
            Self::Node => "chain node",
            Self::Query => "query service",
        }
    }
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Sqs => "SQS",
            Self::S3 => "S3",
            Self::Sts => "STS",
            Self::Ecs => "ECS",
        }
    }
}

impl AwsFault {
    fn kind(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::Silence => "silence",
            Self::Latency { .. } => "latency",
            Self::Throttling { .. } => "throttling",
            Self::Errors { .. } => "server errors",
            Self::DroppedAnswers { .. } => "dropped answers",
            Self::Truncation { .. } => "truncated answers",
            Self::Redelivery => "duplicated deliveries",
            Self::LateDelivery { .. } => "delayed deliveries",
            Self::HeldDeletes { .. } => "held deletes",
            Self::PartialBatches => "partial batch failures",
            Self::NoCapacity => "no capacity",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_repeats_its_schedule_and_another_does_not() {
        assert_eq!(events(7, 3, 12, LENGTH), events(7, 3, 12, LENGTH));
        assert_ne!(events(7, 3, 12, LENGTH), events(8, 3, 12, LENGTH));
        assert_ne!(events(7, 3, 12, LENGTH), events(7, 4, 12, LENGTH));
    }

    #[test]
    fn each_kind_happens_before_any_happens_for_a_second_deck() {
        let rounds = u32::try_from(kinds().div_ceil(12)).unwrap();
        let seen: BTreeSet<String> = (0..rounds)
            .flat_map(|round| events(1, round, 12, LENGTH))
            .map(|event| event.fault.kind())
            .collect();
        assert_eq!(seen, all_kinds());
    }

    /// As the fixed seed of `tests/chaos.rs` has it.
    #[test]
    fn two_rounds_of_half_a_deck_have_each_kind() {
        let of =
            |round| events(1, round, kinds().div_ceil(2), LENGTH).into_iter().map(|event| event.fault.kind());
        let seen: BTreeSet<String> = (0..2).flat_map(of).collect();
        assert_eq!(seen, all_kinds());
    }

    #[test]
    fn faults_of_one_service_follow_each_other() {
        for round in 0..20 {
            let events = events(3, round, 30, LENGTH);
            for service in SERVICES {
                let mut free = Duration::ZERO;
                for event in &events {
                    if let Fault::Aws { service: of, lasting, .. } = event.fault
                        && of == service
                        && !event.fault.is_no_capacity()
                    {
                        assert!(event.at >= free, "{event:?}");
                        free = event.at + lasting;
                    }
                }
                assert!(free <= LENGTH);
            }
        }
    }

    #[test]
    fn events_are_in_order_and_within_the_round() {
        let events = events(5, 0, 40, LENGTH);
        assert!(events.is_sorted_by_key(|event| event.at));
        assert!(events.iter().all(|event| event.at <= LENGTH));
    }
}
