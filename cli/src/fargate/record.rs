//! Pid records: what lets a new engine end the containers of one that was killed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process group that belongs to a container.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    pid: u32,
    /// Clock ticks since boot at which the process started: a reused pid has another value.
    started: u64,
}

/// Remembers a started process. A process that is gone already needs no record.
pub(crate) fn write(run_dir: &Path, container: &str, pid: u32) -> io::Result<()> {
    let Some(started) = start_ticks(pid) else { return Ok(()) };
    let text = serde_json::to_vec(&Record { pid, started })?;
    fs::write(path(run_dir, container), text)
}

/// The recorded process, if it is still the one that lives under its pid.
pub(crate) fn alive(run_dir: &Path, container: &str) -> Option<u32> {
    let record: Record = serde_json::from_slice(&fs::read(path(run_dir, container)).ok()?).ok()?;
    (start_ticks(record.pid) == Some(record.started)).then_some(record.pid)
}

/// Forgets a process that has ended.
pub(crate) fn remove(run_dir: &Path, container: &str) {
    // Left behind, it names a pid and start time that no process has: harmless.
    let _ = fs::remove_file(path(run_dir, container));
}

/// Kills every recorded group that is still alive, and forgets all. Creates `run_dir` when it is missing.
pub(crate) fn sweep(run_dir: &Path) -> io::Result<usize> {
    fs::create_dir_all(run_dir)?;
    let mut killed = 0;
    for entry in fs::read_dir(run_dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let record = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        if let Some(record) = record
            && start_ticks(record.pid) == Some(record.started)
        {
            kill_group(record.pid, Signal::SIGKILL);
            killed += 1;
        }
        fs::remove_file(&path)?;
    }
    Ok(killed)
}

/// Signals a whole process group; a group that is gone is no error.
pub(crate) fn kill_group(pid: u32, signal: Signal) {
    let Ok(pid) = i32::try_from(pid) else { return };
    // Group 0 and 1 would be our own group and everybody.
    if pid > 1 {
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

const EXTENSION: &str = "pid";

fn path(run_dir: &Path, container: &str) -> PathBuf {
    run_dir.join(format!("{container}.{EXTENSION}"))
}

/// Nothing for a process that has ended and only waits to be reaped. Field 22 of `/proc/PID/stat`; the second field, the program's name, may contain spaces and brackets.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut after_name = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if after_name.next()? == "Z" {
        return None;
    }
    after_name.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    fn scratch() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("dagwright-record-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn sweep_kills_what_is_recorded() {
        let dir = scratch();
        let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        write(&dir, "c", child.id()).unwrap();
        assert_eq!(sweep(&dir).unwrap(), 1);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn sweep_spares_a_reused_pid() {
        let dir = scratch();
        let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let other = Record { pid: child.id(), started: start_ticks(child.id()).unwrap() + 1 };
        fs::write(path(&dir, "c"), serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(sweep(&dir).unwrap(), 0);
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }
}
