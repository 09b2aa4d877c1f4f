//! What a user meets at the API server: admission, `kubectl explain`, columns, ownership, kstatus.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod admission;
mod columns;
mod examples;
mod explain;
mod fixtures;
mod kstatus;
mod ownership;
mod server;
