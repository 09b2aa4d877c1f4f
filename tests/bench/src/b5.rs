//! B5: B1 beside two libraries that run durable work on Postgres, on the same cluster, in one invocation.
//!
//! The libraries run in `dagwright-beside`. Turns alternate, so that a disturbance of the machine meets all of them.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use crate::{
    b1,
    load::{self, Load},
    process::{Process, Spec},
    report::Measurement,
    rig::Rig,
    stats::{self, number},
    usage::{Meter, Usage},
};

/// How long a library may take to begin, its migrations included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ways of the libraries, by their names as arguments and in results.
const WAYS: [(&str, &str); 3] =
    [("dbos-direct", "dbos direct"), ("dbos-queue", "dbos by queue"), ("graphile-worker", "graphile_worker")];

/// One run.
#[derive(Clone, Debug)]
struct Ran {
    rate: f64,
    tasks: f64,
    usage: Usage,
}

impl From<Load> for Ran {
    fn from(load: Load) -> Self {
        Self { rate: load.rate, tasks: load.tasks, usage: load.usage }
    }
}

pub(crate) async fn run(rig: &Rig) -> anyhow::Result<Vec<Measurement>> {
    let mut ours: Vec<Ran> = Vec::new();
    let mut theirs = WAYS.map(|_| Vec::<Ran>::new());
    for n in 1..=rig.options.runs {
        let load = b1::once(rig).await?;
        eprintln!("B5 run {n}: dagwright {:.0} tasks/s", load.rate);
        ours.push(load.into());
        for ((way, name), runs) in WAYS.iter().zip(&mut theirs) {
            let ran = library(rig, way).await.with_context(|| format!("run {name}"))?;
            eprintln!("B5 run {n}: {name} {:.0} tasks/s", ran.rate);
            runs.push(ran);
        }
    }
    Ok(results(&ours, &theirs))
}

fn results(ours: &[Ran], theirs: &[Vec<Ran>; 3]) -> Vec<Measurement> {
    let [direct, queued, graphile] = theirs;
    // Its queue stands for dbos: work that is handed over, claimed and committed, as ours is. A direct call hands nothing over.
    let named: [(&str, &[Ran]); 4] =
        [("dagwright", ours), ("dbos", queued), ("graphile_worker", graphile), ("dbos direct", direct)];
    let mut results: Vec<_> = named.into_iter().flat_map(|(name, runs)| of(name, runs)).collect();
    for (name, runs) in [("dbos", queued), ("dbos direct", direct), ("graphile_worker", graphile)] {
        let ratio = median(ours).zip(median(runs)).map(|(ours, theirs)| ours / theirs);
        results.extend(ratio.map(|r| Measurement::single(format!("dagwright to {name}"), "ratio", r)));
    }
    results
}

fn median(runs: &[Ran]) -> Option<f64> {
    stats::median(&runs.iter().map(|r| r.rate).collect::<Vec<_>>())
}

fn of(name: &str, runs: &[Ran]) -> Vec<Measurement> {
    let rates = runs.iter().map(|r| r.rate).collect();
    let mut results = vec![Measurement::median(format!("{name} tasks"), "tasks/s", rates)];
    results.extend(load::costs(&format!("{name} "), runs.iter().map(|r| (r.tasks, &r.usage))));
    results.into_iter().flatten().collect()
}

/// One run of a library on an empty database.
async fn library(rig: &Rig, way: &str) -> anyhow::Result<Ran> {
    let db = rig.parts.postgres.fresh("beside").await?;
    let url = rig.parts.postgres.url("postgres", "beside");
    let spec = Spec {
        name: "beside",
        program: &rig.binary("dagwright-beside"),
        args: vec![way.to_owned()],
        env: vec![("BESIDE_DATABASE_URL", url)],
        user: None,
    };
    let mut process = Process::start(spec, &rig.parts.dir)?;
    let processes = vec![("postgres", rig.parts.postgres.pid()), ("library", process.pid)];
    let meter = Meter { db: db.clone(), processes };
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let end = tokio::time::Instant::now() + PATIENCE;
    while told(&process).is_none_or(|(_, count)| count == 0) {
        process.check()?;
        anyhow::ensure!(tokio::time::Instant::now() < end, "no job was done within 60 s; {}", process.tail());
        tick.tick().await;
    }
    tokio::time::sleep(Duration::from_secs(rig.options.warmup_seconds)).await;
    let (before, from) = (meter.read().await?, told(&process).context("the library tells no count")?);
    tokio::time::sleep(Duration::from_secs(rig.options.seconds)).await;
    process.check()?;
    let (after, to) = (meter.read().await?, told(&process).context("the library tells no count")?);
    process.stop(Signal::SIGKILL, PATIENCE).await?;
    db.close().await;
    let tasks = number(to.1 - from.1);
    Ok(Ran { rate: tasks / (to.0 - from.0).as_secs_f64(), tasks, usage: after.since(&before) })
}

/// What the process last told: the time since 1970 and its count.
fn told(process: &Process) -> Option<(Duration, u64)> {
    parse(&process.tail())
}

fn parse(log: &str) -> Option<(Duration, u64)> {
    log.lines().rev().find_map(|line| {
        let (at, count) = line.split_once(' ')?;
        Some((Duration::from_nanos(at.parse().ok()?), count.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(rate: f64) -> Ran {
        Ran { rate, tasks: 10.0, usage: Usage { commits: 20.0, ..Usage::default() } }
    }

    #[test]
    fn the_three_names_are_there_and_its_queue_stands_for_dbos() {
        let results = results(&[ran(60.0)], &[vec![ran(10.0)], vec![ran(20.0)], vec![ran(30.0)]]);
        let value = |name: &str| results.iter().find(|m| m.name == name).map(|m| m.value);
        assert_eq!(value("dagwright tasks"), Some(60.0));
        assert_eq!(value("dbos tasks"), Some(20.0));
        assert_eq!(value("graphile_worker tasks"), Some(30.0));
        assert_eq!(value("dagwright to dbos"), Some(3.0));
        assert_eq!(value("dbos commits"), Some(2.0));
    }

    #[test]
    fn the_last_count_is_read_and_log_lines_are_passed_over() {
        assert_eq!(parse("1000 5\n2000 7\nwarning: slow\n"), Some((Duration::from_nanos(2000), 7)));
        assert_eq!(parse("nothing yet"), None);
    }
}
