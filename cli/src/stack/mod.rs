//! The local stack: the whole system on loopback, on real parts.
//!
//! A supervisor process owns every other process. The commands talk to it by two files in the stack's folder
//! (settings and status) and by signals: there is no control protocol to keep compatible.

pub mod commands;
pub mod first_light;
mod plan;
pub mod postgres;
mod process;
mod settings;
mod status;
mod supervisor;
mod sweep;
mod token;

pub use postgres::ensure_database;
pub use settings::{DATABASE_ROLES, Programs, REGION, Settings};
pub use status::{Phase, Probe, Process, Status};
pub use supervisor::{Extent, Stack};
pub use token::sign as sign_token;

pub(crate) use settings::write_private;
