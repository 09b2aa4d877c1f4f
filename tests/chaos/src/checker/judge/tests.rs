use super::super::{Attempt, Block, Content, Finished, Live, Pointer};
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
            range: (lower, lower + 2),
            outputs: vec!["blocks".into()],
            max_attempts: 3,
        });
        let state = "Succeeded".to_owned();
        facts.attempts.push(Attempt { task: task.into(), id: attempt, number: 1, state });
    }
    let conditions =
        serde_json::json!([{ "type": "Ready", "status": "True" }, { "type": "Synced", "status": "True" }]);
    let streams =
        serde_json::json!([{ "name": "core", "cursor": 4, "target": 4, "failed": 0, "inFlight": 0 }]);
    let status = serde_json::json!({ "conditions": conditions, "streams": streams });
    facts.statuses.insert("ChainSync/chain".into(), status);
    let outputs = vec![("blocks".to_owned(), "chain-blocks".to_owned())];
    (facts, vec![Asked { sync: "chain".into(), outputs, range: (0, 4) }])
}

/// A task that waits for its second attempt, with its message.
fn queued(facts: &mut Facts) {
    let what = "Queued [4,6)".into();
    facts.live.push(Live { task: "t4".into(), state: "Queued".into(), attempt: 2, what });
    facts.outbox.push(("t4".into(), 2));
    facts.attempts.push(Attempt { task: "t4".into(), id: "a-t4".into(), number: 1, state: "Expired".into() });
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
    let wrongs: [(&str, Wrong); 34] = [
        ("nothing lost", |f| drop(f.partitions.pop())),
        ("nothing lost", |f| f.datasets.clear()),
        ("neither live nor finished", |f| {
            f.strays.push(Attempt { task: "t9".into(), ..f.attempts[0].clone() });
        }),
        ("I10", |f| f.partitions[0].upper = 3),
        ("beyond what was asked", |f| f.partitions[1].upper = 5),
        ("no Dataset serves", |f| {
            f.partitions.push(Partition { version: "other".into(), ..f.partitions[0].clone() });
        }),
        ("I11", |f| f.partitions[0].revision = 2),
        ("I11", |f| f.partitions[0].current = false),
        ("marked as missing", |f| f.partitions[0].missing = true),
        ("I9", queued),
        ("is both", |f| {
            queued(f);
            f.live[0].task = "t0".into();
        }),
        ("ended 2 times", |f| f.finished.push(f.finished[0].clone())),
        ("I5", |f| f.outbox.push(("t0".into(), 1))),
        ("I5", |f| {
            queued(f);
            f.outbox.clear();
        }),
        ("I5", |f| {
            queued(f);
            f.outbox[0].1 = 1;
        }),
        ("I5", |f| {
            queued(f);
            f.live[0].state = "Running".into();
        }),
        ("I2", |f| {
            queued(f);
            f.attempts[2].state = "Succeeded".into();
        }),
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
        ("twice", |f| f.attempts.push(Attempt { state: "Expired".into(), ..f.attempts[0].clone() })),
        ("I2", |f| f.partitions[0].attempt = "other".into()),
        ("I2", |f| f.partitions[0].lower = 1),
        // A commit that is not whole: another task covers the other output, so that no block is missing.
        ("I2", |f| f.finished[0].outputs.push("logs".into())),
        ("no completed task", |f| f.partitions[0].task = "t9".into()),
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

/// While work goes on only what must hold at any moment is asked.
#[test]
fn work_that_goes_on_breaks_nothing_and_loses_nothing() {
    let (before, _) = whole();
    let mut after = before.clone();
    queued(&mut after);
    assert_eq!(always(&after), []);
    assert_eq!(shrunk(&before, &after), []);
    after.partitions.remove(0);
    assert!(format!("{:?}", shrunk(&before, &after)).contains("I11"));
}

/// Patience is for what somebody still has to do: nothing that was seen broken is forgiven because it is right later.
#[test]
fn only_what_can_still_be_done_has_time() {
    let told = |wrong: fn(&mut Facts)| {
        let (mut facts, asked) = whole();
        wrong(&mut facts);
        judge(&facts, &asked)
    };
    assert!(told(|f| f.partitions[0].upper = 3).iter().any(|violation| violation.lasting));
    assert!(told(|f| f.stored.clear()).iter().any(|violation| violation.lasting));
    assert!(told(queued).iter().all(|violation| !violation.lasting));
    assert!(told(|f| f.orphans.push("k".into())).iter().all(|violation| !violation.lasting));
    assert!(told(|f| f.statuses.clear()).iter().all(|violation| !violation.lasting));
}
