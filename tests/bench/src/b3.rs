//! B3: B1 among old and queued tasks, and with an idle transaction that holds xmin back.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use sqlx::PgPool;

use crate::{
    b1,
    install::{Installation, Planned},
    load::{self, Load, Running},
    report::Measurement,
    rig::Rig,
    seed,
    sqs::Queue,
    stats,
};

pub(crate) async fn run(rig: &Rig) -> anyhow::Result<Vec<Measurement>> {
    let fresh = b1::measured(rig).await?;
    let (aged, held) = aged(rig).await?;
    let mut results = load::results("B3 ", &aged);
    results.extend(load::results("B3 xmin held ", std::slice::from_ref(&held)));
    let minutes = held.seconds.chunks(60).filter_map(stats::median).collect();
    results.extend(Measurement::median("B3 xmin held by minute", "tasks/s", minutes));
    let to_b1 = |name, loads: &[Load]| Some(Measurement::single(name, "ratio", load::ratio(loads, fresh)?));
    results.extend(to_b1("B3 ratio to B1", &aged));
    results.extend(to_b1("B3 xmin held ratio to B1", &[held]));
    Ok(results)
}

/// The runs without and the one with a transaction that holds xmin back, all on one seeded database.
async fn aged(rig: &Rig) -> anyhow::Result<(Vec<Load>, Load)> {
    let db = rig.parts.postgres.fresh_state().await?;
    let queue = Queue::create(&rig.parts.sqs.client(), "aged").await?;
    let mut installed = Installation::pool(&db, &queue.url, rig.options.slots).await?;
    // As many as B1 has: nothing but age is to differ.
    installed.add_streams(&db, rig.options.streams, &Value::Null, Planned::ByUs).await?;
    let began = Instant::now();
    eprintln!("B3 seeds {} finished and {} queued tasks", rig.options.finished, rig.options.queued);
    seed::seed(&db, &installed, rig.options.finished, rig.options.queued).await?;
    eprintln!("B3 seeded in {} s", began.elapsed().as_secs());

    let mut running = Running::start(rig, &db, Some((installed, queue))).await?;
    let mut loads = Vec::new();
    for n in 1..=rig.options.runs {
        let load = running.measure(Duration::from_secs(rig.options.seconds)).await?;
        eprintln!("B3 run {n}: {:.0} tasks/s", load.rate);
        loads.push(load);
    }
    let held = held(rig, &db, &mut running).await?;
    eprintln!("B3 with xmin held back: {:.0} tasks/s", held.rate);
    running.cut(rig, rig.options.queued).await?;
    db.close().await;
    Ok((loads, held))
}

async fn held(rig: &Rig, db: &PgPool, running: &mut Running) -> anyhow::Result<Load> {
    let mut idle = db.begin().await.context("begin a transaction that stays idle")?;
    // Repeatable read keeps its snapshot between statements; read committed would hold nothing while idle.
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *idle).await?;
    sqlx::query("SELECT count(*) FROM pools").execute(&mut *idle).await.context("take a snapshot")?;
    let load = running.measure(Duration::from_secs(rig.options.hold_seconds)).await?;
    let held: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND state = 'idle in transaction'
             AND now() - xact_start >= make_interval(secs => $1))",
    )
    .bind(stats::number(rig.options.hold_seconds))
    .fetch_one(db)
    .await
    .context("look whether xmin was held back")?;
    anyhow::ensure!(held, "no idle transaction held xmin back while the rate was measured");
    idle.rollback().await.context("end the idle transaction")?;
    Ok(load)
}
