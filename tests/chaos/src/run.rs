//! Rounds: ask for work, let things go wrong, heal, wait until all is done, judge, clear away.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use dagwright_cli::paths;
use dagwright_e2e::{World, stack::dagwright_on};
use futures::future::join_all;

use crate::{
    checker::{Asked, Asking, Facts, Gatherer, Violation, judge, settled},
    inject::{Injector, all_healthy},
    patience::{until, until_ok},
    proxy::Proxy,
    report::{Checked, Report, Round},
    schedule,
    workload::{self, Workload},
};

/// How to run.
#[derive(Clone, Debug)]
pub struct Config {
    pub stack: String,
    pub seed: u64,
    /// First round; earlier ones are skipped, so that a late round can be repeated alone.
    pub first_round: u32,
    /// No round begins after so many, or so long.
    pub rounds: u32,
    pub length: Duration,
    /// Faults of a round, and for how long they begin.
    pub faults: usize,
    pub faults_for: Duration,
    /// Nothing moved for so long: the round is stuck.
    pub patience: Duration,
    /// Goes on after a round that broke a promise, in a namespace of its own as ever.
    pub keep_going: bool,
}

/// Old enough for every attempt of 60 s to have ended, and young enough to see it happen.
const SWEEP_AGE: Duration = Duration::from_secs(240);
/// A quarter of the age between two passes, and one of them may fail.
const SWEEP_SLACK: Duration = Duration::from_secs(150);
/// A round that always moves and never ends is stuck as well.
const ROUND_MOST: Duration = Duration::from_secs(45 * 60);

/// A stack under chaos.
pub struct Chaos {
    world: World,
    proxy: Proxy,
    gatherer: Gatherer,
}

