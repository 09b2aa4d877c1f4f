//! Tests on real blocks: what verifies, what every mutation does, what the files hold.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails by panicking")]

mod common;
mod fixtures;
mod mutation;
mod parquet;
mod profiles;
