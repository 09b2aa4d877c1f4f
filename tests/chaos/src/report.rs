//! What a run tells: a line a round, a table at the end, everything as JSON.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::{checker::Violation, inject::Injected, run::Config, workload::Edit};

/// A whole run.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub seed: u64,
    /// Repeats the schedule.
    pub repeat: String,
    pub seconds: u64,
    pub rounds: Vec<Round>,
    /// By kind.
    pub faults: BTreeMap<String, Count>,
    pub checked: Checked,
    pub holds: bool,
    /// Why the run ended before its time.
    pub unfinished: Option<String>,
}

/// How often a kind of fault happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Count {
    pub injected: u64,
    /// It found no target, or what it did had no effect.
    pub missed: u64,
    /// Requests that a rule of the proxy struck.
    pub requests: u64,
}

/// What the checker looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checked {
    pub tasks: usize,
    pub attempts: usize,
    pub partitions: usize,
    pub objects: usize,
    pub rows: i64,
    /// Objects that no pointer named when the round was judged. Each round leaves one on purpose.
    pub unpointed: usize,
    /// Looks at the state database while work went on.
    pub looks: u64,
}

/// One round.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    pub round: u32,
    pub namespace: String,
    pub events: Vec<Injected>,
    pub edits: Vec<Edit>,
    pub edits_made: u64,
    pub settled_seconds: u64,
    pub checked: Checked,
    pub violations: Vec<Violation>,
}

impl Report {
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let Config { seed, faults, faults_for, .. } = config;
        let repeat =
            format!("./dev chaos --seed {seed} --faults {faults} --faults-for {}s", faults_for.as_secs());
        Self { seed: *seed, repeat, holds: true, ..Self::default() }
    }

    pub fn add(&mut self, round: Round) {
        for event in &round.events {
            let count = self.faults.entry(event.kind.clone()).or_default();
            if event.done {
                count.injected += 1;
            } else {
                count.missed += 1;
            }
            count.requests += event.requests;
        }
        self.checked.tasks += round.checked.tasks;
        self.checked.attempts += round.checked.attempts;
        self.checked.partitions += round.checked.partitions;
        self.checked.objects += round.checked.objects;
        self.checked.rows += round.checked.rows;
        self.checked.unpointed += round.checked.unpointed;
        self.checked.looks += round.checked.looks;
        self.holds &= round.violations.is_empty();
        self.rounds.push(round);
    }

    /// What was found after the last round.
    pub fn add_to_last(&mut self, violations: Vec<Violation>) {
        self.holds &= violations.is_empty();
        if let Some(round) = self.rounds.last_mut() {
            round.violations.extend(violations);
        }
    }

    /// The run was cut short: what it has not come to is not known to hold.
    pub fn cut_short(&mut self, why: &str) {
        self.holds = false;
        self.unfinished = Some(why.to_owned());
    }

    /// What was broken, and after which faults.
    #[must_use]
    pub fn failure(&self) -> String {
        let mut text = format!("seed {}\n", self.seed);
        for round in self.rounds.iter().filter(|round| !round.violations.is_empty()) {
            text += &format!("round {}, namespace {}, after these faults:\n", round.round, round.namespace);
            for event in &round.events {
                text += &format!("{}\n", event.line());
            }
            text += &format!("{} violations, the first of them:\n", round.violations.len());
            for violation in round.violations.iter().take(20) {
                text += &format!("  {}: {}\n", violation.rule, violation.detail);
            }
            text += &format!("the round again: {} --first-round {} --rounds 1\n", self.repeat, round.round);
        }
        text + self.unfinished.as_deref().unwrap_or_default()
    }

    /// The faults by kind, and the verdict.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["FAULT", "INJECTED", "IN VAIN", "REQUESTS STRUCK"]);
        let mut total = Count::default();
        for (kind, count) in &self.faults {
            let cells = [count.injected, count.missed, count.requests].map(|n| n.to_string());
            table.add_row([std::slice::from_ref(kind), &cells].concat());
            total.injected += count.injected;
            total.missed += count.missed;
            total.requests += count.requests;
        }
        table.add_row([
            "all".to_owned(),
            total.injected.to_string(),
            total.missed.to_string(),
            total.requests.to_string(),
        ]);
        let Checked { tasks, attempts, partitions, objects, rows, unpointed, looks } = &self.checked;
        let verdict = match (&self.unfinished, self.holds) {
            (_, true) => "every promise held".to_owned(),
            (Some(why), _) if self.rounds.iter().all(|round| round.violations.is_empty()) => {
                format!("no promise was seen broken, but the run is not whole: {why}")
            }
            _ => "PROMISES WERE BROKEN".to_owned(),
        };
        format!(
            "{table}\n{} rounds in {} s: {verdict}. Checked: {tasks} finished tasks, {attempts} attempts, {partitions} partitions, \
             {objects} objects, {rows} rows; {unpointed} objects without a pointer to be swept; {looks} looks while work went on.\n\
             The same schedule again: {}",
            self.rounds.len(),
            self.seconds,
            self.repeat
        )
    }
}

impl Round {
    #[must_use]
    pub fn new(round: u32, namespace: &str) -> Self {
        Self { round, namespace: namespace.to_owned(), ..Self::default() }
    }

    /// One line when it is over.
    #[must_use]
    pub fn line(&self) -> String {
        let (done, requests) = (
            self.events.iter().filter(|e| e.done).count(),
            self.events.iter().map(|e| e.requests).sum::<u64>(),
        );
        let verdict = match self.violations.len() {
            0 => "holds".to_owned(),
            n => format!("{n} VIOLATIONS"),
        };
        format!(
            "round {}: {done} of {} faults, {requests} requests struck, {} edits; settled in {} s; {} tasks, {} attempts, {} objects: {verdict}",
            self.round,
            self.events.len(),
            self.edits_made,
            self.settled_seconds,
            self.checked.tasks,
            self.checked.attempts,
            self.checked.objects,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let config = Config {
            stack: "s".into(),
            seed: 7,
            first_round: 0,
            rounds: 3,
            length: std::time::Duration::MAX,
            faults: 5,
            faults_for: std::time::Duration::from_secs(60),
            patience: std::time::Duration::MAX,
            keep_going: true,
        };
        Report::new(&config)
    }

    fn broken(round: u32) -> Round {
        let violation = Violation { rule: "I1", detail: format!("in {round}"), lasting: true };
        Round { violations: vec![violation], ..Round::new(round, "ns") }
    }

    #[test]
    fn each_broken_round_says_how_it_is_repeated() {
        let mut report = report();
        report.add(Round::new(0, "ns"));
        report.add(broken(1));
        report.add(Round::new(2, "ns"));
        let told = report.failure();
        assert!(told.contains("--seed 7 --faults 5 --faults-for 60s --first-round 1 --rounds 1"), "{told}");
        assert!(!told.contains("--first-round 2"), "{told}");
        assert!(report.table().contains("PROMISES WERE BROKEN"));
    }

    #[test]
    fn a_run_that_was_cut_short_keeps_its_totals_and_does_not_hold() {
        let mut report = report();
        report.add(Round { checked: Checked { tasks: 11, ..Checked::default() }, ..Round::new(0, "ns") });
        report.cut_short("interrupted");
        assert!(!report.holds);
        let table = report.table();
        assert!(table.contains("11 finished tasks") && table.contains("not whole: interrupted"), "{table}");
    }

    #[test]
    fn what_is_found_after_the_last_round_counts() {
        let mut report = report();
        report.add(Round::new(0, "ns"));
        report.add_to_last(broken(0).violations);
        assert!(!report.holds && report.failure().contains("I1"));
    }
}
