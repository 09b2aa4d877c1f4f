//! Committed objects are looked at, slowly and for ever. A missing one is marked, and shown; it is never made again in silence.

use dagwright_aws::object_check::Stored;
use dagwright_state::objects::{self, CheckedPartition};
use futures::{StreamExt as _, stream};

use super::Outcome;
use crate::dispatch::Dispatcher;

/// Partitions that are looked at side by side.
const LOOKS: usize = 8;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let age = time::Duration::try_from(dispatcher.args.object_check_age).unwrap_or(time::Duration::MAX);
    // The pass comes every two seconds.
    let limit = dispatcher.args.object_checks_per_second.saturating_mul(2);
    let mut tx = dispatcher.begin().await?;
    let partitions = objects::partitions_to_check(&mut tx, age, limit).await?;
    dagwright_state::commit(tx).await?;
    let looks = partitions.into_iter().map(|partition| check(dispatcher.clone(), partition));
    let outcomes: Vec<_> = stream::iter(looks).buffer_unordered(LOOKS).collect().await;
    outcomes.into_iter().collect()
}

async fn check(dispatcher: Dispatcher, partition: CheckedPartition) -> Outcome {
    let missing = is_missing(&dispatcher, &partition).await?;
    let mut tx = dispatcher.begin().await?;
    let news = objects::mark_missing(&mut tx, partition.partition_id, missing).await?;
    dagwright_state::commit(tx).await?;
    if news {
        let first = partition.objects.first().map_or("", |(_, key, _)| key);
        tracing::warn!(
            partition = partition.partition_id,
            key = first,
            missing,
            "a committed object changed its presence"
        );
    }
    Ok(())
}

async fn is_missing(dispatcher: &Dispatcher, partition: &CheckedPartition) -> Result<bool, super::LoopError> {
    for (bucket, key, bytes) in &partition.objects {
        match dispatcher.objects.look(bucket, key).await? {
            // Another size is another object: what was committed is gone.
            Some(Stored { bytes: found, .. }) if found == *bytes => {}
            Some(_) | None => return Ok(true),
        }
    }
    Ok(false)
}
