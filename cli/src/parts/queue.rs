//! The SQS endpoint of benchmarks. A stack does not need it: ministack is nearer to SQS, and ten times slower.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::error::{AtPath, PartError};
use super::progress::{Line, Progress};
use super::{Cache, built, command, stamp, tools};

/// Name and version, as a benchmark's output says them.
pub const QUEUE_ENDPOINT: &str = "fauxqs 2.4.1";

const PACKAGE: &str = include_str!("../../assets/fauxqs/package.json");
/// Every package of the tree with its checksum, which npm verifies.
const LOCK: &str = include_str!("../../assets/fauxqs/package-lock.json");
const SERVE: &str = include_str!("../../assets/fauxqs/serve.mjs");

/// How the endpoint is started: `node script PORT`.
#[derive(Clone, Debug)]
pub struct QueueEndpoint {
    pub node: PathBuf,
    pub script: PathBuf,
}

/// The endpoint, installed unless it is there.
pub fn queue_endpoint(cache: &Cache, progress: &Progress) -> Result<QueueEndpoint, PartError> {
    let folder = cache.folder("fauxqs");
    let node = tools::node(cache, progress)?;
    let endpoint = QueueEndpoint { node, script: folder.join("serve.mjs") };
    let pin = built::digest(&[PACKAGE, LOCK, SERVE]);
    if stamp::is_current(&folder, &pin) {
        return Ok(endpoint);
    }
    let line = progress.line("fauxqs", &format!("installing {QUEUE_ENDPOINT}"));
    match install(cache, progress, &line, &pin) {
        Ok(()) => line.done(&format!("{QUEUE_ENDPOINT} installed")),
        Err(error) => {
            line.failed();
            return Err(error);
        }
    }
    Ok(endpoint)
}

fn install(cache: &Cache, progress: &Progress, line: &Line, pin: &str) -> Result<(), PartError> {
    let folder = cache.folder("fauxqs");
    fs::create_dir_all(&folder).at("create", &folder)?;
    for (name, text) in [("package.json", PACKAGE), ("package-lock.json", LOCK), ("serve.mjs", SERVE)] {
        let path = folder.join(name);
        fs::write(&path, text).at("write", &path)?;
    }
    let mut npm: Command = tools::npm(cache, progress)?;
    npm.current_dir(&folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    command::run("fauxqs", "fauxqs", npm, line)?;
    stamp::write(&folder, pin, &["serve.mjs", "package-lock.json", "node_modules/fauxqs/dist/app.js"])
}
