//! The stack's processes: found by name, hit with signals.

use std::{collections::BTreeMap, fs};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{World, stack::dagwright, wait_for};

/// The pid of a process that `dagwright ps` lists.
pub fn pid_of(name: &str) -> Option<i32> {
    let out = dagwright(&["ps", "--format", "json"]).output().expect("run `dagwright ps`");
    let rows: Vec<Value> = serde_json::from_slice(&out.stdout).expect("`ps --format json` prints a list");
    let row = rows.iter().find(|row| row["name"] == name)?;
    i32::try_from(row["pid"].as_i64()?).ok()
}

/// Sends a signal to a process of the stack and waits until the supervisor has replaced it.
pub async fn hit_and_wait_for_successor(name: &str, signal: Signal) {
    let old = pid_of(name).unwrap_or_else(|| panic!("`dagwright ps` lists no {name}"));
    send(old, signal);
    wait_for(&format!("a successor of {name} (pid {old})"), || async {
        match pid_of(name) {
            Some(new) if new != old && alive(new) => Ok(()),
            other => Err(format!("ps says {other:?}")),
        }
    })
    .await;
}

/// Worker processes of one namespace's pool, by their environment. The stack's folder tells them from another stack's.
pub fn workers_of(world: &World, namespace: &str) -> Vec<i32> {
    let marks = [
        format!("DAGWRIGHT_NAMESPACE={namespace}"),
        format!("DAGWRIGHT_STACK_DIR={}", world.dir().display()),
    ];
    let pids = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| program(*pid).is_some_and(|p| p.ends_with("dagwright-worker")))
        .filter(|pid| {
            let environment = environment_of(*pid);
            marks.iter().all(|mark| environment.contains(mark))
        })
        .collect()
}

pub fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|e| panic!("send {signal} to {pid}: {e}"));
}

pub fn alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

/// The environment of a process, `NAME=value` each.
pub fn environment_of(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes
        .split(|b| *b == 0)
        .filter(|e| !e.is_empty())
        .map(|e| String::from_utf8_lossy(e).into_owned())
        .collect()
}

/// Names and pids of all processes that `dagwright ps` lists.
pub fn listed() -> BTreeMap<String, i32> {
    let out = dagwright(&["ps", "--format", "json"]).output().expect("run `dagwright ps`");
    let rows: Vec<Value> = serde_json::from_slice(&out.stdout).expect("`ps --format json` prints a list");
    rows.iter()
        .filter_map(|row| Some((row["name"].as_str()?.to_owned(), i32::try_from(row["pid"].as_i64()?).ok()?)))
        .collect()
}

fn program(pid: i32) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/exe")).ok()?.to_string_lossy().into_owned())
}
