//! What lies in the bucket is what the pointers name, and what the chain says.

use std::collections::BTreeMap;

use super::super::{Content, Facts, Partition, Pointer, Violation};
use super::{broken, describe};

/// Each pointer's object is there, with its size, under its own attempt.
pub(super) fn stored(facts: &Facts) -> Vec<Violation> {
    let mut found = vec![];
    for partition in &facts.partitions {
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

/// Each object holds what its pointer says, and each partition what the chain says.
pub(super) fn contents(facts: &Facts) -> Vec<Violation> {
    let mut found = vec![];
    for partition in &facts.partitions {
        for pointer in &partition.objects {
            // An object that is not there is told above.
            let Some(content) = facts.contents.get(&pointer.key) else { continue };
            found.extend(object(pointer, content));
        }
        if partition.objects.iter().all(|pointer| facts.contents.contains_key(&pointer.key)) {
            found.extend(blocks(facts, partition));
        }
    }
    found
}

fn object(pointer: &Pointer, content: &Content) -> Vec<Violation> {
    let mut found = vec![];
    let (said, is) =
        ((&pointer.sha256, pointer.rows, pointer.bytes), (&content.sha256, content.rows, content.bytes));
    if said != is {
        found.push(broken(
            "I4: with its checksum",
            format!("{}: sha256, rows and bytes are {is:?}, its pointer says {said:?}", pointer.key),
        ));
    }
    if content.writes > 1 {
        found.push(broken(
            "an object is written once",
            format!("{} has {} versions", pointer.key, content.writes),
        ));
    }
    found
}

fn blocks(facts: &Facts, partition: &Partition) -> Vec<Violation> {
    let mut found = vec![];
    let (mut heights, mut hashes) = (BTreeMap::<u64, u64>::new(), BTreeMap::new());
    for content in partition.objects.iter().filter_map(|pointer| facts.contents.get(&pointer.key)) {
        for (height, rows) in &content.heights {
            *heights.entry(*height).or_default() += rows;
        }
        hashes.extend(content.hashes.clone());
    }
    for height in partition.lower..partition.upper {
        let Some(block) = facts.chain.get(&height) else {
            found
                .push(broken("nothing beyond the chain", format!("block {height}: {}", describe(partition))));
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
    found
}
