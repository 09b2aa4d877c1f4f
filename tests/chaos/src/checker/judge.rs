//! What the facts say about the promises. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Asked, Facts, Partition, Violation};

/// Every promise that the facts break.
#[must_use]
pub fn judge(facts: &Facts, asked: &[Asked]) -> Vec<Violation> {
    let mut found = vec![];
    found.extend(coverage(facts, asked));
    found.extend(tasks(facts));
    found.extend(attempts(facts));
    found.extend(pointers(facts));
    found.extend(contents(facts));
    found.extend(statuses(facts, asked));
    found.extend(answers(facts, asked));
    found.extend(
        facts
            .orphans
            .iter()
            .map(|key| broken("no orphan past the sweep age", format!("{key} has no pointer"))),
    );
    found
}

fn broken(rule: &'static str, detail: impl Into<String>) -> Violation {
    Violation { rule, detail: detail.into() }
}

/// Heights by (version, output).
type Wanted<'a> = BTreeMap<(&'a str, &'a str), BTreeSet<u64>>;

/// Heights that each version is to cover: syncs of one computation share a version.
fn wanted<'a>(facts: &'a Facts, asked: &'a [Asked]) -> (Wanted<'a>, Vec<Violation>) {
    let (mut wanted, mut found) = (BTreeMap::<_, BTreeSet<u64>>::new(), vec![]);
    for sync in asked {
        for (output, dataset) in &sync.outputs {
            match facts.datasets.get(dataset) {
                Some(version) => wanted
                    .entry((version.as_str(), output.as_str()))
                    .or_default()
                    .extend(sync.range.0..sync.range.1),
                None => found.push(broken("nothing lost", format!("Dataset {dataset} serves no version"))),
            }
        }
    }
    (wanted, found)
}

fn coverage(facts: &Facts, asked: &[Asked]) -> Vec<Violation> {
    let (wanted, mut found) = wanted(facts, asked);
    let mut outputs = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (version, output) in wanted.keys() {
        outputs.entry(*output).or_default().insert(*version);
    }
    found.extend(outputs.iter().filter(|(_, versions)| versions.len() > 1).map(|(output, versions)| {
        broken(
            "nothing twice",
            format!("one computation of {output} has {} versions: {versions:?}", versions.len()),
        )
    }));
    for ((version, output), wanted) in &wanted {
        let mut times = BTreeMap::<u64, u32>::new();
        let ours = facts.partitions.iter().filter(|p| p.version == *version && p.current);
        for partition in ours {
            for height in partition.lower..partition.upper {
                *times.entry(height).or_default() += 1;
            }
        }
        let at = |heights: Vec<u64>| {
            format!(
                "{output} ({version}): {} blocks, such as {:?}",
                heights.len(),
                &heights[..heights.len().min(8)]
            )
        };
        let lost: Vec<u64> = wanted.iter().copied().filter(|height| !times.contains_key(height)).collect();
        if !lost.is_empty() {
            found.push(broken("nothing lost", at(lost)));
        }
        let twice: Vec<u64> =
            times.iter().filter(|(_, times)| **times > 1).map(|(height, _)| *height).collect();
        if !twice.is_empty() {
            found.push(broken("I10: no block covered twice", at(twice)));
        }
        let beyond: Vec<u64> = times.keys().copied().filter(|height| !wanted.contains(height)).collect();
        if !beyond.is_empty() {
            found.push(broken("nothing beyond what was asked for", at(beyond)));
        }
    }
    let again = facts.partitions.iter().filter(|p| p.revision != 1 || !p.current);
    found.extend(
        again.map(|p| broken("I11: nothing was invalidated, so no range has two revisions", describe(p))),
    );
    let missing = facts.partitions.iter().filter(|p| p.missing);
    found.extend(
        missing.map(|p| {
            broken("I4: a pointer names what is there", format!("marked as missing: {}", describe(p)))
        }),
    );
    found
}

fn describe(partition: &Partition) -> String {
    let Partition { version, output, lower, upper, revision, task, attempt, .. } = partition;
    format!(
        "{output} [{lower}, {upper}) revision {revision} of version {version}, task {task}, attempt {attempt}"
    )
}

fn tasks(facts: &Facts) -> Vec<Violation> {
    let mut found: Vec<Violation> = vec![];
    found.extend(
        facts.live.iter().map(|(task, what)| broken("I9: every task ends", format!("task {task}: {what}"))),
    );
    let live: BTreeSet<&str> = facts.live.iter().map(|(task, _)| task.as_str()).collect();
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
    if facts.outbox > 0 && facts.live.is_empty() {
        found.push(broken(
            "I5: exactly queued tasks have an outbox row",
            format!("{} rows and no task", facts.outbox),
        ));
    }
    found
}

