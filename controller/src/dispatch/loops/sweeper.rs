//! Objects that no pointer and no live attempt names: what attempts wrote that ended without a commit.

use std::collections::HashSet;

use dagwright_state::objects;
use uuid::Uuid;

use super::Outcome;
use crate::dispatch::Dispatcher;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let bucket = &dispatcher.args.data_bucket;
    let age = i64::try_from(dispatcher.args.sweep_age.as_secs()).unwrap_or(i64::MAX);
    let horizon = time::OffsetDateTime::now_utc().unix_timestamp().saturating_sub(age);
    let mut after: Option<String> = None;
    while !dispatcher.stop.is_cancelled() {
        let page = dispatcher.objects.list(bucket, after.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        let old = page.into_iter().filter(|o| o.written_unix < horizon).map(|o| o.key).collect();
        sweep(&dispatcher, bucket, old).await?;
    }
    Ok(())
}

async fn sweep(dispatcher: &Dispatcher, bucket: &str, keys: Vec<String>) -> Outcome {
    // Only what an attempt wrote is ours to judge: `{namespace}/v/{version}/{range}/{attempt}/{n}.parquet`.
    let ours: Vec<String> = keys.into_iter().filter(|key| attempt_of(key).is_some()).collect();
    if ours.is_empty() {
        return Ok(());
    }
    let mut tx = dispatcher.begin().await?;
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
