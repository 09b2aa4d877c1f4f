//! Processes of the stack: who is whose, who still is who it was, and signals for all of a kind.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

pub(crate) fn alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

/// To the process and the rest of its group, where it leads one. Gone is as good as hit.
pub(crate) fn signal_all(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid);
    if killpg(pid, signal).is_err() {
        let _ = kill(pid, signal);
    }
}

/// A process and its children: Postgres' sessions are processes in groups of their own.
pub(crate) fn family(pid: i32) -> Vec<i32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    std::iter::once(pid)
        .chain(listed.split_ascii_whitespace().filter_map(|child| child.parse().ok()))
        .collect()
}

/// What tells a process from a later one with its pid, and if it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) stopped: bool,
    /// In ticks since boot.
    pub(crate) began: u64,
}

impl Life {
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `PID (NAME) STATE …`; the start is the 22nd field. A zombie is no more.
    fn read(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let began = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { stopped: state == "T", began })
    }
}

/// Who is frozen, and how often: two freezes of one process end with the later one.
#[derive(Debug, Default)]
pub(crate) struct Frozen(Mutex<BTreeMap<i32, u32>>);

impl Frozen {
    pub(crate) fn hold(&self, pids: &[i32]) {
        let mut held = self.held();
        for pid in pids {
            *held.entry(*pid).or_default() += 1;
            signal_all(*pid, Signal::SIGSTOP);
        }
    }

    pub(crate) fn release(&self, pids: &[i32]) {
        let mut held = self.held();
        for pid in pids.iter().rev() {
            // One that is not held any more was woken by who healed all.
            let Some(holds) = held.get_mut(pid) else { continue };
            *holds -= 1;
            if *holds == 0 {
                held.remove(pid);
                signal_all(*pid, Signal::SIGCONT);
            }
        }
    }

    pub(crate) fn release_all(&self) {
        for pid in std::mem::take(&mut *self.held()).into_keys() {
            signal_all(pid, Signal::SIGCONT);
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<i32, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;
    use crate::patience::until_ok;

    async fn becomes(pid: i32, stopped: bool) {
        let look = || async {
            if Life::of(pid).map(|l| l.stopped) == Some(stopped) { Ok(()) } else { Err("not yet".into()) }
        };
        until_ok(Duration::from_secs(5), look).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_goes_on_when_the_last_freeze_ends_and_a_dead_one_is_told_from_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let frozen = Frozen::default();
        frozen.hold(&[pid]);
        frozen.hold(&[pid]);
        becomes(pid, true).await;
        frozen.release(&[pid]);
        assert!(Life::of(pid).unwrap().stopped, "the other freeze goes on");
        frozen.release(&[pid]);
        becomes(pid, false).await;
        child.kill().unwrap();
        until_ok(Duration::from_secs(5), || async {
            Life::of(pid).map_or(Ok(()), |l| Err(format!("{l:?}")))
        })
        .await
        .unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b) T 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        assert_eq!(Life::read(stat), Some(Life { stopped: true, began: 4711 }));
    }
}
