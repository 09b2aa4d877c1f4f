//! What suspended jobs had queued is marked for the reaper, so that nobody waits for it.

use dagwright_state::plan;

use super::Outcome;
use crate::dispatch::Dispatcher;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    while !dispatcher.stop.is_cancelled() {
        let mut tx = dispatcher.begin().await?;
        let marked = plan::mark_suspended(&mut tx).await?;
        dagwright_state::commit(tx).await?;
        if marked == 0 {
            break;
        }
        tracing::info!(tasks = marked, "asked for the end of tasks of suspended jobs");
    }
    Ok(())
}
