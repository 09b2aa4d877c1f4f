//! What a run tells: a line a round, a table at the end, everything as JSON.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::{checker::Violation, inject::Injected, workload::Edit};

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
}

/// How often a kind of fault happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Count {
    pub injected: u64,
    /// It found no target.
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
}

/// One round.
#[derive(Debug, Serialize)]
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
    pub fn new(seed: u64) -> Self {
        Self { seed, holds: true, ..Self::default() }
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
        self.holds &= round.violations.is_empty();
        self.rounds.push(round);
    }

    /// What was broken, and after which faults.
    #[must_use]
    pub fn failure(&self) -> String {
        let mut text = format!("seed {}\n", self.seed);
        for round in self.rounds.iter().filter(|round| !round.violations.is_empty()) {
            text += &format!("round {}, namespace {}, after these faults:\n", round.round, round.namespace);
            for event in &round.events {
                let missed = if event.done { "" } else { " (not injected)" };
                text += &format!(
                    "  {:>5.1} s  {}: {}{missed}\n",
                    event.event.at.as_secs_f64(),
                    event.kind,
                    event.detail
                );
            }
            text += &format!("{} violations, the first of them:\n", round.violations.len());
            for violation in round.violations.iter().take(20) {
                text += &format!("  {}: {}\n", violation.rule, violation.detail);
            }
        }
        text + &format!(
            "the round again: {} --first-round {} --rounds 1",
            self.repeat,
            self.rounds.last().map_or(0, |r| r.round)
        )
    }

    /// The faults by kind, and the verdict.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["FAULT", "INJECTED", "NO TARGET", "REQUESTS STRUCK"]);
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
        let Checked { tasks, attempts, partitions, objects, rows } = &self.checked;
        let verdict = if self.holds { "every promise held" } else { "PROMISES WERE BROKEN" };
        format!(
            "{table}\n{} rounds in {} s: {verdict}. Checked: {tasks} finished tasks, {attempts} attempts, {partitions} partitions, \
             {objects} objects, {rows} rows.\nThe same schedule again: {}",
            self.rounds.len(),
            self.seconds,
            self.repeat
        )
    }
}

impl Round {
    /// One line while it goes on.
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
