//! What the facts say about the promises. Pure.

mod data;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use super::{Asked, Facts, Partition, Violation};

pub(crate) use work::{always, shrunk};

/// Every promise that the facts of a round break whose work is over.
#[must_use]
pub fn judge(facts: &Facts, asked: &[Asked]) -> Vec<Violation> {
    let mut found = always(facts);
    found.extend(work::left(facts));
    found.extend(coverage(facts, asked));
    found.extend(data::stored(facts));
    found.extend(data::contents(facts));
    found.extend(statuses(facts, asked));
    found.extend(answers(facts, asked));
    found.extend(
        facts
            .orphans
            .iter()
            .map(|key| awaited("no orphan past the sweep age", format!("{key} has no pointer"))),
    );
    found
}

/// Must never be: once seen, it was.
fn broken(rule: &'static str, detail: impl Into<String>) -> Violation {
    Violation { rule, detail: detail.into(), lasting: true }
}

/// Must go within the round's patience: somebody still has to do something.
fn awaited(rule: &'static str, detail: impl Into<String>) -> Violation {
    Violation { rule, detail: detail.into(), lasting: false }
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
                None => found.push(awaited("nothing lost", format!("Dataset {dataset} serves no version"))),
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
        let times = times(facts, version);
        let at = |heights: Vec<u64>| brief(output, version, &heights);
        let lost: Vec<u64> = wanted.iter().copied().filter(|height| !times.contains_key(height)).collect();
        if !lost.is_empty() {
            found.push(awaited("nothing lost", at(lost)));
        }
        let beyond: Vec<u64> = times.keys().copied().filter(|height| !wanted.contains(height)).collect();
        if !beyond.is_empty() {
            found.push(awaited("nothing beyond what was asked for", at(beyond)));
        }
    }
    let served: BTreeSet<&str> = wanted.keys().map(|(version, _)| *version).collect();
    let unasked = facts.partitions.iter().filter(|p| !served.contains(p.version.as_str()));
    found.extend(unasked.map(|p| {
        awaited(
            "nothing beyond what was asked for",
            format!("no Dataset serves the version of {}", describe(p)),
        )
    }));
    let missing = facts.partitions.iter().filter(|p| p.missing);
    found.extend(missing.map(|p| {
        awaited("I4: a pointer names what is there", format!("marked as missing: {}", describe(p)))
    }));
    found
}

/// How often each height of a version is covered.
fn times(facts: &Facts, version: &str) -> BTreeMap<u64, u32> {
    let mut times = BTreeMap::new();
    for partition in facts.partitions.iter().filter(|p| p.version == version && p.current) {
        for height in partition.lower..partition.upper {
            *times.entry(height).or_default() += 1;
        }
    }
    times
}

fn brief(output: &str, version: &str, heights: &[u64]) -> String {
    format!("{output} ({version}): {} blocks, such as {:?}", heights.len(), &heights[..heights.len().min(8)])
}

fn describe(partition: &Partition) -> String {
    let Partition { version, output, lower, upper, revision, task, attempt, .. } = partition;
    format!(
        "{output} [{lower}, {upper}) revision {revision} of version {version}, task {task}, attempt {attempt}"
    )
}

fn statuses(facts: &Facts, asked: &[Asked]) -> Vec<Violation> {
    let mut found = vec![];
    for sync in asked {
        let name = format!("ChainSync/{}", sync.sync);
        let status = facts.statuses.get(&name).cloned().unwrap_or_default();
        for stream in status["streams"].as_array().into_iter().flatten() {
            let end = sync.range.1;
            if stream["cursor"].as_u64() != Some(end) || stream["target"].as_u64() != Some(end) {
                found.push(awaited(
                    "cursors are right",
                    format!("{name}: {stream}, and [{}, {end}) is committed", sync.range.0),
                ));
            }
            if stream["failed"].as_u64() != Some(0) || stream["inFlight"].as_u64() != Some(0) {
                found.push(awaited(
                    "status tells the truth",
                    format!("{name}: {stream}, and no task is left"),
                ));
            }
        }
        if status["streams"].as_array().is_none_or(Vec::is_empty) {
            found.push(awaited("cursors are right", format!("{name} shows no stream")));
        }
    }
    for (name, status) in &facts.statuses {
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let is = |kind: &str| conditions.iter().any(|c| c["type"] == kind && c["status"] == "True");
        if !is("Ready") || (name.starts_with("ChainSync/") && !is("Synced")) {
            found.push(awaited(
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
            other => found.push(awaited(
                "the query service serves the chain",
                format!("{dataset}: {other:?} rows and heights, the chain has {:?}", (rows, different)),
            )),
        }
    }
    found
}
