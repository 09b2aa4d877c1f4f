//! Nothing of a stack may outlive it, whatever killed its supervisor.

use std::fs;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::MARKER;
use super::settings::Settings;
use crate::fargate::record;

/// Kills what an earlier supervisor left behind.
pub(crate) fn leftovers(settings: &Settings) -> anyhow::Result<()> {
    for dir in [settings.run_dir(), settings.dir.join("tasks")] {
        record::sweep(&dir).with_context(|| format!("sweep the processes recorded in {}", dir.display()))?;
    }
    for _ in 0..2 {
        for pid in marked(settings) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(())
}

/// Fails when a process of the stack is still there.
pub(crate) fn assert_clean(settings: &Settings) -> anyhow::Result<()> {
    let left = marked(settings);
    if left.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = left.iter().map(|pid| format!("{pid} ({})", program(*pid))).collect();
    bail!("stack \"{}\" left processes running: {}", settings.name, names.join(", "))
}

/// Every living process that carries the stack's mark in its environment, but this one.
fn marked(settings: &Settings) -> Vec<i32> {
    let mark = format!("{MARKER}={}", settings.dir.display());
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| *name != own)
        .filter(|name| carries(name, mark.as_bytes()) && !is_zombie(name))
        .filter_map(|name| name.parse().ok())
        .collect()
}

fn carries(pid: &str, mark: &[u8]) -> bool {
    pid.bytes().all(|byte| byte.is_ascii_digit())
        && fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == mark))
}

fn is_zombie(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

fn program(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}
