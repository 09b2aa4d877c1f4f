//! What holds of tasks, attempts and commits. All of it is asked of Postgres in one snapshot, so most of it holds at any moment.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Attempt, Facts, Finished, Partition, Violation};
use super::{awaited, brief, broken, describe, times};

/// What must hold while work goes on as well.
pub(crate) fn always(facts: &Facts) -> Vec<Violation> {
    let mut found = tasks(facts);
    found.extend(messages(facts));
    found.extend(attempts(facts));
    found.extend(commits(facts));
    found.extend(coverage(facts));
    found
}

/// I11: what was covered stays covered.
pub(crate) fn shrunk(before: &Facts, after: &Facts) -> Vec<Violation> {
    let covers = |p: &Partition| (p.version.clone(), p.lower, p.upper, p.attempt.clone());
    let there: BTreeSet<_> = after.partitions.iter().filter(|p| p.current).map(covers).collect();
    let gone = before.partitions.iter().filter(|p| p.current && !there.contains(&covers(p)));
    gone.map(|p| {
        broken(
            "I11: coverage never shrinks",
            format!("committed, and gone at the next look: {}", describe(p)),
        )
    })
    .collect()
}

/// What is still to be done.
pub(super) fn left(facts: &Facts) -> Vec<Violation> {
    let told = facts.live.iter().map(|live| format!("task {}: {}", live.task, live.what));
    told.map(|detail| awaited("I9: every task ends", detail)).collect()
}

fn tasks(facts: &Facts) -> Vec<Violation> {
    let mut found = vec![];
    let live: BTreeSet<&str> = facts.live.iter().map(|live| live.task.as_str()).collect();
    let mut ends = BTreeMap::<&str, u32>::new();
    for finished in &facts.finished {
        *ends.entry(&finished.task).or_default() += 1;
        if live.contains(finished.task.as_str()) {
            found.push(broken("a task is live or finished", format!("task {} is both", finished.task)));
        }
    }
    found.extend(ends.iter().filter(|(_, ends)| **ends > 1).map(|(task, ends)| {
        broken("I1: at most one attempt commits a task", format!("task {task} ended {ends} times"))
    }));
    let lost: BTreeSet<&str> = facts.strays.iter().map(|attempt| attempt.task.as_str()).collect();
    found.extend(lost.iter().map(|task| {
        broken("nothing lost", format!("task {task} was tried, and is neither live nor finished"))
    }));
    found
}

fn messages(facts: &Facts) -> Vec<Violation> {
    let queued: BTreeSet<(&str, i64)> = facts
        .live
        .iter()
        .filter(|live| live.state == "Queued")
        .map(|live| (live.task.as_str(), live.attempt))
        .collect();
    let offered: BTreeSet<(&str, i64)> =
        facts.outbox.iter().map(|(task, attempt)| (task.as_str(), *attempt)).collect();
    let rule = "I5: exactly queued tasks have an outbox row";
    let silent = queued.difference(&offered).map(|(task, attempt)| {
        broken(rule, format!("task {task} is queued for attempt {attempt} without one"))
    });
    let idle = offered.difference(&queued).map(|(task, attempt)| {
        broken(rule, format!("one offers attempt {attempt} of task {task}, which is not queued for it"))
    });
    silent.chain(idle).collect()
}

fn attempts(facts: &Facts) -> Vec<Violation> {
    let mut found = vec![];
    let mut by_task = BTreeMap::<&str, Vec<&Attempt>>::new();
    for attempt in &facts.attempts {
        by_task.entry(&attempt.task).or_default().push(attempt);
    }
    for finished in &facts.finished {
        let attempts = by_task.get(finished.task.as_str()).map_or(&[][..], Vec::as_slice);
        found.extend(ended(finished, attempts));
    }
    for live in &facts.live {
        let attempts = by_task.get(live.task.as_str()).map_or(&[][..], Vec::as_slice);
        if attempts.iter().any(|attempt| attempt.state == "Succeeded") {
            found.push(broken(
                "I2: a commit is whole",
                format!("task {} has a successful attempt and is {}", live.task, live.what),
            ));
        }
    }
    let mut numbers = BTreeSet::new();
    for attempt in &facts.attempts {
        if !numbers.insert((&attempt.task, attempt.number)) {
            found.push(broken(
                "an ordinal is drawn once",
                format!("task {} has attempt {} twice", attempt.task, attempt.number),
            ));
        }
    }
    found
}

