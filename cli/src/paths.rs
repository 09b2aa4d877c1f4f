//! Where things live: the cache of downloaded parts, and the data of each stack.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, bail};

/// Name of the stack that commands use when none is given.
pub const DEFAULT_STACK: &str = "default";

/// Where downloaded parts are kept: `$DAGWRIGHT_CACHE`, else the XDG cache folder.
pub fn cache_dir() -> anyhow::Result<PathBuf> {
    from_env("DAGWRIGHT_CACHE")
        .or_else(|| from_env("XDG_CACHE_HOME").map(|dir| dir.join("dagwright")))
        .or_else(|| env::home_dir().map(|home| home.join(".cache/dagwright")))
        .context("no cache folder: set DAGWRIGHT_CACHE to a folder that may grow to 5 GB")
}

/// Where stacks keep their data: `$DAGWRIGHT_HOME`, else a system folder for root, else the XDG state folder.
///
/// Root gets a system folder because Postgres must run as another user, who cannot enter root's home.
pub fn data_root() -> anyhow::Result<PathBuf> {
    if let Some(dir) = from_env("DAGWRIGHT_HOME") {
        return Ok(dir);
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/dagwright"));
    }
    from_env("XDG_STATE_HOME")
        .map(|dir| dir.join("dagwright"))
        .or_else(|| env::home_dir().map(|home| home.join(".local/state/dagwright")))
        .context("no data folder: set DAGWRIGHT_HOME")
}

/// The folder of one stack.
pub fn stack_dir(root: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 20 || !name.chars().all(plain) {
        bail!("\"{name}\" cannot name a stack: use at most 20 lower-case letters, digits and dashes");
    }
    Ok(root.join(name))
}

/// This program's path, as it was when somebody asked first: `cargo build` may replace the file while it runs, and the
/// kernel then calls it deleted.
pub fn program() -> anyhow::Result<&'static Path> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let program = env::current_exe().context("find this program")?;
    Ok(PROGRAM.get_or_init(|| program))
}

/// An executable found on `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn from_env(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_name_cannot_leave_the_data_folder() {
        let root = Path::new("/data");
        assert_eq!(stack_dir(root, "e2e-1").unwrap(), Path::new("/data/e2e-1"));
        for bad in ["", "..", "a/b", "A", "a_b", "a-name-that-is-longer-than-twenty"] {
            assert!(stack_dir(root, bad).is_err(), "{bad:?} was accepted");
        }
    }
}
