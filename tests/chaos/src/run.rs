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
    checker::{Asked, Asking, Facts, Gatherer, Violation, Watch, judge, settled},
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

/// Short, so that a run can wait for what its last round left behind. Nothing that an attempt still needs depends on it: what holds
/// a lease is not swept.
const SWEEP_AGE: Duration = Duration::from_secs(120);
/// A quarter of the age between two passes, and one of them may fail.
const SWEEP_SLACK: Duration = Duration::from_secs(75);
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

    /// Runs rounds until the time is up or a promise is broken; `told` hears of each. What was found is in the report at any moment,
    /// so that a run that is cut short has one as well.
    pub async fn run(&mut self, config: &Config, report: &mut Report, told: impl Fn(&str)) {
        let began = Instant::now();
        for round in config.first_round..config.first_round.saturating_add(config.rounds) {
            if began.elapsed() > config.length {
                break;
            }
            let done = self.round(config, round, &told).await;
            told(&done.line());
            report.add(done);
            report.seconds = began.elapsed().as_secs();
            if !report.holds && !config.keep_going {
                return;
            }
        }
        report.add_to_last(self.swept(&told).await);
        report.seconds = began.elapsed().as_secs();
    }

    async fn round(&mut self, config: &Config, round: u32, told: &impl Fn(&str)) -> Round {
        let mut workload =
            Workload::new(config.seed, round, config.faults_for, self.world.url("EVM_RPC_URL"));
        let mut done = Round::new(round, &workload.namespace);
        let mut watch = Watch::default();
        if let Err(error) = self.work(config, &mut workload, &mut watch, &mut done, told).await {
            done.violations.push(Violation {
                rule: "the round can be gone through",
                detail: format!("{error:#}"),
                lasting: true,
            });
        }
        done.checked.looks = watch.looks;
        done.violations.splice(0..0, watch.violations);
        if done.violations.is_empty()
            && let Err(left) = workload::remove(&self.world, &workload, config.patience).await
        {
            done.violations.push(Violation { rule: "what is deleted goes", detail: left, lasting: false });
        }
        done
    }

    /// The round up to its judgement, which is added to `done` as far as it came.
    async fn work(
        &mut self,
        config: &Config,
        workload: &mut Workload,
        watch: &mut Watch,
        done: &mut Round,
        told: &impl Fn(&str),
    ) -> anyhow::Result<()> {
        let (node, namespace) = (self.world.url("EVM_RPC_URL").to_owned(), workload.namespace.clone());
        workload::mine_to(&node, workload.heights.0).await?;
        workload::insist(&self.world, &namespace, &workload.objects(), config.patience).await?;
        self.first_commit(&namespace, config.patience).await?;
        self.gatherer.plant_orphan(&self.world, &namespace).await.context("leave an orphan to be swept")?;
        tokio::select! {
            failed = self.faults(config, workload, done, told) => failed?,
            never = watch.go_on(&self.world, &namespace) => match never {},
        }
        workload::mine_to(&node, workload.heights.1).await?;
        workload::insist(&self.world, &namespace, &workload.chain_syncs(), config.patience).await?;
        let (healed, asked, asking) = (Instant::now(), asked(workload), Asking::default());
        let look = || settled(&self.world, &namespace, &asked, &asking);
        let ended = tokio::select! {
            ended = until(config.patience, ROUND_MOST, look) => ended.map_err(Some),
            // It is not worth waiting for.
            () = watch.until_broken(&self.world, &namespace) => Err(None),
        };
        let (violations, facts) = self.judged(config, &namespace, &asked, ended, told).await;
        done.settled_seconds = healed.elapsed().as_secs();
        done.checked = checked(&facts);
        done.violations.extend(violations);
        Ok(())
    }

    /// Breaks things for a while, then heals them.
    async fn faults(
        &self,
        config: &Config,
        workload: &mut Workload,
        done: &mut Round,
        told: &impl Fn(&str),
    ) -> anyhow::Result<()> {
        let injector = Injector::new(&self.world, self.proxy.clone(), &workload.namespace);
        let events = schedule::events(config.seed, done.round, config.faults, config.faults_for);
        let mining = workload.clone();
        let (events, edits_made, mined) = tokio::join!(
            join_all(events.into_iter().map(|event| async {
                let injected = injector.inject(event).await;
                told(&injected.line());
                injected
            })),
            workload::edit(&self.world, workload),
            workload::mine_along(&mining, config.faults_for),
        );
        (done.events, done.edits, done.edits_made) = (events, workload.edits.clone(), edits_made);
        // A node that stood still for long may have cut the mining short.
        if let Err(error) = mined {
            told(&format!("  mining goes on after {error:#}"));
        }
        injector.heal().await?;
        all_healthy(&self.world, config.patience).await
    }

    /// Waits until the sweeper has been everywhere, then looks once more: the last round's orphans were too young for its own judge.
    async fn swept(&self, told: &impl Fn(&str)) -> Vec<Violation> {
        let limit = SWEEP_AGE + SWEEP_SLACK;
        told(&format!("the last objects without a pointer have {} s to go", limit.as_secs()));
        let began = Instant::now();
        // Each look lists the whole bucket.
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tick.tick().await;
            let left = match self.gatherer.unpointed(&self.world).await {
                Ok(left) if left.is_empty() => return vec![],
                Ok(left) => format!("{} objects have no pointer, such as {}", left.len(), left[0]),
                Err(error) => format!("{error:#}"),
            };
            if began.elapsed() > limit {
                return vec![Violation {
                    rule: "no orphan past the sweep age",
                    detail: left,
                    lasting: false,
                }];
            }
        }
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

    /// Judges the end of the work. What the sweeper or the query service still has to do gets its time, and nothing else: a promise that
    /// was broken once is not mended by being kept later.
    async fn judged(
        &mut self,
        config: &Config,
        namespace: &str,
        asked: &[Asked],
        ended: Result<(), Option<String>>,
        told: &impl Fn(&str),
    ) -> (Vec<Violation>, Facts) {
        let mut last = Facts::default();
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tick.tick().await;
            let mut violations = match self.gatherer.gather(&self.world, namespace, asked).await {
                Ok(facts) => {
                    last = facts;
                    judge(&last, asked)
                }
                Err(error) => {
                    let detail = format!("{error:#}");
                    vec![Violation { rule: "what is healed answers", detail, lasting: false }]
                }
            };
            if let Some(first) = violations.first() {
                let (n, Violation { rule, detail, .. }) = (violations.len(), first);
                told(&format!("  {n} violations so far, such as {rule}: {detail}"));
            }
            let patient =
                violations.iter().all(|violation| !violation.lasting) && began.elapsed() <= config.patience;
            if ended.is_ok() && !violations.is_empty() && patient {
                continue;
            }
            if let Err(Some(missing)) = ended {
                violations
                    .insert(0, Violation { rule: "I9: every task ends", detail: missing, lasting: false });
            }
            return (violations, last);
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
        unpointed: facts.unpointed,
        looks: 0,
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
