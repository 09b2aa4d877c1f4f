//! Candidates that cover what is served take its place.

use dagwright_state::serve;

use super::Outcome;
use crate::dispatch::Dispatcher;

pub(super) async fn pass(dispatcher: Dispatcher) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let owners = serve::candidates(&mut tx).await?;
    dagwright_state::commit(tx).await?;
    let quarantine = &dispatcher.quarantines.cutover;
    for owner in owners {
        let name = format!("{} {}/{}", owner.kind, owner.namespace, owner.name);
        if quarantine.admits(&name) {
            match flip(&dispatcher, &owner).await {
                Err(error) if error.is_of_all() => return Err(error),
                outcome => quarantine.note(&name, outcome),
            }
        }
    }
    Ok(())
}

async fn flip(dispatcher: &Dispatcher, owner: &serve::Owner) -> Outcome {
    let mut tx = dispatcher.begin().await?;
    let moved = serve::flip(&mut tx, owner).await?;
    dagwright_state::commit(tx).await?;
    if moved > 0 {
        metrics::counter!("dagwright_cutovers_total").increment(1);
        tracing::info!(
            namespace = owner.namespace,
            kind = owner.kind,
            owner = owner.name,
            datasets = moved,
            "cut over"
        );
    }
    Ok(())
}
