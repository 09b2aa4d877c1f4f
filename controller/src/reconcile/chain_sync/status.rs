use std::time::Duration;

use dagwright_crds::{
    ChainSync, ChainSyncStatus,
    chain_sync::{Mode, Problem, StreamStatus},
    conditions::{
        CATCHING_UP, DEPENDENCY_MISSING, FOLLOWING, FORK_AT_BORDER, PRODUCER_CONFLICT, SUSPENDED,
        SUSPENDED_BY_SPEC, SYNCED, TARGET_REACHED, TASKS_FAILED,
    },
    dataset::Range,
};
use dagwright_state::{
    desired::chain_syncs::{Conflict, Owner},
    status::{ChainSyncProgress, StreamProgress},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use crate::{
    engine::{Extra, Pass, RESYNC, Stall, Tri, Verdict},
    reconcile::{instant, number, place},
};

/// A follower is synced when it is no further behind than this, or than two of its tasks take.
const CLOSE_SECONDS: f64 = 120.0;

/// The status of a ChainSync that a human has to mend: what runs from before is still shown.
pub(super) fn stalled(sync: &ChainSync, progress: &ChainSyncProgress, stall: Stall) -> Pass<ChainSyncStatus> {
    let mut status = of(sync, progress);
    status.semantics = sync.status.as_ref().and_then(|s| s.semantics);
    // What the ChainSync names is often applied with it, a moment later.
    let patience = Duration::from_secs(if stall.reason == DEPENDENCY_MISSING { 2 } else { 0 });
    Pass { status, extra: suspended(sync), patience, ..Pass::of(Verdict::Stalled(stall)) }
}

/// The status of a ChainSync whose WorkerPool or Datasets are a moment younger than itself.
pub(super) fn early(sync: &ChainSync, progress: &ChainSyncProgress) -> Pass<ChainSyncStatus> {
    let message = "waits for its WorkerPool and Datasets to be reconciled".to_owned();
    let mut status = of(sync, progress);
    status.semantics = sync.status.as_ref().and_then(|s| s.semantics);
    Pass {
        status,
        extra: suspended(sync),
        // Their rows are announced; this is for a lost word.
        again: Duration::from_secs(5),
        patience: Duration::from_secs(30),
        ..Pass::of(Verdict::Progressing { message })
    }
}

/// Why Datasets of others keep a ChainSync from starting.
pub(super) fn conflict(sync: &ChainSync, wanted: &Owner, conflicts: &[Conflict]) -> Option<Stall> {
    let first = conflicts.first()?;
    let outputs = wanted.jobs.iter().flat_map(|j| &j.outputs);
    let kind = outputs.clone().find(|o| o.dataset_id == first.dataset_id)?.name.clone();
    let (path, dataset) = sync.spec.streams.iter().enumerate().find_map(|(n, s)| {
        let at = s.outputs.iter().position(|o| {
            let ids = wanted.jobs.get(n).into_iter().flat_map(|j| &j.outputs);
            ids.into_iter().any(|w| w.dataset_id == first.dataset_id && w.name == o.kind.as_str())
        })?;
        Some((format!("spec.streams[{n}].outputs[{at}].datasetRef"), s.outputs[at].dataset_ref.name.clone()))
    })?;
    let (holder, name, job) = (&first.holder.owner_kind, &first.holder.owner_name, &first.holder.job);
    Some(Stall::new(
        PRODUCER_CONFLICT,
        format!(
            "{path}: Dataset {dataset} is produced by {holder} {name} ({job}); write {kind} to another Dataset, or remove it there: \
             this ChainSync then takes it over by itself"
        ),
    ))
}

/// What the ChainSync says of itself. One that stands still is looked at ever more rarely: what moves is announced.
pub(super) fn pass(
    sync: &ChainSync,
    wanted: &Owner,
    progress: &ChainSyncProgress,
    at_rest: Duration,
) -> Pass<ChainSyncStatus> {
    let (_, name) = place(sync);
    let mut status = of(sync, progress);
    status.semantics = wanted.jobs.first().map(|j| i64::from(j.semantics));
    let synced = synced(sync, progress);
    let caught_up = synced.status == Tri::True;
    let mut extra = vec![synced];
    extra.extend(suspended(sync));
    let verdict = problem(&name, progress).map_or_else(
        || Verdict::Ready {
            message: format!("ChainSync {name} is accepted; {} streams are planned", wanted.jobs.len()),
        },
        Verdict::Stalled,
    );
    Pass {
        status,
        extra,
        again: if caught_up { RESYNC } else { at_rest.clamp(Duration::from_secs(30), RESYNC) },
        // People watch a chain catch up; what follows the head closely is no news.
        spacing: Duration::from_secs(if caught_up { 60 } else { 5 }),
        ..Pass::of(verdict)
    }
}

fn suspended(sync: &ChainSync) -> Vec<Extra> {
    let text = "nothing new is planned; tasks that run may finish";
    let condition = || Extra::new(SUSPENDED, Tri::True, SUSPENDED_BY_SPEC, text);
    sync.spec.suspend.then(condition).into_iter().collect()
}

fn problem(name: &str, progress: &ChainSyncProgress) -> Option<Stall> {
    if let Some(fork) = progress.border_conflicts.first() {
        let (below, above) = (hex::encode(&fork.below_hash), hex::encode(&fork.above_parent_hash));
        return Some(Stall::new(
            FORK_AT_BORDER,
            format!(
                "ChainSync {name}: the ranges that meet at block {} do not link: below ends with 0x{below}, above begins after 0x{above}; \
                 check the providers, then refetch the range that is wrong",
                fork.height
            ),
        ));
    }
    let failed: Vec<_> = progress.streams.iter().filter(|s| s.failed > 0).collect();
    if failed.is_empty() {
        return None;
    }
    let streams: Vec<_> = failed.iter().map(|s| format!("{} ({})", s.name, s.failed)).collect();
    let newest = progress.problems.iter().find(|p| p.failed);
    let newest = newest.map_or(String::new(), |p| {
        format!("; the newest, blocks {} to {}: {}", p.range.start(), p.range.end(), p.message)
    });
    Some(Stall::new(
        TASKS_FAILED,
        format!(
            "ChainSync {name}: tasks are out of attempts in stream {}{newest}. Other tasks go on; remove the cause, then edit the ChainSync, or suspend and resume it: failed tasks start over",
            streams.join(", ")
        ),
    ))
}

fn synced(sync: &ChainSync, progress: &ChainSyncProgress) -> Extra {
    let all = progress.streams.len() == sync.spec.streams.len() && !progress.streams.is_empty();
    let behind: Vec<_> = progress.streams.iter().filter(|s| !close(s)).map(|s| s.name.as_str()).collect();
    if !all || !behind.is_empty() {
        let text = if behind.is_empty() {
            "not planned yet".into()
        } else {
            format!("behind: {}", behind.join(", "))
        };
        return Extra::new(SYNCED, Tri::False, CATCHING_UP, text);
    }
    match &sync.spec.mode {
        Mode::FixedTarget(t) => Extra::new(
            SYNCED,
            Tri::True,
            TARGET_REACHED,
            format!("blocks {} to {} are committed", t.from, t.to),
        ),
        Mode::FollowHead(_) => {
            Extra::new(SYNCED, Tri::True, FOLLOWING, "every stream is close to its target")
        }
    }
}

/// Whether a stream has reached its target, or follows it closely: what it lacks is made up within the allowed time.
fn close(stream: &StreamProgress) -> bool {
    if stream.follows && stream.head.is_none() {
        return false;
    }
    if stream.cursor >= stream.target_end {
        return true;
    }
    let allowed = CLOSE_SECONDS.max(2.0 * stream.median_task_seconds.unwrap_or(0.0));
    let missing = stream.target_end - stream.cursor;
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = missing as f64 / stream.blocks_per_second;
    stream.follows && stream.blocks_per_second > 0.0 && seconds <= allowed && stream.failed == 0
}

fn of(sync: &ChainSync, progress: &ChainSyncProgress) -> ChainSyncStatus {
    // In the order of the spec, so that nothing moves without a reason.
    let named = sync.spec.streams.iter().filter_map(|s| progress.streams.iter().find(|p| p.name == s.name));
    let streams: Vec<_> = named.map(stream).collect();
    let lowest = streams.iter().min_by_key(|s| s.cursor);
    ChainSyncStatus {
        head: progress.streams.iter().filter_map(|s| s.head).max().map(number),
        progress: lowest.map(|s| format!("{}/{}", s.cursor, s.target.unwrap_or(s.cursor))),
        streams,
        problems: progress.problems.iter().take(8).map(problem_of).collect(),
        ..ChainSyncStatus::default()
    }
}

fn problem_of(p: &dagwright_state::status::StreamProblem) -> Problem {
    Problem {
        stream: p.stream.clone(),
        range: Range { start: number(p.range.start()), end: number(p.range.end()) },
        message: format!("{}: {}", p.reason, p.message).chars().take(1024).collect(),
        attempts: i64::from(p.attempts),
        at: instant(p.at),
    }
}

fn stream(s: &StreamProgress) -> StreamStatus {
    let missing = s.target_end.saturating_sub(s.cursor);
    // Two digits are enough for people, and spare writes.
    let speed = if missing > 0 && s.blocks_per_second > 0.0 { rounded(s.blocks_per_second) } else { None };
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "an estimate")]
    let eta = speed.and_then(|_| {
        let seconds = (missing as f64 / s.blocks_per_second).min(1e9) as i64;
        Timestamp::from_second(Timestamp::now().as_second() / 60 * 60 + seconds / 60 * 60 + 60).ok()
    });
    StreamStatus {
        name: s.name.clone(),
        cursor: number(s.cursor),
        target: (!s.follows || s.head.is_some()).then(|| number(s.target_end)),
        in_flight: number(s.in_flight),
        failed: number(s.failed),
        blocks_per_second: speed,
        eta_at: eta.map(Time),
    }
}

