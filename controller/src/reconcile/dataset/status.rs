use std::time::Duration;

use dagwright_core::names::sql_name;
use dagwright_crds::{
    Dataset, DatasetStatus,
    conditions::{NOTHING_SERVED, OBJECT_MISSING, SERVING, VERSION_SERVED},
    dataset::{Producer, Range},
};

use super::observe::Observed;
use crate::{
    engine::{Extra, Pass, Stall, Tri, Verdict},
    reconcile::{instant, number, place},
};

/// What the Dataset says of itself.
pub(super) fn pass(dataset: &Dataset, seen: &Observed) -> Pass<DatasetStatus> {
    let (namespace, name) = place(dataset);
    let p = &seen.progress;
    let sql = sql_name(&namespace, &name);
    let status = DatasetStatus {
        uuid: Some(seen.id.to_string()),
        sql_name: Some(sql.clone()),
        served_version: p.served_version.map(|v| v.to_string()),
        producer: seen.producer.as_ref().map(|p| Producer {
            kind: p.owner_kind.clone(),
            name: p.owner_name.clone(),
            job: p.job.clone(),
        }),
        partitions: Some(number(p.partitions)),
        rows: Some(number(p.rows)),
        bytes: Some(number(p.bytes)),
        range: p.range.map(|r| Range { start: number(r.start()), end: number(r.end()) }),
        last_commit_at: p.last_commit_at.and_then(instant),
        ..DatasetStatus::default()
    };
    let serving = match p.served_version {
        Some(version) => {
            Extra::new(SERVING, Tri::True, VERSION_SERVED, format!("{sql} serves version {version}"))
        }
        None => Extra::new(SERVING, Tri::False, NOTHING_SERVED, format!("{sql} serves nothing yet")),
    };
    Pass {
        status,
        extra: vec![serving],
        // Rows grow by whole chunks; people watch them while a chain is copied.
        spacing: Duration::from_secs(5),
        // What is applied together with its producer says so at once instead of twice.
        patience: Duration::from_secs(if seen.is_awaited && seen.producer.is_none() { 30 } else { 0 }),
        ..Pass::of(verdict(&name, seen))
    }
}

fn verdict(name: &str, seen: &Observed) -> Verdict {
    let p = &seen.progress;
    if p.missing > 0 {
        let range = p
            .first_missing
            .map_or(String::new(), |r| format!(", the first with blocks {} to {}", r.start(), r.end()));
        return Verdict::Stalled(Stall::new(
            OBJECT_MISSING,
            format!(
                "{} committed partitions of Dataset {name} have lost an object{range}; restore it in the bucket, or refetch the range",
                p.missing
            ),
        ));
    }
    Verdict::Ready { message: format!("Dataset {name} is accepted") }
}
