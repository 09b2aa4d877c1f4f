//! What work costs: CPU by process, commits and WAL of a database.

use std::collections::BTreeMap;

use anyhow::Context as _;
use sqlx::PgPool;

use crate::stats::number;

/// Linux counts CPU time in hundredths of a second, on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What is watched.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    /// The database, as superuser.
    pub(crate) db: PgPool,
    /// Processes by name; children that are not watched themselves count with their parent.
    pub(crate) processes: Vec<(&'static str, u32)>,
}

/// Counters at a moment, or their growth between two.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU seconds by process.
    pub(crate) cpu: BTreeMap<&'static str, f64>,
    pub(crate) commits: f64,
    pub(crate) wal_bytes: f64,
}

impl Meter {
    /// Reads all counters.
    pub(crate) async fn read(&self) -> anyhow::Result<Usage> {
        let (commits, wal_bytes): (f64, f64) = sqlx::query_as(
            "SELECT xact_commit::float8, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8
             FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(&self.db)
        .await
        .context("read the counters of the database")?;
        let stats = all_stats();
        let watched: Vec<_> = self.processes.iter().map(|(_, pid)| *pid).collect();
        let cpu = self.processes.iter().map(|(name, pid)| (*name, with_children(&stats, *pid, &watched)));
        let cpu = cpu.collect();
        Ok(Usage { cpu, commits, wal_bytes })
    }
}

impl Usage {
    /// What was used since an earlier moment.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let cpu = self.cpu.iter().map(|(name, now)| (*name, now - before.cpu.get(name).unwrap_or(&0.0)));
        Self {
            cpu: cpu.collect(),
            commits: self.commits - before.commits,
            wal_bytes: self.wal_bytes - before.wal_bytes,
        }
    }
}

/// CPU ticks of one process; those of children that ended count for their parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    ticks: u64,
}

fn all_stats() -> Vec<Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let text = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    text.filter_map(|text| parse(&text)).collect()
}

/// A line of `/proc/PID/stat`. The name in parentheses may hold anything, parentheses included.
fn parse(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(' ')?;
    let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
    let number = |n: usize| fields.get(n)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Stat { pid: pid.parse().ok()?, parent: fields.get(1)?.parse().ok()?, ticks })
}

fn with_children(stats: &[Stat], pid: u32, watched: &[u32]) -> f64 {
    let counts = |s: &&Stat| s.pid == pid || (s.parent == pid && !watched.contains(&s.pid));
    let ticks: u64 = stats.iter().filter(counts).map(|s| s.ticks).sum();
    number(ticks) / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_name_with_parentheses_and_spaces() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5 6 7";
        assert_eq!(parse(line), Some(Stat { pid: 42, parent: 7, ticks: 124 }));
        assert_eq!(parse("42 (short) S 7"), None);
    }

    #[test]
    fn children_count_with_their_parent_and_others_do_not() {
        let stat = |pid, parent, ticks| Stat { pid, parent, ticks };
        let all = [stat(1, 0, 5000), stat(10, 1, 100), stat(11, 10, 50), stat(12, 10, 25), stat(20, 1, 999)];
        assert!((with_children(&all, 10, &[10, 20]) - 1.75).abs() < 1e-9);
        assert!(
            (with_children(&all, 1, &[1, 10, 20]) - 50.0).abs() < 1e-9,
            "what is watched counts for itself"
        );
    }

    #[test]
    fn growth_is_the_difference_of_two_readings() {
        let at = |cpu, commits, wal_bytes| Usage { cpu: [("worker", cpu)].into(), commits, wal_bytes };
        assert_eq!(at(3.0, 10.0, 100.0).since(&at(1.0, 4.0, 60.0)), at(2.0, 6.0, 40.0));
    }
}
