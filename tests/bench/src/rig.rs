//! What all benchmarks of one invocation share: a Postgres cluster, an SQS endpoint, and the limits of both.

use std::path::PathBuf;

use anyhow::Context as _;
use dagwright_cli::{
    parts::{self, Cache, Progress},
    paths,
};
use tokio::sync::OnceCell;

use crate::{load::Load, machine::Machine, options::Options, postgres::Postgres, sqs::Sqs};

/// The parts that are not ours.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) postgres: Postgres,
    pub(crate) sqs: Sqs,
    /// Holds the cluster and all logs; goes with the rig.
    pub(crate) dir: PathBuf,
    _guard: Option<tempfile::TempDir>,
}

/// Parts, limits, options.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) options: Options,
    pub(crate) parts: Parts,
    pub(crate) machine: Machine,
    /// Folder of the product's binaries.
    pub(crate) binaries: PathBuf,
    /// What B1 measured, once.
    pub(crate) b1: OnceCell<Vec<Load>>,
}

impl Rig {
    /// Starts the parts and measures their limits.
    pub(crate) async fn start(options: Options) -> anyhow::Result<Self> {
        let binaries = match &options.binaries {
            Some(dir) => dir.clone(),
            None => paths::program()?.parent().context("this program lies in a folder")?.to_owned(),
        };
        let parts = Parts::start(&options).await?;
        eprintln!("measuring the machine's limits");
        let machine = Machine::measure(&parts, &options).await?;
        eprintln!("{}", machine.text());
        Ok(Self { options, parts, machine, binaries, b1: OnceCell::new() })
    }
}

impl Rig {
    /// One of the product's programs.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }
}

impl Parts {
    async fn start(options: &Options) -> anyhow::Result<Self> {
        let (bin, endpoint) = tokio::task::spawn_blocking(|| {
            let cache = Cache::open(paths::cache_dir()?)?;
            let progress = Progress::to_stderr();
            anyhow::Ok((parts::postgres(&progress)?, parts::queue_endpoint(&cache, &progress)?))
        })
        .await
        .context("install the parts")??;
        let root = paths::data_root()?;
        std::fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&root);
        let folder = folder.with_context(|| format!("create a folder in {}", root.display()))?;
        open_to_all(folder.path())?;
        let dir = folder.path().to_owned();
        let guard = if options.keep {
            eprintln!("everything stays in {}", folder.keep().display());
            None
        } else {
            Some(folder)
        };
        let postgres = Postgres::start(&bin, &dir, options.statements).await?;
        let sqs = Sqs::start(&endpoint, &dir).await?;
        Ok(Self { postgres, sqs, dir, _guard: guard })
    }
}

/// Postgres may run as another user, who has to enter.
fn open_to_all(dir: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir, mode).with_context(|| format!("let everybody enter {}", dir.display()))
}
