//! Two real controllers against a real API server, Postgres and AWS endpoint with IAM enforced.
#![expect(clippy::unwrap_used, reason = "a test panics with what went wrong")]

mod chain_sync;
mod dag;
mod dataset;
mod leader;
mod objects;
mod rpc_pool;
mod worker_pool;
mod world;
