//! B1: trivial tasks end to end. Row, outbox, SQS, claim, commit; fences on; one Postgres, one dispatcher, one worker process.

use std::time::Duration;

use crate::{
    load::{self, Load, Running},
    report::Measurement,
    rig::Rig,
};

pub(crate) async fn run(rig: &Rig) -> anyhow::Result<Vec<Measurement>> {
    Ok(load::results("B1 ", measured(rig).await?))
}

/// The runs, measured by whoever asks first.
pub(crate) async fn measured(rig: &Rig) -> anyhow::Result<&[Load]> {
    let runs = async {
        let mut loads = Vec::new();
        for n in 1..=rig.options.runs {
            let load = once(rig).await?;
            eprintln!("B1 run {n}: {:.0} tasks/s", load.rate);
            loads.push(load);
        }
        anyhow::Ok(loads)
    };
    Ok(rig.b1.get_or_try_init(|| Box::pin(runs)).await?)
}

/// One run on an empty database.
pub(crate) async fn once(rig: &Rig) -> anyhow::Result<Load> {
    let db = rig.parts.postgres.fresh_state().await?;
    let mut running = Running::start(rig, &db, None).await?;
    let load = running.measure(Duration::from_secs(rig.options.seconds)).await?;
    running.drain(rig).await?;
    db.close().await;
    Ok(load)
}