fn ended(finished: &Finished, attempts: &[&Attempt]) -> Vec<Violation> {
    let (mut found, task) = (vec![], &finished.task);
    let of = |state: &str| attempts.iter().filter(|a| a.state == state).count();
    let (succeeded, wanted) = (of("Succeeded"), usize::from(finished.state == "Completed"));
    if succeeded != wanted {
        found.push(broken(
            "I1: at most one attempt commits a task",
            format!("{} task {task} has {succeeded} successful attempts", finished.state),
        ));
    }
    if finished.state == "Completed"
        && !attempts.iter().any(|a| a.id == finished.attempt && a.state == "Succeeded")
    {
        found.push(broken(
            "I3: the fence",
            format!("task {task} was completed by attempt {}, which did not succeed", finished.attempt),
        ));
    }
    let spent = i64::try_from(of("Errored") + of("Expired")).unwrap_or(i64::MAX);
    if spent > finished.max_attempts {
        found.push(broken(
            "I7: attempts are spent within the maximum",
            format!("task {task} spent {spent} of {}", finished.max_attempts),
        ));
    }
    found
}

/// I2: a completed task has exactly one partition for each of its outputs, of its range and by its attempt; one that was cancelled has
/// none, and no partition is without its task.
fn commits(facts: &Facts) -> Vec<Violation> {
    let rule = "I2: a commit is whole";
    let (mut found, mut by_task) = (vec![], BTreeMap::<&str, Vec<&Partition>>::new());
    for partition in &facts.partitions {
        by_task.entry(&partition.task).or_default().push(partition);
        let rows: i64 = partition.objects.iter().map(|pointer| pointer.rows).sum();
        if rows != partition.rows {
            found.push(broken(
                rule,
                format!("its objects have {rows} of {} rows: {}", partition.rows, describe(partition)),
            ));
        }
    }
    for finished in facts.finished.iter().filter(|finished| finished.state == "Completed") {
        let partitions = by_task.remove(finished.task.as_str()).unwrap_or_default();
        let mut outputs: Vec<&str> = partitions.iter().map(|p| p.output.as_str()).collect();
        outputs.sort_unstable();
        let mut wanted: Vec<&str> = finished.outputs.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        let fits = |p: &&Partition| {
            p.attempt == finished.attempt && (p.lower, p.upper) == finished.range && p.revision == 1
        };
        if outputs != wanted || !partitions.iter().all(fits) {
            let has: Vec<String> = partitions.iter().map(|p| describe(p)).collect();
            found.push(broken(
                rule,
                format!(
                    "task {} completed {wanted:?} of {:?} by attempt {}, and has {has:?}",
                    finished.task, finished.range, finished.attempt
                ),
            ));
        }
    }
    found.extend(
        by_task
            .into_values()
            .flatten()
            .map(|partition| broken(rule, format!("no completed task stands for {}", describe(partition)))),
    );
    found
}

fn coverage(facts: &Facts) -> Vec<Violation> {
    let versions: BTreeMap<&str, &str> =
        facts.partitions.iter().map(|p| (p.version.as_str(), p.output.as_str())).collect();
    let mut found = vec![];
    for (version, output) in versions {
        let times = times(facts, version);
        let twice: Vec<u64> =
            times.iter().filter(|(_, times)| **times > 1).map(|(height, _)| *height).collect();
        if !twice.is_empty() {
            found.push(broken("I10: no block covered twice", brief(output, version, &twice)));
        }
    }
    let again = facts.partitions.iter().filter(|p| p.revision != 1 || !p.current);
    found.extend(
        again.map(|p| broken("I11: nothing was invalidated, so no range has two revisions", describe(p))),
    );
    found
}