/// A speed with two significant digits; less than one is not shown.
#[expect(clippy::cast_possible_truncation, reason = "a speed fits")]
fn rounded(speed: f64) -> Option<i64> {
    let digits = 10f64.powf((speed.log10().floor() - 1.0).max(0.0));
    Some(((speed / digits).round() * digits) as i64).filter(|s| *s > 0)
}

#[cfg(test)]
mod tests {
    use dagwright_core::ids::JobId;

    use super::*;

    fn at(cursor: u64, target: u64, follows: bool) -> StreamProgress {
        StreamProgress {
            job_id: JobId(uuid::Uuid::nil()),
            name: "core".into(),
            suspended: false,
            follows,
            target_start: 0,
            target_end: target,
            cursor,
            head: follows.then_some(target),
            head_at: None,
            in_flight: 0,
            failed: 0,
            blocks_per_second: 1.0,
            median_task_seconds: Some(10.0),
        }
    }

    #[test]
    fn a_fixed_target_is_reached_or_not_and_a_followed_one_may_be_close() {
        assert!(close(&at(100, 100, false)));
        assert!(!close(&at(99, 100, false)));
        assert!(close(&at(0, 120, true)), "two minutes behind at its pace");
        assert!(!close(&at(0, 130, true)));
        assert!(!close(&StreamProgress { head: None, ..at(0, 0, true) }), "nothing is known of the head yet");
        let slow = StreamProgress { median_task_seconds: Some(100.0), ..at(0, 190, true) };
        assert!(close(&slow), "two of its tasks");
    }

    #[test]
    fn speeds_are_rounded_to_two_digits() {
        assert_eq!(rounded(1234.0), Some(1200));
        assert_eq!(rounded(7.4), Some(7));
        assert_eq!(rounded(0.2), None);
    }
}
