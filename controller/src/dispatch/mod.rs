//! The dispatcher: the task API that workers call, and the loops that plan, follow, scale, publish and repair.
//!
//! Any number of replicas run side by side. Nothing is kept in memory that Postgres does not hold: a replica that dies loses waiting
//! requests and nothing else. Loops lock rows (`SKIP LOCKED`) or, where two would only double calls to others, hold a
//! [`dagwright_state::singleton::Singleton`].

mod api;
mod config;
mod context;
mod hints;
mod loops;
mod serve;
mod wake;

pub use api::router;
pub use config::Args;
pub use context::Dispatcher;
pub use serve::{background, run};
pub use wake::Wakes;
