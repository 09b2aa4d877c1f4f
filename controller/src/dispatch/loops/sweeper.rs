//! I12: no object that is older than the sweep age lies without a pointer. What attempts wrote that ended without a commit
//! is deleted.

use std::{collections::HashSet, time::Duration};

use dagwright_aws::object_check::Listed;
use dagwright_state::objects;
use uuid::Uuid;

use super::Outcome;
use crate::dispatch::Dispatcher;

/// Listing a bucket costs a request per thousand objects: once an hour does for an age of a day.
const LONGEST_PERIOD: Duration = Duration::from_secs(3600);

/// Between two passes: an orphan outlives the sweep age by a quarter of it at most.
pub(super) fn period(sweep_age: Duration) -> Duration {
    (sweep_age / 4).clamp(Duration::from_millis(100), LONGEST_PERIOD)
}

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let bucket = &dispatcher.args.data_bucket;
    let age = i64::try_from(dispatcher.args.sweep_age.as_secs()).unwrap_or(i64::MAX);
    let horizon = time::OffsetDateTime::now_utc().unix_timestamp().saturating_sub(age);
    let mut after: Option<String> = None;
    while !dispatcher.stop.is_cancelled() {
        let page = dispatcher.objects.list(bucket, after.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        sweep(&dispatcher, bucket, due(page, horizon)).await?;
    }
    Ok(())
}

/// Keys of a page that are old enough. Only what an attempt wrote is ours to judge:
/// `{namespace}/v/{version}/{range}/{attempt}/{n}.parquet`.
fn due(page: Vec<Listed>, horizon: i64) -> Vec<String> {
    let old = page.into_iter().filter(|o| o.written_unix < horizon && attempt_of(&o.key).is_some());
    old.map(|o| o.key).collect()
}

async fn sweep(dispatcher: &Dispatcher, bucket: &str, ours: Vec<String>) -> Outcome {
    if ours.is_empty() {
        return Ok(());
    }
    let mut tx = dispatcher.begin().await?;
    // Leases first, pointers second (I4): an attempt that commits between the two still counts as live. The other way round it
    // would be neither pointed at nor live.
    let live: HashSet<Uuid> = objects::live_attempts(&mut tx).await?.into_iter().collect();
    let unpointed = objects::unpointed(&mut tx, &ours).await?;
    dagwright_state::commit(tx).await?;
    let dead: Vec<String> =
        unpointed.into_iter().filter(|key| attempt_of(key).is_some_and(|a| !live.contains(&a))).collect();
    for batch in dead.chunks(1000) {
        dispatcher.objects.delete(bucket, batch).await?;
        metrics::counter!("dagwright_objects_swept_total").increment(batch.len() as u64);
        tracing::info!(objects = batch.len(), "swept objects that no pointer names");
    }
    Ok(())
}

fn attempt_of(key: &str) -> Option<Uuid> {
    let parts: Vec<&str> = key.split('/').collect();
    match parts[..] {
        [_, "v", version, _, attempt, file] if file.ends_with(".parquet") => {
            version.parse::<Uuid>().ok()?;
            attempt.parse().ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_younger_than_the_age_or_not_ours_is_left_alone() {
        let id = "6f1c3d52-0000-4000-8000-000000000000";
        let key = |file: &str| format!("demo/v/{id}/000000000000_000000000099/{id}/{file}");
        let listed = |key: String, written_unix| Listed { key, written_unix };
        let page = vec![
            listed(key("0.parquet"), 99),
            listed(key("1.parquet"), 100),
            listed("demo/notes.parquet".into(), 1),
        ];
        assert_eq!(due(page, 100), [key("0.parquet")]);
    }

    #[test]
    fn passes_come_often_enough_for_the_age_and_no_oftener_than_they_cost() {
        assert_eq!(period(Duration::from_secs(86_400)), Duration::from_secs(3600));
        assert_eq!(period(Duration::from_secs(8)), Duration::from_secs(2));
        assert_eq!(period(Duration::ZERO), Duration::from_millis(100));
    }

    #[test]
    fn only_keys_of_attempts_are_swept() {
        let id = "6f1c3d52-0000-4000-8000-000000000000";
        assert_eq!(
            attempt_of(&format!("demo/v/{id}/000000000000_000000000099/{id}/0.parquet")),
            id.parse().ok()
        );
        assert_eq!(attempt_of(&format!("demo/v/{id}/x/{id}/0.csv")), None);
        assert_eq!(attempt_of("notes/readme.parquet"), None);
    }
}