fn attempts(facts: &Facts) -> Vec<Violation> {
    let mut found = vec![];
    let mut by_task = BTreeMap::<&str, Vec<&super::Attempt>>::new();
    for attempt in &facts.attempts {
        by_task.entry(&attempt.task).or_default().push(attempt);
    }
    let live: BTreeSet<&str> = facts.live.iter().map(|(task, _)| task.as_str()).collect();
    for finished in &facts.finished {
        let task = finished.task.as_str();
        let attempts = by_task.get(task).cloned().unwrap_or_default();
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
        if of("Running") > 0 && !live.contains(task) {
            found.push(broken(
                "I8: exactly running tasks have a lease",
                format!("finished task {task} has a running attempt"),
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

fn pointers(facts: &Facts) -> Vec<Violation> {
    let completed: BTreeMap<&str, &str> = facts
        .finished
        .iter()
        .filter(|finished| finished.state == "Completed")
        .map(|finished| (finished.task.as_str(), finished.attempt.as_str()))
        .collect();
    let mut found = vec![];
    for partition in &facts.partitions {
        if completed.get(partition.task.as_str()) != Some(&partition.attempt.as_str()) {
            found.push(broken(
                "I2: a commit is whole",
                format!("no completed task stands for {}", describe(partition)),
            ));
        }
        let rows: i64 = partition.objects.iter().map(|pointer| pointer.rows).sum();
        if rows != partition.rows {
            found.push(broken(
                "I2: a commit is whole",
                format!("its objects have {rows} of {} rows: {}", partition.rows, describe(partition)),
            ));
        }
        for pointer in &partition.objects {
            if !pointer.key.contains(&format!("/{}/", partition.attempt)) {
                found.push(broken(
                    "I3: the fence",
                    format!("{} is not of the attempt of {}", pointer.key, describe(partition)),
                ));
            }
            match facts.stored.get(&pointer.key) {
                None => found.push(broken(
                    "I4: a pointer names what is there",
                    format!("{} is not in the bucket", pointer.key),
                )),
                Some(bytes) if *bytes != pointer.bytes => found.push(broken(
                    "I4: with its size",
                    format!("{} has {bytes} bytes, its pointer says {}", pointer.key, pointer.bytes),
                )),
                Some(_) => {}
            }
        }
    }
    found
}

fn contents(facts: &Facts) -> Vec<Violation> {
    let mut found = vec![];
    for partition in &facts.partitions {
        let mut heights = BTreeMap::<u64, u64>::new();
        let mut hashes = BTreeMap::new();
        for pointer in &partition.objects {
            // An object that is not there is told above.
            let Some(content) = facts.contents.get(&pointer.key) else { continue };
            if content.sha256 != pointer.sha256
                || content.rows != pointer.rows
                || content.bytes != pointer.bytes
            {
                found.push(broken(
                    "I4: with its checksum",
                    format!(
                        "{}: {} rows, sha256 {}; its pointer says {} rows, {}",
                        pointer.key, content.rows, content.sha256, pointer.rows, pointer.sha256
                    ),
                ));
            }
            if content.writes > 1 {
                found.push(broken(
                    "an object is written once",
                    format!("{} has {} versions", pointer.key, content.writes),
                ));
            }
            for (height, rows) in &content.heights {
                *heights.entry(*height).or_default() += rows;
            }
            hashes.extend(content.hashes.clone());
        }
        if partition.objects.iter().any(|pointer| !facts.contents.contains_key(&pointer.key)) {
            continue;
        }
        for height in partition.lower..partition.upper {
            let Some(block) = facts.chain.get(&height) else {
                found.push(broken(
                    "nothing beyond the chain",
                    format!("block {height}: {}", describe(partition)),
                ));
                continue;
            };
            let (rows, wanted) = (heights.remove(&height).unwrap_or(0), block.rows(&partition.output));
            if rows != wanted {
                found.push(broken(
                    "the data is the chain's",
                    format!(
                        "block {height} has {wanted} rows on the chain and {rows} in {}",
                        describe(partition)
                    ),
                ));
            }
            if partition.output == "blocks" && hashes.get(&height) != Some(&block.hash) {
                found.push(broken(
                    "the data is the chain's",
                    format!(
                        "block {height} is {} on the chain and {:?} in {}",
                        block.hash,
                        hashes.get(&height),
                        describe(partition)
                    ),
                ));
            }
        }
        if let Some(height) = heights.keys().next() {
            found.push(broken(
                "a partition holds its range alone",
                format!("block {height} lies in {}", describe(partition)),
            ));
        }
    }
    found
}

fn statuses(facts: &Facts, asked: &[Asked]) -> Vec<Violation> {
    let mut found = vec![];
    for sync in asked {
        let name = format!("ChainSync/{}", sync.sync);
        let status = facts.statuses.get(&name).cloned().unwrap_or_default();
        for stream in status["streams"].as_array().into_iter().flatten() {
            let end = sync.range.1;
            if stream["cursor"].as_u64() != Some(end) || stream["target"].as_u64() != Some(end) {
                found.push(broken(
                    "cursors are right",
                    format!("{name}: {stream}, and [{}, {end}) is committed", sync.range.0),
                ));
            }
            if stream["failed"].as_u64() != Some(0) || stream["inFlight"].as_u64() != Some(0) {
                found
                    .push(broken("status tells the truth", format!("{name}: {stream}, and no task is left")));
            }
        }
        if status["streams"].as_array().is_none_or(Vec::is_empty) {
            found.push(broken("cursors are right", format!("{name} shows no stream")));
        }
    }
    for (name, status) in &facts.statuses {
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let is = |kind: &str| conditions.iter().any(|c| c["type"] == kind && c["status"] == "True");
        if !is("Ready") || (name.starts_with("ChainSync/") && !is("Synced")) {
            found.push(broken(
                "status tells the truth",
                format!("{name} is whole and says {}", status["conditions"]),
            ));
        }
    }
    found
}

/// What an analyst reads is what the chain says.
fn answers(facts: &Facts, asked: &[Asked]) -> Vec<Violation> {
    let (wanted, mut found) = wanted(facts, asked);
    for (output, dataset) in asked.iter().flat_map(|sync| &sync.outputs) {
        let Some(heights) =
            facts.datasets.get(dataset).and_then(|v| wanted.get(&(v.as_str(), output.as_str())))
        else {
            continue;
        };
        let of = |height: &u64| facts.chain.get(height).map_or(0, |block| block.rows(output));
        let rows = heights.iter().map(of).sum();
        let different = heights.iter().filter(|height| of(height) > 0).count() as u64;
        match facts.queried.get(dataset) {
            Some(found) if *found == (rows, different) => {}
            other => found.push(broken(
                "the query service serves the chain",
                format!("{dataset}: {other:?} rows and heights, the chain has {:?}", (rows, different)),
            )),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{Attempt, Block, Content, Finished, Pointer};
    use super::*;

    /// Two partitions of blocks, all right.
    fn whole() -> (Facts, Vec<Asked>) {
        let mut facts = Facts::default();
        for height in 0..4 {
            let block = Block { hash: format!("0x{height}"), transactions: 0, logs: 0 };
            facts.chain.insert(height, block);
        }
        facts.datasets.insert("chain-blocks".into(), "v".into());
        facts.queried.insert("chain-blocks".into(), (4, 4));
        for (task, lower) in [("t0", 0_u64), ("t2", 2)] {
            let (attempt, key) = (format!("a-{task}"), format!("ns/v/v/r/a-{task}/0.parquet"));
            let pointer = Pointer { key: key.clone(), bytes: 10, sha256: "s".into(), rows: 2 };
            facts.stored.insert(key.clone(), 10);
            facts.contents.insert(
                key,
                Content {
                    sha256: "s".into(),
                    bytes: 10,
                    rows: 2,
                    heights: (lower..lower + 2).map(|height| (height, 1)).collect(),
                    hashes: (lower..lower + 2).map(|height| (height, format!("0x{height}"))).collect(),
                    writes: 1,
                },
            );
            facts.partitions.push(Partition {
                version: "v".into(),
                output: "blocks".into(),
                lower,
                upper: lower + 2,
                revision: 1,
                current: true,
                rows: 2,
                task: task.into(),
                attempt: attempt.clone(),
                objects: vec![pointer],
                ..Partition::default()
            });
            facts.finished.push(Finished {
                task: task.into(),
                state: "Completed".into(),
                attempt: attempt.clone(),
                max_attempts: 3,
            });
            let state = "Succeeded".to_owned();
            facts.attempts.push(Attempt { task: task.into(), id: attempt, number: 1, state });
        }
        let conditions = serde_json::json!([{ "type": "Ready", "status": "True" }, { "type": "Synced", "status": "True" }]);
        let streams =
            serde_json::json!([{ "name": "core", "cursor": 4, "target": 4, "failed": 0, "inFlight": 0 }]);
        let status = serde_json::json!({ "conditions": conditions, "streams": streams });
        facts.statuses.insert("ChainSync/chain".into(), status);
        let outputs = vec![("blocks".to_owned(), "chain-blocks".to_owned())];
        (facts, vec![Asked { sync: "chain".into(), outputs, range: (0, 4) }])
    }

    #[test]
    fn a_whole_round_breaks_nothing() {
        let (facts, asked) = whole();
        assert_eq!(judge(&facts, &asked), []);
    }

    /// One thing wrong at a time; the word that must be said.
    #[test]
    fn every_wrong_is_told() {
        type Wrong = fn(&mut Facts);
        let wrongs: [(&str, Wrong); 26] = [
            ("nothing lost", |f| drop(f.partitions.pop())),
            ("nothing lost", |f| f.datasets.clear()),
            ("I10", |f| f.partitions[0].upper = 3),
            ("beyond what was asked", |f| f.partitions[1].upper = 5),
            ("I11", |f| f.partitions[0].revision = 2),
            ("I11", |f| f.partitions[0].current = false),
            ("marked as missing", |f| f.partitions[0].missing = true),
            ("I9", |f| f.live.push(("t9".into(), "Running".into()))),
            ("is both", |f| f.live.push(("t0".into(), "Queued".into()))),
            ("ended 2 times", |f| f.finished.push(f.finished[0].clone())),
            ("I5", |f| f.outbox = 1),
            ("2 successful", |f| {
                f.attempts.push(Attempt { number: 2, id: "b".into(), ..f.attempts[0].clone() });
            }),
            ("did not succeed", |f| f.attempts[0].id = "b".into()),
            ("I7", |f| {
                let spent = |number| Attempt {
                    number,
                    id: format!("e{number}"),
                    state: "Expired".into(),
                    ..f.attempts[0].clone()
                };
                let spent: Vec<Attempt> = (2..6).map(spent).collect();
                f.attempts.extend(spent);
            }),
            ("I8", |f| {
                f.attempts.push(Attempt { number: 2, state: "Running".into(), ..f.attempts[0].clone() });
            }),
            ("twice", |f| f.attempts.push(Attempt { state: "Expired".into(), ..f.attempts[0].clone() })),
            ("no completed task", |f| f.partitions[0].attempt = "other".into()),
            ("of 3 rows", |f| f.partitions[0].rows = 3),
            ("not in the bucket", |f| f.stored.clear()),
            ("its pointer says 10", |f| f.stored.values_mut().for_each(|bytes| *bytes = 9)),
            ("with its checksum", |f| f.contents.values_mut().for_each(|c| c.sha256 = "x".into())),
            ("2 versions", |f| f.contents.values_mut().for_each(|c| c.writes = 2)),
            ("0x1 on the chain", |f| {
                drop(f.contents.values_mut().next().unwrap().hashes.insert(1, "0xbad".into()));
            }),
            ("rows on the chain", |f| {
                f.contents.values_mut().next().unwrap().heights.insert(1, 2);
            }),
            ("past the sweep age", |f| f.orphans.push("k".into())),
            ("query service", |f| {
                f.queried.insert("chain-blocks".into(), (3, 3));
            }),
        ];
        for (word, wrong) in wrongs {
            let (mut facts, asked) = whole();
            wrong(&mut facts);
            let told = format!("{:?}", judge(&facts, &asked));
            assert!(told.contains(word), "{word}: {told}");
        }
    }

    #[test]
    fn a_wrong_status_is_told() {
        for (pointer, value, word) in [
            ("/streams/0/cursor", serde_json::json!(3), "cursors"),
            ("/streams/0/failed", serde_json::json!(1), "truth"),
            ("/conditions/1/status", serde_json::json!("False"), "truth"),
        ] {
            let (mut facts, asked) = whole();
            let status = facts.statuses.get_mut("ChainSync/chain").unwrap();
            *status.pointer_mut(pointer).unwrap() = value;
            assert!(format!("{:?}", judge(&facts, &asked)).contains(word), "{pointer}");
        }
    }

    #[test]
    fn two_versions_of_one_computation_are_told() {
        let (mut facts, mut asked) = whole();
        facts.datasets.insert("twin-blocks".into(), "w".into());
        asked.push(Asked {
            sync: "twin".into(),
            outputs: vec![("blocks".into(), "twin-blocks".into())],
            range: (0, 0),
        });
        assert!(format!("{:?}", judge(&facts, &asked)).contains("nothing twice"));
    }
}
