//! History's days are made ahead and dropped by age.

use dagwright_state::history;

use super::{LoopError, Outcome};
use crate::dispatch::Dispatcher;

/// Days that are there before they begin: time enough for people to see that making them fails.
const AHEAD: u32 = 3;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    for table in history::TABLES {
        match see_to(&dispatcher, table).await {
            Err(LoopError::State(error)) if error.category() == "busy" => {
                metrics::counter!("dagwright_history_busy_total").increment(1);
                tracing::info!(table, "history is in use, its days are seen to in some minutes");
            }
            outcome => outcome?,
        }
    }
    Ok(())
}

async fn see_to(dispatcher: &Dispatcher, table: &str) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let made = history::prepare(&mut tx, table, AHEAD).await?;
    dagwright_state::commit(tx).await?;
    let age = time::Duration::try_from(dispatcher.args.history_retention).unwrap_or(time::Duration::MAX);
    let mut tx = dispatcher.begin().await?;
    let dropped = history::drop_older(&mut tx, table, age).await?;
    dagwright_state::commit(tx).await?;
    if !made.is_empty() || !dropped.is_empty() {
        tracing::info!(table, ?made, ?dropped, "history's days");
    }
    Ok(())
}
