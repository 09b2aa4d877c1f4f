//! The parts that the local stack is made of: found on the machine, or installed into a cache outside the checkout.
//!
//! Everything comes through the ordinary package clients and is pinned by version and checksum. Containers were
//! rejected: they would put an engine between a newcomer and the first run, and hide pids and signals that the
//! end-to-end tests need.

mod built;
mod command;
mod error;
mod fetch;
mod pins;
mod progress;
mod queue;
mod stamp;
mod tools;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use error::AtPath;
pub use error::PartError;
pub use progress::{Line, Progress};
pub use queue::{QUEUE_ENDPOINT, QueueEndpoint, queue_endpoint};

/// The cache folder and what guards it inside this process.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    pip: Mutex<()>,
    node: Mutex<()>,
}

/// Kubernetes without containers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ControlPlane {
    pub etcd: PathBuf,
    pub apiserver: PathBuf,
    /// Absent with envtest's assets; garbage collection and namespace deletion are then absent too.
    pub controller_manager: Option<PathBuf>,
}

/// Where every part is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Parts {
    pub kubectl: PathBuf,
    pub control_plane: ControlPlane,
    pub anvil: PathBuf,
    /// The Python of the environment that ministack is installed in.
    pub ministack_python: PathBuf,
    /// Folder of `initdb` and `postgres`.
    pub postgres_bin: PathBuf,
    /// Folder of `libduckdb.so`.
    pub duckdb_lib: PathBuf,
    /// Folder of `httpfs.duckdb_extension`.
    pub duckdb_extensions: PathBuf,
}

impl Cache {
    /// Opens the cache, creating it.
    pub fn open(root: PathBuf) -> Result<Self, PartError> {
        fs::create_dir_all(&root).at("create", &root)?;
        Ok(Self { root, pip: Mutex::new(()), node: Mutex::new(()) })
    }

    /// The folder of a part.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A folder that goes away with its handle.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir, PartError> {
        let parent = self.root.join("scratch");
        fs::create_dir_all(&parent).at("create", &parent)?;
        tempfile::tempdir_in(&parent).at("create a folder in", &parent)
    }

    pub(crate) fn lock_pip(&self) -> MutexGuard<'_, ()> {
        self.pip.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_node(&self) -> MutexGuard<'_, ()> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The library that `query` links to. It comes before everything else because `cargo build` needs it.
pub fn duckdb(cache: &Cache, progress: &Progress) -> Result<PathBuf, PartError> {
    fetch::ensure(cache, &pins::DUCKDB, progress)
}

/// All parts, installing at once what is missing. Blocks; an installed set is found in milliseconds.
pub fn install(cache: &Cache, progress: &Progress) -> Result<Parts, PartError> {
    std::thread::scope(|scope| {
        let duckdb_lib = scope.spawn(|| duckdb(cache, progress));
        let duckdb_extensions = scope.spawn(|| fetch::ensure(cache, &pins::HTTPFS, progress));
        let kubectl = scope.spawn(|| built::kubectl(cache, progress));
        let anvil = scope.spawn(|| anvil(cache, progress));
        let ministack = scope.spawn(|| built::ministack(cache, progress));
        let control_plane = scope.spawn(|| built::control_plane(cache, progress));
        let postgres = scope.spawn(|| built::postgres(progress));
        Ok(Parts {
            duckdb_lib: joined(duckdb_lib)?,
            duckdb_extensions: joined(duckdb_extensions)?,
            kubectl: joined(kubectl)?,
            anvil: joined(anvil)?,
            ministack_python: joined(ministack)?,
            postgres_bin: joined(postgres)?,
            control_plane: joined(control_plane)?,
        })
    })
}

fn anvil(cache: &Cache, progress: &Progress) -> Result<PathBuf, PartError> {
    match fetch::ensure(cache, &pins::ANVIL, progress) {
        Ok(folder) => Ok(folder.join(pins::ANVIL.file)),
        Err(error @ PartError::NoPackage { .. }) => crate::paths::on_path("anvil").ok_or(error),
        Err(error) => Err(error),
    }
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub(crate) fn set_executable(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// The folder of Postgres' server programs, for who needs nothing else.
pub fn postgres(progress: &Progress) -> Result<PathBuf, PartError> {
    built::postgres(progress)
}

/// The major version of the Postgres in a folder.
pub fn postgres_major(bin: &Path) -> Option<u32> {
    built::postgres_major(bin)
}
