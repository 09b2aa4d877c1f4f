//! Tests on real blocks: what verifies, what every mutation does, what the files hold.

mod common;
mod fixtures;
mod mutation;
mod parquet;
