//! `dagwright up|down|ps|env|logs`.

mod down;
mod env;
mod logs;
mod ps;
mod supervise;
mod up;

use std::path::PathBuf;

use clap::Args;

use crate::paths;

pub use down::{DownArgs, run as down};
pub use env::{EnvArgs, run as env, variables};
pub use logs::{LogsArgs, run as logs};
pub use ps::{PsArgs, run as ps};
pub use supervise::{SuperviseArgs, run as supervise};
pub use up::{UpArgs, run as up};

/// Which stack a command is about.
#[derive(Args, Clone, Debug)]
pub struct StackArgs {
    /// Name of the stack; several may run side by side.
    #[arg(long, env = "DAGWRIGHT_STACK", default_value = paths::DEFAULT_STACK, value_name = "NAME")]
    pub stack: String,

    /// Folder that holds the data of all stacks.
    #[arg(long, env = "DAGWRIGHT_HOME", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl StackArgs {
    /// The folder of the stack.
    pub fn dir(&self) -> anyhow::Result<PathBuf> {
        let root = match &self.data_dir {
            Some(root) => std::path::absolute(root)?,
            None => paths::data_root()?,
        };
        paths::stack_dir(&root, &self.stack)
    }
}