impl Chaos {
    /// Starts a new stack; one of that name is removed.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(stack: &str, proxy: &Path) -> anyhow::Result<Self> {
        down(stack, &["--purge"])?;
        let home = stack_dir(stack)?;
        let clocks = home.join("clocks");
        std::fs::create_dir_all(&clocks).with_context(|| format!("create {}", clocks.display()))?;
        let clock = preload(&clocks)?;
        let variables = [
            format!("DAGWRIGHT_SWEEP_AGE={}s", SWEEP_AGE.as_secs()),
            format!("LD_PRELOAD={}", clock.display()),
            format!("CHAOS_CLOCK_DIR={}", clocks.display()),
        ];
        let proxy = proxy.display().to_string();
        let mut arguments = vec!["--aws-proxy", proxy.as_str()];
        arguments.extend(variables.iter().flat_map(|variable| ["--env", variable.as_str()]));
        let world = World::start(stack, &arguments).await?;
        let proxy = Proxy::new(world.http.clone(), world.url("AWS_PROXY_CONTROL_URL"));
        proxy.refuse_as_aws(&["dagwright"]).await?;
        workload::mine_to(world.url("EVM_RPC_URL"), workload::FIRST_HEIGHT).await?;
        let orphan_age = SWEEP_AGE + SWEEP_SLACK;
        let gatherer = Gatherer::new(time::Duration::try_from(orphan_age).context("an age of minutes")?);
        Ok(Self { world, proxy, gatherer })
    }

    /// Runs rounds until the time is up or a promise is broken; `told` hears of each.
    ///
    /// # Errors
    /// When the harness itself cannot go on.
    pub async fn run(&mut self, config: &Config, told: impl Fn(&str)) -> anyhow::Result<Report> {
        let began = Instant::now();
        let mut report = Report::new(config.seed);
        report.repeat = format!(
            "./dev chaos --seed {} --faults {} --faults-for {}s",
            config.seed,
            config.faults,
            config.faults_for.as_secs()
        );
        for round in config.first_round..config.first_round.saturating_add(config.rounds) {
            if began.elapsed() > config.length {
                break;
            }
            let done = self.round(config, round, &told).await.with_context(|| format!("round {round}"))?;
            told(&done.line());
            report.add(done);
            report.seconds = began.elapsed().as_secs();
            if !report.holds && !config.keep_going {
                break;
            }
        }
        Ok(report)
    }

    async fn round(&mut self, config: &Config, round: u32, told: &impl Fn(&str)) -> anyhow::Result<Round> {
        let node = self.world.url("EVM_RPC_URL").to_owned();
        let mut workload = Workload::new(config.seed, round, config.faults_for, &node);
        workload::mine_to(&node, workload.heights.0).await?;
        let namespace = workload.namespace.clone();
        workload::insist(&self.world, &namespace, &workload.objects(), config.patience).await?;
        let injector = Injector::new(&self.world, self.proxy.clone(), &namespace);
        self.first_commit(&namespace, config.patience).await?;
        let events = schedule::events(config.seed, round, config.faults, config.faults_for);
        let mining = workload.clone();
        let (events, edits_made, mined) = tokio::join!(
            join_all(events.into_iter().map(|event| async {
                let injected = injector.inject(event).await;
                told(&format!("  {:>5.1} s  {}", injected.event.at.as_secs_f64(), injected.detail));
                injected
            })),
            workload::edit(&self.world, &mut workload),
            workload::mine_along(&mining, config.faults_for),
        );
        injector.heal().await?;
        drop(injector);
        all_healthy(&self.world, config.patience).await?;
        // A node that stood still for long may have cut the mining short.
        if let Err(error) = mined {
            told(&format!("  mining goes on after {error:#}"));
        }
        workload::mine_to(&node, workload.heights.1).await?;
        workload::insist(&self.world, &namespace, &workload.chain_syncs(), config.patience).await?;
        let healed = Instant::now();
        let asked = asked(&workload);
        let (violations, facts) = self.judged(config, &namespace, &asked, told).await?;
        let mut done = Round {
            round,
            namespace,
            events,
            edits: workload.edits.clone(),
            edits_made,
            settled_seconds: healed.elapsed().as_secs(),
            checked: checked(&facts),
            violations,
        };
        if done.violations.is_empty()
            && let Err(left) = workload::remove(&self.world, &workload, config.patience).await
        {
            done.violations.push(Violation { rule: "what is deleted goes", detail: left });
        }
        Ok(done)
    }

    /// Faults hit work, not its preparation.
    async fn first_commit(&self, namespace: &str, limit: Duration) -> anyhow::Result<()> {
        let first = until_ok(limit, || async {
            let count =
                sqlx::query_scalar::<_, i64>("SELECT count(*) FROM partition_versions WHERE namespace = $1");
            match count.bind(namespace).fetch_one(&self.world.state).await {
                Ok(0) => Err("nothing is committed".to_owned()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        });
        first.await.map_err(anyhow::Error::msg).context("wait for the round's first commit")
    }

    /// Waits for the end of the work, then judges; what the sweeper or the query service still has to do gets its time.
    async fn judged(
        &mut self,
        config: &Config,
        namespace: &str,
        asked: &[Asked],
        told: &impl Fn(&str),
    ) -> anyhow::Result<(Vec<Violation>, Facts)> {
        let world = &self.world;
        let asking = Asking::default();
        let ended = until(config.patience, ROUND_MOST, || settled(world, namespace, asked, &asking)).await;
        let mut last = (vec![], Facts::default());
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tick.tick().await;
            match self.gatherer.gather(world, namespace, asked).await {
                Ok(facts) => last = (judge(&facts, asked), facts),
                Err(error) => {
                    let detail = format!("{error:#}");
                    last.0 = vec![Violation { rule: "what is healed answers", detail }];
                }
            }
            let (violations, _) = &mut last;
            if let Some(first) = violations.first() {
                told(&format!(
                    "  {} violations so far, such as {}: {}",
                    violations.len(),
                    first.rule,
                    first.detail
                ));
            }
            if ended.is_ok() && violations.is_empty() {
                return Ok(last);
            }
            if ended.is_err() || began.elapsed() > config.patience {
                if let Err(missing) = ended {
                    violations.insert(0, Violation { rule: "I9: every task ends", detail: missing });
                }
                return Ok(last);
            }
        }
    }
}

fn asked(workload: &Workload) -> Vec<Asked> {
    let of = |sync: &workload::Sync| Asked {
        sync: sync.name.to_owned(),
        outputs: sync
            .outputs
            .iter()
            .map(|kind| ((*kind).to_owned(), format!("{}-{kind}", sync.name)))
            .collect(),
        range: workload.range(sync),
    };
    workload.syncs.iter().map(of).collect()
}

fn checked(facts: &Facts) -> Checked {
    Checked {
        tasks: facts.finished.len(),
        attempts: facts.attempts.len(),
        partitions: facts.partitions.len(),
        objects: facts.contents.len(),
        rows: facts.contents.values().map(|content| content.rows).sum(),
    }
}

/// Stops a stack.
///
/// # Errors
/// When something of it is left.
pub fn down(stack: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let done =
        dagwright_on(stack, &[&["down"], arguments].concat()).status().context("run `dagwright down`")?;
    if !done.success() {
        bail!("`dagwright down` of stack {stack}: {done}");
    }
    Ok(())
}

/// Where the stack will be.
fn stack_dir(stack: &str) -> anyhow::Result<PathBuf> {
    paths::stack_dir(&paths::data_root()?, stack)
}

/// Compiles the clock that is preloaded into Dagwright's processes.
fn preload(folder: &Path) -> anyhow::Result<PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, include_str!("../assets/clock.c")).context("write the clock's source")?;
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status();
    let compiled = compiled.context("run cc, which `./dev` asks for")?;
    anyhow::ensure!(compiled.success(), "cc could not compile {}: {compiled}", source.display());
    Ok(library)
}
