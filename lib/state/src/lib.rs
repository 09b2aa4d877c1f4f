//! All SQL of Dagwright's state database.
//!
//! **What is stored:** what the controller wants (pools, RPC pools, datasets, jobs, wants: [`desired`]), what the
//! dispatcher does about it (tasks, leases, attempts, outbox), and what came of it (versions, partitions and their
//! objects, events). **What is not:** blocks and rows, which lie in S3, and anything that the controller can read back from
//! Kubernetes or AWS.
//!
//! **Why Postgres:** a lease, a fence and a pointer swap have to be one transaction; nothing else here needs more.
//!
//! **Hot queries:** [`claim`], [`complete`] and the outbox window ([`outbox`]), which move sets and are run some dozens of times a
//! second; [`lease`] (every few seconds per worker). Each has an index made for it, and a golden plan in `tests/store/explain`.
//!
//! Functions take a `&mut PgConnection`; the caller owns the transaction. Each transition is one statement with its precondition in
//! the WHERE clause; what a row becomes is decided by `dagwright_core::task`. A missing row is `Ok(None)`.
#![warn(missing_docs)]

pub mod catalog;
pub mod claim;
pub mod complete;
mod connect;
pub mod cursor;
mod demand;
pub mod desired;
mod error;
pub mod finish;
pub mod follow;
pub mod gateway;
pub mod history;
pub mod launches;
pub mod lease;
mod migrate;
pub mod objects;
pub mod outbox;
pub mod plan;
pub mod pools;
mod rows;
pub mod serve;
pub mod singleton;
pub mod status;
mod task_rows;
pub mod tidy;
pub mod workers;

pub use connect::{begin, commit, connect, lane, listen, next_notification, ping};
pub use error::{Error, Result};
pub use migrate::migrate;
pub use task_rows::{Cause, Jitter};
