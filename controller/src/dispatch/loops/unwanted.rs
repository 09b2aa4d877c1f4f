//! What suspended jobs had queued is marked for the reaper, so that nobody waits for it.

use dagwright_state::plan;

use super::Outcome;
use crate::dispatch::Dispatcher;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let mut all = 0;
    loop {
        let mut tx = dispatcher.begin().await?;
        let marked = plan::mark_suspended(&mut tx).await?;
        dagwright_state::commit(tx).await?;
        all += marked;
        if marked == 0 || dispatcher.stop.is_cancelled() {
            break;
        }
    }
    if all > 0 {
        tracing::info!(tasks = all, "asked for the end of tasks of suspended jobs");
    }
    Ok(())
}
