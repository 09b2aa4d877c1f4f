//! History's days are made ahead and dropped by age.

use dagwright_state::history;

use super::Outcome;
use crate::dispatch::Dispatcher;

/// Days that are there before they begin: time enough for people to see that making them fails.
const AHEAD: u32 = 3;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let made = history::prepare(&mut tx, AHEAD).await?;
    dagwright_state::commit(tx).await?;
    let age = time::Duration::try_from(dispatcher.args.history_retention).unwrap_or(time::Duration::MAX);
    let mut tx = dispatcher.begin().await?;
    let dropped = history::drop_older(&mut tx, age).await?;
    dagwright_state::commit(tx).await?;
    if !made.is_empty() || !dropped.is_empty() {
        tracing::info!(?made, ?dropped, "history's days");
    }
    Ok(())
}
