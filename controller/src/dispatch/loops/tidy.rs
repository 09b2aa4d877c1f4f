//! What nobody needs any more goes.

use dagwright_state::tidy;

use super::Outcome;
use crate::dispatch::Dispatcher;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let jobs = tidy::removed_jobs(&mut tx).await?;
    dagwright_state::commit(tx).await?;
    let mut tx = dispatcher.begin().await?;
    let messages = tidy::lost_messages(&mut tx).await?;
    dagwright_state::commit(tx).await?;
    if jobs > 0 {
        tracing::info!(jobs, "deleted jobs that were removed and left nothing");
    }
    if messages > 0 {
        metrics::counter!("dagwright_outbox_without_task_total").increment(messages);
        tracing::error!(messages, "deleted messages without a task, which no transaction should leave (I5)");
    }
    Ok(())
}
